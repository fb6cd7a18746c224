"""Time the 1-D kernel density with gradient: ``python -m benchmarks.kde``.

CPU time on one thread for the log density at n normal points (their own kernels included), for
three bandwidths given as a share of the range. "kernel" is one pass of the numba kernel: density
and its slope at every point. The others are the torch op with the full gradient of the mean log
density in all points, by the kernels, reflected at bounds too, and by direct sums. "error" is the
largest of the relative error of p and the error of the gradient relative to its largest element,
against direct float64 sums; for more points than direct sums are made for, at some of the points,
the gradient being that of one kernel pass, d log p / dq. (Reflected with a bandwidth above half the
range, the backends share one cosine series: no error to see.) Direct sums cost the same for every
bandwidth; more than 1,000 points are timed with one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bgfast_kernels.kde.transform import gauss_transform
from torch import Tensor

from benchmarks import timing
from bgfast.ops import kde_log_density

SIZES = (1_000, 10_000, 100_000)
MOST_DIRECT = 10_000
SHARES = (0.001, 0.1, 10.0)
N_CHECKED = 500


def with_gradient(points: Tensor, bandwidth: float, **options: Any) -> tuple[Tensor, Tensor]:
    x = points.detach().requires_grad_()
    log_p = kde_log_density(x, bandwidth, **options)
    (gradient,) = torch.autograd.grad(log_p.mean(), x)
    return log_p.detach(), gradient


def torch_eager(points: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Form the n x n matrix as one writes it, in float32 (half the memory), and differentiate."""
    x = points.detach().float().requires_grad_()
    u = (x[:, None] - x) / bandwidth
    log_norm = np.log(len(x) * bandwidth * np.sqrt(2 * np.pi))
    log_p = torch.logsumexp(-0.5 * u * u, dim=1) - log_norm
    (gradient,) = torch.autograd.grad(log_p.mean(), x)
    return log_p.detach().double(), gradient.double()


def kernel(points: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Log density and d log p / dq from one kernel pass."""
    x = points.numpy()
    share = np.full(len(x), 1 / len(x))
    sums, slopes, scale = gauss_transform(x, x, share, bandwidth)
    log_p = np.log(sums) - scale - np.log(bandwidth * np.sqrt(2 * np.pi))
    return torch.from_numpy(log_p), torch.from_numpy(slopes / (bandwidth * sums))


def at_some_points(points: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
    """Log density and d log p / dq at some of the points by direct sums."""
    q = points[:: len(points) // N_CHECKED].clone().requires_grad_()
    log_p = kde_log_density(points, bandwidth, query=q, backend="torch")
    (slope,) = torch.autograd.grad(log_p.sum(), q)
    return log_p.detach(), slope


def error(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> float:
    density = (found[0] - expected[0]).expm1().abs().max()
    gradient = (found[1] - expected[1]).abs().max() / expected[1].abs().max()
    return float(torch.maximum(density, gradient))


def codes(points: Tensor, share: float) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    bandwidth = share * float(points.max() - points.min())
    bounds = (float(points.min()), float(points.max()))
    found = {
        "numba kernel, one pass": lambda: kernel(points, bandwidth),
        "bgfast.ops": lambda: with_gradient(points, bandwidth),
        "bgfast.ops, bounds": lambda: with_gradient(points, bandwidth, bounds=bounds),
    }
    if len(points) <= SIZES[0] or (len(points) <= MOST_DIRECT and share == SHARES[1]):
        found["direct (torch backend)"] = lambda: with_gradient(points, bandwidth, backend="torch")
        found["torch eager, float32"] = lambda: torch_eager(points, bandwidth)
    return found


def errors(points: Tensor, share: float, names: list[str]) -> dict[str, float]:
    bandwidth = share * float(points.max() - points.min())
    some = slice(None, None, len(points) // N_CHECKED)
    found = kernel(points, bandwidth)
    expected = at_some_points(points, bandwidth)
    result = {"numba kernel, one pass": error((found[0][some], found[1][some]), expected)}
    if len(points) <= MOST_DIRECT:
        calls = codes(points, share)
        bounds = (float(points.min()), float(points.max()))
        direct = with_gradient(points, bandwidth, backend="torch")
        reflected = with_gradient(points, bandwidth, bounds=bounds, backend="torch")
        for name in names[1:]:
            result[name] = error(calls[name](), reflected if "bounds" in name else direct)
    return result


def measure(repeats: int) -> list[dict[str, Any]]:
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    for n in SIZES:
        points = torch.from_numpy(np.random.default_rng(0).standard_normal(n))
        for share in SHARES:
            calls = codes(points, share)
            found = errors(points, share, list(calls))
            # Apart: the n x n matrices would leave caches and the allocator cold for the others.
            fast, slow = list(calls.values())[:3], list(calls.values())[3:]
            times = timing.interleaved(fast, repeats) + timing.interleaved(slow, repeats)
            for name, (q1, median, q3) in zip(calls, times, strict=True):
                rows.append(
                    {
                        "n": n,
                        "bandwidth / range": share,
                        "code": name,
                        "ms": median * 1e3,
                        "q1": q1 * 1e3,
                        "q3": q3 * 1e3,
                        "error": found.get(name, "-"),
                    }
                )
    torch.set_num_threads(torch_threads)
    return rows


if __name__ == "__main__":
    timing.run("Kernel density of n points with gradient, float64, one thread", measure)
