"""Log density of weighted points on a line, with derivatives, in O(n)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from bgfast_kernels.kde.extremes import extent
from torch import Tensor

from bgfast.ops.backend import select_backend
from bgfast.ops.gauss_transform import gauss_transform
from bgfast.ops.kde_reference import log_gauss_sum
from bgfast.ops.library import define
from bgfast.ops.registry import TorchOp, register

_VANISHED = 8.85  # exp(-x^2 / 2) is below 1e-17 beyond


def kde_log_density(
    points: Tensor,
    bandwidth: float,
    weights: Tensor | None = None,
    query: Tensor | None = None,
    bounds: tuple[float, float] | None = None,
    backend: str | None = None,
) -> Tensor:
    """Return the log of a Gaussian kernel density, ``log sum_j w_j N(q; r_j, h^2) / sum_j w_j``.

    The cost is O(n + m); all arithmetic is float64.

    Parameters
    ----------
    points
        Positions r of the kernels, shape [n], n >= 1, float32 or float64.
    bandwidth
        Standard deviation h of each kernel, in the units of the points; not differentiated.
    weights
        Weights w >= 0, shape [n], not all zero; default: equal.
    query
        Where to evaluate, shape [m]; default: at the points, each one's own kernel included.
    bounds
        ``(lo, hi)``: points and queries lie within, and the kernels are reflected at both ends as
        often as it takes for the density to integrate to 1 over [lo, hi]. Bounds are rounded to
        the dtype of the points.
    backend
        ``"torch"`` (direct sums, O(n m)), ``"numba"``, ``"cuda"``, or ``None``: by the tensor.

    Returns
    -------
    Tensor
        log p, shape [m] or [n], dtype of ``points``; twice differentiable in points, weights and
        query. Relative error of p below 1e-8 however small p is, or that of rounding log p. Finite
        for all finite arguments: what is below the range of the dtype is set to its lowest number.

    Raises
    ------
    TypeError
        If ``points``, ``weights`` or ``query`` is not a float32 or float64 tensor, or they differ
        in dtype or device, or ``bandwidth`` is not a number.
    ValueError
        (On a CUDA device bad values, known only there, give NaN instead.)
        If a shape does not match, there are no points, the bandwidth is not positive and finite,
        the bounds are not ordered, a point or query is outside of them or not finite, or weights
        are negative, not finite or all zero.
    bgfast.ops.BackendError
        If the backend asked for cannot serve the points.
    """
    _check(points, bandwidth, weights, query)
    chosen = select_backend("kde", points, backend)
    p = points.double()
    q = None if query is None else query.double()
    h = float(bandwidth)
    if weights is None:
        share = torch.full_like(p, 1 / len(p))
    else:
        w = weights.double()
        share = w / w.sum()
    if bounds is None:
        log_p = _log_density(chosen, q, p, share, h, [])
    else:
        lo, hi = _bounds(bounds, points.dtype)
        zero = torch.ops.bgfast.check_inside(p.detach(), lo, hi, "points")
        if q is not None:
            zero = zero + torch.ops.bgfast.check_inside(q.detach(), lo, hi, "query")
        if 2 * h > hi - lo:
            # Hundreds of images would matter; the Fourier series has a handful of terms.
            log_p = zero + _log_cosine_series(p if q is None else q, p, share, h, lo, hi)
        else:
            log_p = zero + _log_density(chosen, q, p, share, h, [lo, hi])
    if points.dtype == torch.float32:
        log_p = log_p.clamp(min=torch.finfo(torch.float32).min).float()
    return log_p


def _log_density(
    backend: str, q: Tensor | None, p: Tensor, share: Tensor, h: float, bounds: list[float]
) -> Tensor:
    log_norm = math.log(h * math.sqrt(2 * math.pi))
    if backend == "torch":
        return log_gauss_sum(q, p, share, h, bounds) - log_norm
    sums, _, scale = gauss_transform(q, p, share, None, True, h, 0, bounds, 1)
    return sums.log().sub_(scale).sub_(log_norm)


def silverman_bandwidth(points: Tensor, weights: Tensor | None = None) -> float:
    """Return Silverman's rule of thumb, ``0.9 min(std, IQR / 1.349) n^(-1/5)``.

    Parameters
    ----------
    points
        Shape [n], n >= 2, finite and not all equal.
    weights
        Weights >= 0, shape [n]; n is then Kish's effective number, (sum w)^2 / sum w^2.

    Returns
    -------
    float
        A bandwidth in the units of the points; it has no derivative.

    Raises
    ------
    TypeError, ValueError
        As :func:`kde_log_density`; and if the points (of positive weight) are all equal.

    References
    ----------
    Silverman, Density Estimation for Statistics and Data Analysis (1986), eq. 3.31.
    """
    _check(points, 1.0, weights, None)
    x = points.detach().cpu().double().numpy()
    w = np.ones_like(x) if weights is None else weights.detach().cpu().double().numpy()
    if not np.isfinite(x).all():
        raise ValueError("points must be finite; leave out rows that are not")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise ValueError("weights must be finite and >= 0 with a positive sum")
    w = w / w.sum()
    order = np.argsort(x, kind="stable")
    x, w = x[order], w[order]
    spread = float(np.sqrt(w @ (x - w @ x) ** 2))
    # Each point sits in the middle of its share of the weight.
    lower, upper = np.interp([0.25, 0.75], np.cumsum(w) - 0.5 * w, x)
    used = x[w > 0]
    if used[0] == used[-1]:
        raise ValueError("points must not all be equal: give a bandwidth instead")
    if upper > lower:
        spread = min(spread, float(upper - lower) / 1.349)
    return 0.9 * spread * math.pow(w @ w, 0.2)


def _check(points: Tensor, bandwidth: float, weights: Tensor | None, query: Tensor | None) -> None:
    for name, x in (("points", points), ("weights", weights), ("query", query)):
        if x is None and name != "points":
            continue
        if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be a float32 or float64 tensor, got {got}")
        if (x.dtype, x.device) != (points.dtype, points.device):
            raise TypeError(
                f"{name} must be like points, {points.dtype} on {points.device}, "
                f"got {x.dtype} on {x.device}"
            )
        if x.ndim != 1:
            raise ValueError(f"{name} must have one dimension, got shape {list(x.shape)}")
    if points.shape[0] == 0:
        raise ValueError("points must hold at least one point, got none")
    if weights is not None and weights.shape != points.shape:
        raise ValueError(
            f"weights must have the shape of points, {list(points.shape)}, "
            f"got {list(weights.shape)}"
        )
    if isinstance(bandwidth, bool) or not isinstance(bandwidth, (int, float)):
        raise TypeError(f"bandwidth must be a number, got {type(bandwidth).__name__}")
    if not 1e-300 <= bandwidth <= 1e300:
        raise ValueError(f"bandwidth must be positive and finite, got {bandwidth}")


def _bounds(bounds: tuple[float, float], dtype: torch.dtype) -> tuple[float, float]:
    lo, hi = (float(b) for b in bounds)
    if dtype == torch.float32:
        lo, hi = float(np.float32(lo)), float(np.float32(hi))
    if not -math.inf < lo < hi < math.inf:
        raise ValueError(f"bounds must be finite numbers (lo, hi) with lo < hi, got {bounds}")
    return lo, hi


def _log_cosine_series(
    q: Tensor, p: Tensor, share: Tensor, h: float, lo: float, hi: float
) -> Tensor:
    """Return the log of the reflected density for h > (hi - lo) / 2, all images summed."""
    length = hi - lo
    n_terms = math.ceil(_VANISHED * length / (math.pi * h))
    m = math.pi / length * torch.arange(1, n_terms + 1, dtype=p.dtype, device=p.device)[:, None]
    amplitude = (torch.cos(m * (p - lo)) * share).sum(dim=1, keepdim=True)
    series = torch.exp(-0.5 * (m * h) ** 2) * amplitude * torch.cos(m * (q - lo))
    return torch.log1p(2 * series.sum(dim=0)) - math.log(length)


# Whether values lie within bounds is known only when the op runs: a compiled graph cannot ask. So
# the check is an op; it returns a zero to be added, which keeps it from being optimised away.


def _check_inside(x: Tensor, lo: float, hi: float, name: str) -> Tensor:
    if x.is_cuda:  # nobody waits for the device: what the CPU refuses is NaN here
        extremes = x.aminmax()
        inside = (extremes.min >= lo) & (extremes.max <= hi)
        return torch.where(inside, 0.0, torch.nan).to(x.dtype)
    if x.numel():
        numbers = x.double().numpy(force=True)
        least, most = extent(numbers)
        if not (lo <= least and most <= hi):  # true for NaN
            least, most = numbers.min(), numbers.max()
            raise ValueError(
                f"{name} must lie within the bounds [{lo}, {hi}], got values from {least} to {most}"
            )
    return x.new_zeros(())


def _check_inside_fake(x: Tensor, lo: float, hi: float, name: str) -> Tensor:
    return x.new_empty(())


def _check_inside_vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> Any:
    return torch.ops.bgfast.check_inside(*arguments), None


def _define_op() -> Any:
    api: Any = torch.library
    library = define("check_inside(Tensor x, float lo, float hi, str name) -> Tensor")
    library.impl("check_inside", _check_inside, "CompositeExplicitAutograd")
    api.register_fake("bgfast::check_inside", _check_inside_fake, lib=library)
    api.register_vmap("bgfast::check_inside", _check_inside_vmap, lib=library)
    return library


_LIBRARY = _define_op()  # the op lives as long as it does


def _raw_calls(
    points: Tensor, bandwidth: float, weights: Tensor | None = None, query: Tensor | None = None
) -> list[tuple[Any, tuple[Any, ...]]]:
    p = points.detach().double()
    q = p.flip(0)
    c = torch.full_like(p, 1 / len(p))
    op = torch.ops.bgfast.gauss_transform.default
    return [
        (op, (q, p, c, None, True, bandwidth, 0, [], 1)),
        (op, (None, p, c, torch.zeros_like(p), False, bandwidth, 1, [], -1)),
        (torch.ops.bgfast.check_inside.default, (p, -1e9, 1e9, "points")),
    ]


def _reference(
    points: Tensor,
    bandwidth: float,
    weights: Tensor | None = None,
    query: Tensor | None = None,
    bounds: tuple[float, float] | None = None,
) -> Tensor:
    return kde_log_density(points, bandwidth, weights, query, bounds, backend="torch")


register(
    TorchOp(
        "kde",
        kde_log_density,
        reference=_reference,
        differentiable=("points", "weights"),
        rowwise=False,
        raw_calls=_raw_calls,
    )
)
