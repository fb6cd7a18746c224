"""Training by example (ML), by energy (KL) and along a reaction coordinate (RC)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from bgfast.training.path_gradient import path_logdet
from bgfast.training.rows import evaluate_rows, map_rows

if TYPE_CHECKING:
    from bgfast.energies import Energy
    from bgfast.flows import Flow

Estimator = Literal["kde", "histogram"]

BANDWIDTH_SHARE = 0.02
"""Default bandwidth of the RC term as a share of the range between the bounds.

A fixed width keeps the gradient of a collapsed batch bounded; a width from the batch's own spread
(Silverman) would let it grow without limit as the batch collapses.
"""

N_SOFT_BINS = 11
SOFT_BIN_FLOOR = 1e-6


class Loss(NamedTuple):
    """A loss over a batch.

    Parameters
    ----------
    value
        Scalar to minimise; 0 without gradient if no row could be used.
    n_left_out
        Number of rows left out because they were not finite.
    """

    value: Tensor
    n_left_out: Tensor


class RCLoss(NamedTuple):
    """The RC loss over a batch.

    Parameters
    ----------
    value
        Scalar to minimise; 0 without gradient if no row could be used.
    n_outside
        Number of rows with a finite R outside the bounds.
    n_left_out
        Number of rows left out because R was not finite.
    """

    value: Tensor
    n_outside: Tensor
    n_left_out: Tensor


@dataclass(frozen=True)
class Generated:
    """Configurations drawn from a flow, with all that the KL and RC terms need.

    Parameters
    ----------
    x
        Configurations, ``[n, dim]``.
    logdet
        log|det dx/dz|, ``[n]``, with its own gradient or that of -log q(x) along the path.
    energy
        Reduced energies u(x) / tau, ``[n]``, differentiable once in ``x``; 0 where not ``valid``.
    valid
        Rows with finite x, log-determinant, gradients, and an energy that is finite or +inf (which
        the cap makes finite), ``[n]``, bool. The others carry no gradient.
    """

    x: Tensor
    logdet: Tensor
    energy: Tensor
    valid: Tensor


def ml_loss(
    flow: Flow, x: Tensor, weights: Tensor | None = None, tau: float | Tensor = 1.0
) -> Loss:
    """Return the mean negative log-likelihood -log q(x), constants included.

    Parameters
    ----------
    flow
        Flow with ``inverse(x) -> (z, logdet)``.
    x
        Examples, ``[n, dim]``.
    weights
        Weights >= 0 of the examples, ``[n]``; the weighted mean is taken.
    tau
        Relative temperature of the examples: the prior is N(0, tau I). A number or ``[n]``.
    """
    z, logdet, kept = map_rows(flow.inverse, x)
    tau = tau.to(z) if isinstance(tau, Tensor) else z.new_full((), tau)
    log_norm = 0.5 * z.shape[-1] * (math.log(2 * math.pi) + tau.log())
    nll = 0.5 * z.square().sum(-1) / tau + log_norm - logdet
    w = kept.to(nll.dtype) if weights is None else weights.to(nll.dtype) * kept
    return Loss(_weighted_mean(nll, w), (~kept).sum())


def generate(
    flow: Flow,
    energy: Energy,
    z: Tensor,
    tau: float | Tensor = 1.0,
    *,
    path_gradient: bool = False,
) -> Generated:
    """Map latent vectors to configurations and evaluate their reduced energies.

    Parameters
    ----------
    flow
        Flow with ``forward(z) -> (x, logdet)``.
    energy
        Energy with ``energy(x)``.
    z
        Latent vectors, ``[n, dim]``, row i drawn from N(0, tau_i I).
    tau
        Relative temperature, a number or ``[n]``.
    path_gradient
        Give ``logdet`` the gradient of :mod:`bgfast.training.path_gradient`.
    """
    x, logdet, kept = map_rows(flow.forward, z)
    if path_gradient:
        logdet, log_q_smooth = path_logdet(flow, x, logdet, tau)
        kept = kept & log_q_smooth
    u, smooth = evaluate_rows(energy.energy, x, "energy.energy")
    u_tau = u / tau
    valid = kept & ((torch.isfinite(u_tau) & smooth) | (u_tau == torch.inf))
    return Generated(x, logdet, torch.where(valid, u_tau, 0), valid)


def kl_from_generated(generated: Generated, cap: Callable[[Tensor], Tensor]) -> Loss:
    """Return :func:`kl_loss` of configurations that are already there."""
    valid = generated.valid
    work = cap(generated.energy) - torch.where(valid, generated.logdet, 0)
    return Loss(_weighted_mean(work, valid.to(work.dtype)), (~valid).sum())


def kl_loss(
    flow: Flow,
    energy: Energy,
    z: Tensor,
    tau: float | Tensor,
    cap: Callable[[Tensor], Tensor],
    *,
    path_gradient: bool = False,
) -> Loss:
    """Return E_z[cap(u(x) / tau) - log|det dx/dz|], the KL divergence up to a constant.

    Parameters
    ----------
    flow, energy, z, tau
        As for :func:`generate`; with several temperatures give each an equal share of the rows.
    cap
        For example :class:`bgfast.training.cap.LinLogCap`; acts on the reduced energy u / tau, as
        in the published code.
    path_gradient
        Leave the part of the gradient out whose mean is zero; see
        :mod:`bgfast.training.path_gradient`. The value is the same.

    Notes
    -----
    The constant is log Z(tau) - dim / 2 (1 + log(2 pi tau)): at the minimum the loss is
    dim / 2 (1 + log(2 pi tau)) - log Z(tau) (no cap).
    """
    generated = generate(flow, energy, z, tau, path_gradient=path_gradient)
    return kl_from_generated(generated, cap)


def rc_loss(
    r: Tensor,
    bounds: tuple[float, float],
    bandwidth: float | None = None,
    estimator: Estimator = "kde",
) -> RCLoss:
    """Return a loss that is small when R is spread evenly between the bounds.

    Parameters
    ----------
    r
        Values of the reaction coordinate at one temperature, ``[n]``.
    bounds
        ``(low, high)``.
    bandwidth
        Width of the density estimate; default :data:`BANDWIDTH_SHARE` of the range.
    estimator
        ``"kde"``: E[log p(R)] with p the kernel density of the batch, reflected at the bounds;
        rows outside the bounds are left out. ``"histogram"``: the published soft histogram,
        -sum_k log p_k over 11 Gaussian kernels of width range / 11 on an even grid, each row's
        kernel values plus 1e-6 normalised to one; rows outside count towards the nearest kernels.

    Raises
    ------
    ValueError
        If the bounds are not ``low < high``, the bandwidth is not positive, or there is no such
        estimator.
    """
    low, high = bounds
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"bounds must be finite numbers (low, high), low < high, got {bounds}")
    if bandwidth is not None and not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth must be positive and finite, got {bandwidth}")
    finite = torch.isfinite(r)
    inside = finite & (r >= low) & (r <= high)
    if estimator == "kde":
        value = _mean_log_density(r, inside, (low, high), bandwidth)
    elif estimator == "histogram":
        if bandwidth is not None:
            raise ValueError("the soft histogram has a fixed width; leave bandwidth out")
        value = _soft_histogram_loss(r, finite, low, high)
    else:
        raise ValueError(f"estimator must be 'kde' or 'histogram', got {estimator!r}")
    return RCLoss(value, (finite & ~inside).sum(), (~finite).sum())


def _mean_log_density(
    r: Tensor, inside: Tensor, bounds: tuple[float, float], bandwidth: float | None
) -> Tensor:
    from bgfast.ops import kde_log_density

    low, high = bounds
    if bandwidth is None:
        bandwidth = BANDWIDTH_SHARE * (high - low)
    points = torch.where(inside, r, 0.5 * (low + high))
    used = inside.to(r.dtype)
    # With no row inside the density would be 0 / 0: then any weights do, nothing is averaged.
    kernel_weights = torch.where(inside.any(), used, 1.0)
    log_p = kde_log_density(points, bandwidth, weights=kernel_weights, bounds=bounds)
    return _weighted_mean(log_p, used)


def _soft_histogram_loss(r: Tensor, finite: Tensor, low: float, high: float) -> Tensor:
    centres = torch.linspace(low, high, N_SOFT_BINS, dtype=r.dtype, device=r.device)
    width = (high - low) / N_SOFT_BINS
    safe = torch.where(finite, r, 0.5 * (low + high))
    kernels = torch.exp(-0.5 * ((safe[:, None] - centres) / width) ** 2) + SOFT_BIN_FLOOR
    kernels = kernels / kernels.sum(1, keepdim=True)
    used = finite.to(r.dtype)[:, None]
    share = (kernels * used).sum(0) / used.sum().clamp(min=1)
    return -torch.where(finite.any(), share, 1.0).log().sum()


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean over the rows with weight > 0; their values must be finite in every row."""
    total = weights.sum()
    return (values * weights).sum() / torch.where(total > 0, total, 1.0)
