"""Relabel 36 identical particles in two dimensions: the permutation of least squared distance."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.question import Answer, Case, Contender, Question
from bgfast.ops import assign

N_SCIPY = 1000


def grid() -> NDArray[np.float64]:
    axis = np.linspace(-2.7, 2.7, 6)
    return np.stack(np.meshgrid(axis, axis), -1).reshape(36, 2)


def with_scipy(x: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return np.array([linear_sum_assignment(cdist(reference, row, "sqeuclidean"))[1] for row in x])


def with_lapx(x: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.int64]:
    import lap
    from scipy.spatial.distance import cdist

    return np.array([lap.lapjv(cdist(reference, row, "sqeuclidean"))[1] for row in x])


def cases(quick: bool) -> Iterator[Case]:
    n, few = (200, 50) if quick else (100_000, N_SCIPY)
    reference = grid()
    for name, width in (("near", 0.3), ("far", 0.6)):
        x = reference + width * np.random.default_rng(0).standard_normal((n, 36, 2))
        expected = (with_scipy(x[:few], reference),)
        label = f"{name}, grid with noise {width}, {n:,} frames"
        yield Case(label, n, expected, 0.0, contenders(x, x[:few], reference))


def contenders(
    x: NDArray[np.float64], few: NDArray[np.float64], reference: NDArray[np.float64]
) -> list[Contender]:
    def ours() -> Answer:
        many, target = torch.from_numpy(x), torch.from_numpy(reference)
        return Answer(lambda: assign(many, target), lambda: assign(many[: len(few)], target))

    def scipy() -> Answer:
        return Answer(lambda: with_scipy(few, reference), n=len(few))

    def lapx() -> Answer:
        return Answer(lambda: with_lapx(few, reference), n=len(few))

    return [
        Contender("bgfast", ours),
        Contender("SciPy, linear_sum_assignment + cdist", scipy),
        Contender("lapx, lapjv + cdist", lapx),
    ]


QUESTION = Question(
    "Relabelling of 36 particles (linear assignment), permutations identical to SciPy's",
    "us",
    cases,
    notes=(f"SciPy and lapx, one frame at a time on one thread, are given {N_SCIPY:,} frames",),
    peers=("lapx",),
)
