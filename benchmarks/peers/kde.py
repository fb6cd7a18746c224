"""Log density of n points at themselves by a Gaussian kernel in one dimension, with gradient.

The gradient is that of the mean log density in all points. Codes without it are listed for their
density, which they find on a grid or by direct sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.question import Answer, Case, Contender, Question
from bgfast.ops import kde_log_density

BANDWIDTH = 0.1
MOST_PAIRS = 10_000
"""Direct sums over more points take seconds, n x n matrices tens of gigabytes."""


def cases(quick: bool) -> Iterator[Case]:
    for n in (200,) if quick else (1_000, 10_000, 100_000):
        points = torch.from_numpy(np.random.default_rng(0).standard_normal(n))
        expected = reference(points)
        yield Case(f"n = {n:,}", 1, expected, 1e-3, contenders(points))


def reference(points: Tensor) -> tuple[Tensor, ...]:
    """Direct float64 sums; above MOST_PAIRS points the density alone, at every 500th of them."""
    if len(points) <= MOST_PAIRS:
        return with_gradient(points, lambda x: kde_log_density(x, BANDWIDTH, backend="torch"))
    some = points[checked(points)]
    return (kde_log_density(points, BANDWIDTH, query=some, backend="torch"),)


def checked(points: Tensor) -> slice:
    return slice(None, None, 500 if len(points) > MOST_PAIRS else 1)


def with_gradient(points: Tensor, log_density: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    x = points.detach().requires_grad_()
    log_p = log_density(x)
    return log_p.detach(), torch.autograd.grad(log_p.mean(), x)[0]


def contenders(points: Tensor) -> list[Contender]:
    x = points.numpy()
    direct = len(points) <= MOST_PAIRS
    log_norm = float(np.log(len(x) * BANDWIDTH * np.sqrt(2 * np.pi)))

    def answer(call: Callable[[], Any]) -> Answer:
        def check() -> list[Any]:
            found = call()
            found = found if isinstance(found, tuple) else (found,)
            if direct:
                return list(found)
            return [np.asarray(found[0])[checked(points)]]

        return Answer(call, check)

    def ours() -> Answer:
        return answer(lambda: with_gradient(points, lambda q: kde_log_density(q, BANDWIDTH)))

    def torch_log_density(q: Tensor) -> Tensor:
        u = (q[:, None] - q) / BANDWIDTH
        return torch.logsumexp(-0.5 * u * u, dim=1) - log_norm

    def eager() -> Answer:
        single = points.float()
        return answer(lambda: with_gradient(single, torch_log_density))

    def compiled() -> Answer:
        single, log_density = points.float(), torch.compile(torch_log_density, dynamic=False)
        return answer(lambda: with_gradient(single, log_density))

    def jax() -> Answer:
        import jax
        from jax.scipy.special import logsumexp

        def mean_log_density(q: Any) -> Any:
            u = (q[:, None] - q) / BANDWIDTH
            log_p = logsumexp(-0.5 * u * u, axis=1) - log_norm
            return log_p.mean(), log_p

        both = jax.jit(jax.value_and_grad(mean_log_density, has_aux=True))
        single = jax.numpy.asarray(x, dtype="float32")

        def call() -> tuple[Any, Any]:
            (_, log_p), gradient = jax.block_until_ready(both(single))
            return log_p, gradient

        return answer(call)

    def keops() -> Answer:
        from pykeops.torch import LazyTensor

        def log_density(q: Tensor) -> Tensor:
            i, j = LazyTensor(q[:, None, None]), LazyTensor(q[None, :, None])
            exponent = ((i - j) ** 2).sum(-1) * (-0.5 / BANDWIDTH**2)
            return exponent.logsumexp(dim=1).view(-1) - log_norm

        single = points.float()
        return answer(lambda: with_gradient(single, log_density))

    def kdepy() -> Answer:
        from KDEpy import FFTKDE

        def call() -> Any:
            grid, density = FFTKDE(bw=BANDWIDTH).fit(x).evaluate(2**12)
            return np.log(np.interp(x, grid, density))

        return answer(call)

    def scipy() -> Answer:
        from scipy.stats import gaussian_kde

        kernel = gaussian_kde(x, bw_method=BANDWIDTH / x.std(ddof=1))
        return answer(lambda: kernel.logpdf(x))

    found = [Contender("bgfast", ours), Contender("KDEpy FFTKDE (no gradient)", kdepy)]
    if direct:
        found += [
            Contender("KeOps, float32", keops),
            Contender("JAX, jit, n x n, float32", jax),
            Contender("torch.compile, n x n, float32", compiled),
            Contender("torch eager, n x n, float32", eager),
            Contender("SciPy gaussian_kde (no gradient)", scipy),
        ]
    return found


QUESTION = Question(
    f"Kernel density of n normal points with gradient, bandwidth {BANDWIDTH}",
    "ms",
    cases,
    notes=("an item is one evaluation of all points",),
    peers=("jax", "pykeops", "KDEpy"),
)
