"""Time Metropolis sampling of the dimer against plain NumPy: ``python -m benchmarks.samplers``.

CPU time on one thread, 38 particles, float64. The NumPy codes advance one walker in a Python loop
over steps. "NumPy, matrix" takes all N x N pairs and masks what does not count, as the code
published with the paper does; "NumPy, pair list" is the same with every pair once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import timing
from bgfast.energies import ParticleDimer
from bgfast.sampling import MetropolisSampler

N_WALKERS = 8
STEP = {"all": 0.02, "particle": 0.2}
PAIRS = np.triu_indices(38, 1)
COUNTS = 1.0 - np.eye(38)
COUNTS[0, 1] = COUNTS[1, 0] = 0.0

Array = NDArray[np.float64]


def outside_energy(x: Array) -> float:
    """Everything but the pairs, of ``x[38, 2]``."""
    d = np.sqrt(np.sum((x[0] - x[1]) ** 2)) - 1.5
    restraint = 20.0 * ((x[0, 0] + x[1, 0]) ** 2 + x[0, 1] ** 2 + x[1, 1] ** 2)
    out = np.maximum(np.abs(x) - 3.0, 0.0)
    return float(restraint + 160.0 * d**4 - 100.0 * d**2 - d + 100.0 * np.sum(out**2))


def matrix_energy(x: Array) -> float:
    r2 = np.sum((x[:, None] - x[None, :]) ** 2, axis=-1) + (1.0 - COUNTS)
    return outside_energy(x) + 0.5 * float(np.sum((COUNTS * 1.21 / r2) ** 6))


def energy(x: Array) -> float:
    r2 = np.sum((x[PAIRS[0][1:]] - x[PAIRS[1][1:]]) ** 2, axis=1)  # without the dimer's own pair
    return outside_energy(x) + float(np.sum((1.21 / r2) ** 6))


def energy_of_one(x: Array, i: int) -> float:
    r2 = np.sum((x - x[i]) ** 2, axis=1)
    r2[i] = np.inf
    if i < 2:
        r2[1 - i] = np.inf
    return outside_energy(x) + float(np.sum((1.21 / r2) ** 6))


def numpy_all(x: Array, n_steps: int, energy: Callable[[Array], float]) -> None:
    rng = np.random.default_rng(0)
    u = energy(x)
    for _ in range(n_steps):
        trial = x + STEP["all"] * rng.standard_normal(x.shape)
        u_trial = energy(trial)
        if rng.random() < np.exp(min(u - u_trial, 0.0)):
            x, u = trial, u_trial


def numpy_particle(x: Array, n_sweeps: int) -> None:
    rng = np.random.default_rng(0)
    x = x.copy()
    for _ in range(n_sweeps):
        for i in range(len(x)):
            before, u = x[i].copy(), energy_of_one(x, i)
            x[i] += STEP["particle"] * rng.uniform(-1.0, 1.0, 2)
            if rng.random() >= np.exp(min(u - energy_of_one(x, i), 0.0)):
                x[i] = before


def sampler(moves: str) -> MetropolisSampler:
    dimer = ParticleDimer()
    start = np.tile(dimer.lattice_configuration(1.0).numpy(), (N_WALKERS, 1))
    result = MetropolisSampler(dimer, start, step=STEP["particle"])
    result.run(1000, 1000)
    return MetropolisSampler(dimer, result.walkers.x, step=STEP[moves], moves=moves)


def measure(repeats: int) -> list[dict[str, Any]]:
    return [
        *compare(
            "all",
            {
                "NumPy, matrix": lambda x, n: numpy_all(x, n, matrix_energy),
                "NumPy, pair list": lambda x, n: numpy_all(x, n, energy),
            },
            n_numpy=500,
            n_bgfast=20_000,
            proposals=1,
            repeats=repeats,
        ),
        *compare("particle", {"NumPy": numpy_particle}, 20, 1000, 38, repeats),
    ]


def compare(
    moves: str,
    codes: dict[str, Callable[[Array, int], None]],
    n_numpy: int,
    n_bgfast: int,
    proposals: int,
    repeats: int,
) -> list[dict[str, Any]]:
    """Time codes that take (start, number of steps) and our sampler; ``proposals`` per step."""
    ours = sampler(moves)
    x = ours.walkers.x[0].reshape(38, 2).copy()
    for value in (energy(x), matrix_energy(x)):
        if not np.isclose(value, ours.walkers.u[0], rtol=1e-12):
            raise AssertionError("energies differ")
    calls: list[Callable[[], Any]] = [lambda f=f: f(x, n_numpy) for f in codes.values()]
    results = timing.interleaved(
        [*calls, lambda: ours.run(n_bgfast, n_bgfast // 10)],
        repeats,
    )
    steps = [n_numpy] * len(codes) + [n_bgfast * N_WALKERS]
    baseline = results[0][1] / steps[0]
    return [
        {
            "moves": moves,
            "code": code,
            "proposals/s": n * proposals / median,
            "ns/proposal": median / (n * proposals) * 1e9,
            "q1": q1 / (n * proposals) * 1e9,
            "q3": q3 / (n * proposals) * 1e9,
            "speedup": baseline / (median / n),
        }
        for code, n, (q1, median, q3) in zip([*codes, "bgfast"], steps, results, strict=True)
    ]


if __name__ == "__main__":
    timing.run("Metropolis sampling of the dimer, 38 particles, one thread", measure)
