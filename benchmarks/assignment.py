"""Time relabelling of 36 particles against SciPy: ``python -m benchmarks.assignment``.

CPU time per configuration on one thread; permutations are compared before anything is timed.
"near" and "far" are a grid displaced by normal numbers of that width, "liquid" is the solvent of
the particle dimer after equilibration, relative to one of its own configurations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from benchmarks import timing
from bgfast.energies import ParticleDimer
from bgfast.ops import assign
from bgfast.sampling import MetropolisSampler

N_BGFAST, N_SCIPY = 20_000, 1_000


def with_scipy(x: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.array([linear_sum_assignment(cdist(reference, row, "sqeuclidean"))[1] for row in x])


def inputs() -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    rng = np.random.default_rng(0)
    axis = np.linspace(-2.7, 2.7, 6)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(36, 2)
    cases = {
        f"{name} {width}": (grid + width * rng.standard_normal((N_BGFAST, 36, 2)), grid)
        for name, width in (("near", 0.1), ("near", 0.3), ("far", 0.6))
    }
    dimer = ParticleDimer()
    start = np.tile(dimer.lattice_configuration(1.0).numpy(), (20, 1))
    sampler = MetropolisSampler(dimer, start, step=0.2)
    sampler.run(2000, 2000)
    liquid = sampler.run(N_BGFAST, 20).x.reshape(-1, 38, 2)[:, 2:]
    cases["liquid"] = (liquid, liquid[0])
    return cases


def measure(repeats: int) -> list[dict[str, Any]]:
    rows = []
    for name, (x, reference) in inputs().items():
        few = x[:: len(x) // N_SCIPY][:N_SCIPY]
        many, target = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(reference.copy())
        ours = assign(torch.from_numpy(few.copy()), target)
        if not np.array_equal(ours, with_scipy(few, reference)):
            raise AssertionError(f"permutations differ from SciPy's on {name!r}")
        results = timing.interleaved(
            [
                lambda few=few, reference=reference: with_scipy(few, reference),
                lambda many=many, target=target: assign(many, target),
            ],
            repeats,
        )
        baseline = results[0][1] / len(few)
        for code, n, (q1, median, q3) in (
            ("scipy + cdist", len(few), results[0]),
            ("bgfast.ops.assign", len(many), results[1]),
        ):
            rows.append(
                {
                    "input": name,
                    "code": code,
                    "us/configuration": median / n * 1e6,
                    "q1": q1 / n * 1e6,
                    "q3": q3 / n * 1e6,
                    "speedup": baseline / (median / n),
                }
            )
    return rows


if __name__ == "__main__":
    timing.run("Linear assignment of 36 particles in 2-D, one thread", measure)
