"""Check what a training is given before the first step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from bgfast.training.schedule import TrainingConfig

if TYPE_CHECKING:
    from bgfast.energies import Energy
    from bgfast.flows import Flow


class Examples(NamedTuple):
    """Examples, in the order of the arguments of :func:`bgfast.training.losses.ml_loss`.

    Parameters
    ----------
    x
        Configurations, ``[n, dim]``.
    weights
        Weights >= 0, ``[n]``, or None: all the same.
    tau
        Relative temperatures, ``[n]``.
    """

    x: Tensor
    weights: Tensor | None
    tau: Tensor

    def take(self, rows: Tensor | slice) -> Examples:
        """Return some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return Examples(self.x[rows], weights, self.tau[rows])


def checked_inputs(
    flow: Flow,
    energy: Energy | None,
    config: TrainingConfig,
    data: Tensor | None,
    data_weights: Tensor | None,
    data_tau: Tensor | None,
    validation: Tensor | None,
    validation_tau: Tensor | None,
    reaction_coordinate: Callable[[Tensor], Tensor] | None,
) -> tuple[Examples | None, Examples | None]:
    """Return data and validation on the flow's device.

    Raises
    ------
    ValueError
        If something a stage needs is missing, or a tensor has the wrong shape or values.
    TypeError
        If a tensor does not have the flow's dtype.
    """
    like = next((p for p in flow.parameters() if p.requires_grad), None)
    if like is None:
        raise ValueError("flow has no parameter to train")
    if energy is not None and energy.dim != flow.dim:
        raise ValueError(f"energy has dim {energy.dim}, the flow {flow.dim}")
    for number, stage in enumerate(config.stages):
        for needed, value, name in (
            (stage.w_ml > 0, data, "data"),
            (stage.generates, energy, "energy"),
            (stage.w_rc > 0, reaction_coordinate, "reaction_coordinate"),
        ):
            if needed and value is None:
                raise ValueError(f"{name} is needed by stage {number} of the schedule")
    return (
        _examples("data", data, data_weights, data_tau, flow.dim, like),
        _examples("validation", validation, None, validation_tau, flow.dim, like),
    )


def _examples(
    name: str,
    x: Tensor | None,
    weights: Tensor | None,
    tau: Tensor | None,
    dim: int,
    like: Tensor,
) -> Examples | None:
    if x is None:
        for what, value in (("weights", weights), ("tau", tau)):
            if value is not None:
                raise ValueError(f"{name}_{what} were given without {name}")
        return None
    x = _rows(name, x, dim, like)
    if weights is not None:
        weights = _weights(weights, len(x), like)
    tau = x.new_ones(len(x)) if tau is None else _tau(f"{name}_tau", tau, len(x), like)
    return Examples(x, weights, tau)


def _rows(name: str, x: Tensor, dim: int, like: Tensor) -> Tensor:
    if x.ndim != 2 or x.shape[1] != dim or len(x) == 0:
        raise ValueError(f"{name} must have shape [n, {dim}] with n >= 1, got {list(x.shape)}")
    if x.dtype != like.dtype:
        raise TypeError(f"{name} must have the dtype {like.dtype} of the flow, got {x.dtype}")
    if not bool(torch.isfinite(x).all()):
        bad = int((~torch.isfinite(x).all(1)).sum())
        raise ValueError(f"{name} must be finite; {bad} of {len(x)} rows are not: remove them")
    return x.detach().to(like.device)


def _weights(weights: Tensor, n: int, like: Tensor) -> Tensor:
    if weights.shape != (n,):
        raise ValueError(f"data_weights must have shape [{n}], got {list(weights.shape)}")
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not bool(weights.sum() > 0):
        raise ValueError("data_weights must be finite and >= 0, and not all 0")
    return weights.detach().to(like)


def _tau(name: str, tau: Tensor, n: int, like: Tensor) -> Tensor:
    if tau.shape != (n,):
        raise ValueError(f"{name} must have shape [{n}], got {list(tau.shape)}")
    if not bool((torch.isfinite(tau) & (tau > 0)).all()):
        raise ValueError(f"{name} must be positive and finite")
    return tau.detach().to(like)
