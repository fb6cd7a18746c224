"""The kernel density in plain torch, O(n m) in chunks: what the kernels are held against."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_CHUNK_PAIRS = 2**22
_U_MAX = 1e75  # as in the kernels: u^2 stays finite
_EXPONENT_MAX = 700.0
_VANISHED = 10.0  # exp(-x^2 / 2) is below 1e-21 beyond


def log_gauss_sum(
    query: Tensor | None,
    points: Tensor,
    weights: Tensor,
    bandwidth: float,
    bounds: list[float],
) -> Tensor:
    """Return ``log sum_j w_j exp(-(q_i - p_j)^2 / (2 h^2))``, differentiable to any order.

    Parameters
    ----------
    query, points, weights
        Shapes [m], [n], [n]; float64, weights >= 0 with a positive sum. No query means the points.
    bandwidth
        h > 0.
    bounds
        Empty, or the two walls at which the points are reflected.

    Returns
    -------
    Tensor
        Shape [m] or [n], finite for all finite arguments (up to the range of float64).

    Raises
    ------
    ValueError
        If an argument is not finite, or if weights are negative or all zero.
    """
    query = points if query is None else query
    for name, values in (("points", points), ("query", query), ("weights", weights)):
        if not bool(values.isfinite().all()):
            raise ValueError(f"{name} must be finite; leave out rows that are not")
    if bool((weights < 0).any()) or not bool((weights > 0).any()):
        raise ValueError("weights must be >= 0 with a positive sum")
    if bounds:
        points, weights = _images(points, weights, bandwidth, *bounds)
    rows = max(1, _CHUNK_PAIRS // len(points))
    if len(query) <= rows:
        return _log_sum(query, points, weights, bandwidth)
    # Each chunk is computed again for its derivative instead of being kept.
    chunks = [
        checkpoint(_log_sum, q, points, weights, bandwidth, use_reentrant=False)
        for q in torch.split(query, rows)
    ]
    return torch.cat(chunks)


def _images(p: Tensor, w: Tensor, h: float, lo: float, hi: float) -> tuple[Tensor, Tensor]:
    """Return the points and all images that can matter anywhere within the bounds, and weights."""
    length = hi - lo
    images = [p]
    # Image k is |k| - 1 lengths away or more; a point can be one length away, or nearer.
    for k in range(1, math.ceil(math.hypot(1, _VANISHED * h / length)) + 1):
        for shift in (k * length, -k * length):
            images.append(p + shift if k % 2 == 0 else lo + hi + shift - p)
    return torch.cat(images), w.repeat(len(images))


def _log_sum(query: Tensor, points: Tensor, weights: Tensor, bandwidth: float) -> Tensor:
    u = ((query[:, None] - points) / bandwidth).clamp(-_U_MAX, _U_MAX)
    exponent = -0.5 * u * u
    with torch.no_grad():
        log_terms = exponent + torch.where(weights > 0, weights, 1.0).log()
        largest = torch.where(weights > 0, log_terms, -math.inf).amax(dim=1, keepdim=True)
    # A point of weight 0 can be nearer than all weight: its term must not overflow.
    terms = weights * (exponent - largest).clamp(max=_EXPONENT_MAX).exp()
    return terms.sum(dim=1).log() + largest[:, 0]
