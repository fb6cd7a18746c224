"""The rational-quadratic spline in plain torch: any device and dtype, any derivative.

Written from Durkan et al., arXiv:1906.04032, section 3 and appendix A, independently of the
kernels.
"""

from __future__ import annotations

import torch
from bgfast_kernels.coupling.spline_parameters import MIN_BIN, MIN_SLOPE, S_CAP, SHIFT
from torch import Tensor
from torch.nn import functional


def reference_spline(
    x: Tensor, raw: Tensor, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Return values ``[..., m]`` and log-determinants ``[...]``; see :func:`bgfast.ops.spline`."""
    knots = _knots(raw.movedim(-2, -1), bound)
    outside = x.abs() > bound
    inside = torch.where(outside, 0.0, x)
    value, log_slope = (_backward if inverse else _forward)(inside, *knots)
    value = torch.where(outside, x, value)
    return value, torch.where(outside, 0.0, log_slope).sum(-1)


def _knots(raw: Tensor, bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return x and y of the K + 1 knots, and the slopes there, each ``[..., m, K + 1]``."""
    n_bins = (raw.shape[-1] + 1) // 3
    widths, heights, slopes = torch.split(raw, [n_bins, n_bins, n_bins - 1], -1)
    slopes = MIN_SLOPE + functional.softplus((slopes + SHIFT).clamp(max=S_CAP))
    return _edges(widths, bound), _edges(heights, bound), functional.pad(slopes, (1, 1), value=1.0)


def _edges(raw: Tensor, bound: float) -> Tensor:
    shares = MIN_BIN + (1 - MIN_BIN * raw.shape[-1]) * raw.softmax(-1)
    return functional.pad(2 * bound * shares.cumsum(-1), (1, 0)) - bound


def _forward(x: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    k = _bin(x, xs)
    (x_k, w), (y_k, h), (d0, d1) = _ends(xs, k), _ends(ys, k), _at(slopes, k)
    s, t = h / w, (x - x_k) / w
    denominator = s + (d1 + d0 - 2 * s) * t * (1 - t)
    y = y_k + h * (s * t**2 + d0 * t * (1 - t)) / denominator
    return y, _log_slope(s, t, d0, d1)


def _backward(y: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    k = _bin(y, ys)
    (x_k, w), (y_k, h), (d0, d1) = _ends(xs, k), _ends(ys, k), _at(slopes, k)
    s, rise = h / w, y - y_k
    bend = d1 + d0 - 2 * s
    a = h * (s - d0) + rise * bend
    b = h * d0 - rise * bend
    c = -s * rise
    root = (b**2 - 4 * a * c).sqrt()
    # Both are the same root; each subtracts nearly equal numbers where the other does not.
    safe_a = torch.where(b < 0, a, 1.0)
    t = torch.where(b < 0, (root - b) / (2 * safe_a), -2 * c / (b.abs() + root))
    return x_k + w * t, -_log_slope(s, t, d0, d1)


def _log_slope(s: Tensor, t: Tensor, d0: Tensor, d1: Tensor) -> Tensor:
    denominator = s + (d1 + d0 - 2 * s) * t * (1 - t)
    numerator = d1 * t**2 + 2 * s * t * (1 - t) + d0 * (1 - t) ** 2
    return 2 * s.log() + numerator.log() - 2 * denominator.log()


def _bin(value: Tensor, edges: Tensor) -> Tensor:
    """Return the number of the bin, ``[..., m, 1]``: how many inner knots are not above it."""
    return (edges[..., 1:-1] <= value.unsqueeze(-1)).sum(-1, keepdim=True)


def _at(knots: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    left, right = knots.gather(-1, k), knots.gather(-1, k + 1)
    return left.squeeze(-1), right.squeeze(-1)


def _ends(edges: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    left, right = _at(edges, k)
    return left, right - left
