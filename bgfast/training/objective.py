"""The weighted sum of ML, KL and RC on one batch of examples and one batch of latent vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bgfast.training.inputs import Examples
from bgfast.training.losses import generate, kl_from_generated, ml_loss, rc_loss
from bgfast.training.rows import evaluate_rows
from bgfast.training.schedule import Stage, TrainingConfig

if TYPE_CHECKING:
    from bgfast.energies import Energy
    from bgfast.flows import Flow

ReactionCoordinate = Callable[[Tensor], Tensor]

TERMS = ("loss", "ml", "kl", "rc", "energy", "nonfinite", "outside")
"""What :meth:`Objective.__call__` reports: the sum, its terms, the mean capped u / tau, the share
of rows left out as not finite (of the worse batch), and the share of generated rows whose R lies
outside the bounds."""


@dataclass(frozen=True)
class Objective:
    """The loss of a stage.

    Parameters
    ----------
    flow, energy
        What is trained and towards which energy.
    config
        Bounds and estimator of the RC term.
    reaction_coordinate
        ``x[n, dim] -> R[n]``, differentiable.
    """

    flow: Flow
    energy: Energy | None
    config: TrainingConfig
    reaction_coordinate: ReactionCoordinate | None = None

    def __call__(
        self,
        stage: Stage,
        examples: Examples | None,
        latent: tuple[Tensor, Tensor] | None,
    ) -> dict[str, Tensor]:
        """Return those of :data:`TERMS` that this stage has, as scalars on the device.

        Parameters
        ----------
        stage
            Weights, temperatures and cap.
        examples
            Configurations, their weights and temperatures.
        latent
            ``(z[n, dim], tau[n])``; the KL and RC terms share the configurations made of it.
        """
        terms: dict[str, Tensor] = {}
        losses, left_out = [], []
        if examples is not None:
            ml = ml_loss(self.flow, *examples)
            terms["ml"] = ml.value
            losses.append(stage.w_ml * ml.value)
            left_out.append(ml.n_left_out / len(examples.x))
        if latent is not None:
            losses.append(self._generated_terms(stage, *latent, terms))
            left_out.append(terms["nonfinite"])
        terms["nonfinite"] = torch.stack(left_out).amax()
        terms["loss"] = torch.stack(losses).sum()
        return terms

    def _generated_terms(
        self, stage: Stage, z: Tensor, tau: Tensor, terms: dict[str, Tensor]
    ) -> Tensor:
        assert self.energy is not None
        path_gradient = stage.path_gradient
        generated = generate(self.flow, self.energy, z, tau, path_gradient=path_gradient)
        kl = kl_from_generated(generated, stage.cap)
        terms["kl"] = kl.value
        terms["nonfinite"] = kl.n_left_out / len(z)
        with torch.no_grad():
            capped = torch.where(generated.valid, stage.cap(generated.energy), 0)
            terms["energy"] = capped.sum() / generated.valid.sum().clamp(min=1)
        loss = stage.w_kl * kl.value
        if stage.w_rc > 0:
            loss = loss + stage.w_rc * self._rc(generated.x, generated.valid, stage, terms)
        return loss

    def _rc(self, x: Tensor, valid: Tensor, stage: Stage, terms: dict[str, Tensor]) -> Tensor:
        assert self.reaction_coordinate is not None
        assert self.config.rc_bounds is not None
        r, smooth = evaluate_rows(self.reaction_coordinate, x, "reaction_coordinate")
        r = torch.where(valid & smooth, r, torch.nan)
        # Each temperature has a distribution of its own; its rows stand next to each other.
        per_tau = [
            rc_loss(part, self.config.rc_bounds, self.config.rc_bandwidth, self.config.rc_estimator)
            for part in r.chunk(len(stage.tau))
        ]
        terms["rc"] = torch.stack([rc.value for rc in per_tau]).mean()
        terms["outside"] = torch.stack([rc.n_outside for rc in per_tau]).sum() / len(x)
        unusable = torch.stack([rc.n_left_out for rc in per_tau]).sum() / len(x)
        terms["nonfinite"] = torch.maximum(terms["nonfinite"], unusable)
        return terms["rc"]
