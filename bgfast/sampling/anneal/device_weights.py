"""Weights of a population on a device, as in :mod:`bgfast.sampling.anneal.weights`.

Nothing here waits for the device: what the CPU decides by branches is selected by masks, and a
search makes a fixed number of rounds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bgfast.sampling.anneal.weights import least_next

_UNIT = 2.0**52  # of the weights as integers, whose sums do not depend on the order of adding
_SECTIONS, _ROUNDS = 64, 7
"""Each round of the search for beta tries all ends of so many sections at once: 42 bits."""


def ess_share(log_weights: Tensor) -> Tensor:
    """Return the effective sample size of ``log_weights[N]`` as a share of N, 0 if none is."""
    value = 2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)
    return (value.exp() / len(log_weights)).nan_to_num(nan=0.0)


def conditional_ess(log_weights: Tensor, log_increment: Tensor) -> Tensor:
    """Return the conditional ESS of ``log_weights[N]`` for increments ``[M, N]``, ``[M]``."""
    once = (log_weights + log_increment).logsumexp(-1)
    twice = (log_weights + 2 * log_increment).logsumexp(-1)
    return (2 * once - twice - log_weights.logsumexp(0)).exp().nan_to_num(nan=0.0)


def scaled(log_w: Tensor, beta: float | Tensor) -> Tensor:
    """Return ``beta * log_w``, -infinity where ``log_w`` is, also for beta = 0."""
    return torch.where(log_w.isfinite(), beta * log_w.nan_to_num(neginf=0.0), -math.inf)


def next_beta(log_weights: Tensor, log_w: Tensor, beta: float, share: float) -> Tensor:
    """Return the next beta, a tensor with one number.

    The arguments are those of :func:`bgfast.sampling.anneal.weights.next_beta`, whose result it is
    to 11 digits.
    """
    least, whole = (log_w.new_full((), value) for value in (least_next(beta), 1.0))

    def keeps(candidates: Tensor) -> Tensor:
        return conditional_ess(log_weights, scaled(log_w, candidates[:, None] - beta)) >= share

    low, high = least.log(), whole.log()  # a first beta may be tiny
    inner = torch.arange(1, _SECTIONS, dtype=log_w.dtype, device=log_w.device) / _SECTIONS
    for _ in range(_ROUNDS):
        grid = low + (high - low) * inner
        n_kept = keeps(grid.exp()).long().cumprod(0).sum()
        edges = torch.cat([low[None], grid, high[None]])
        low, high = edges.gather(0, torch.stack([n_kept, n_kept + 1])).unbind()
    least_kept, whole_kept = keeps(torch.stack([least, whole])).unbind()
    found = torch.where(least_kept, low.exp(), least)
    return torch.where(whole_kept | (least >= whole), whole, found)


def systematic(log_weights: Tensor, n: int, uniform: float) -> Tensor:
    """Return the indices ``[n]`` of a systematic resampling, in increasing order.

    Weights are rounded to integers: sums of floats would depend on how the device orders them.
    Where no weight is finite, the indices mean nothing.
    """
    shares = (log_weights - log_weights.logsumexp(0)).exp().nan_to_num(nan=0.0)
    edges = (shares * _UNIT).round().long().cumsum(0)
    total = edges[-1]
    points = torch.arange(n, device=log_weights.device, dtype=torch.float64) + uniform
    points = torch.minimum((points / n * total).long(), total - 1)
    return torch.searchsorted(edges, points, right=True)
