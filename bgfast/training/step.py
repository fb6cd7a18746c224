"""One optimiser step: loss, gradient, clipping, update, and what the metrics need of it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from bgfast.flows import recompute_activations
from bgfast.training.inputs import Examples
from bgfast.training.metrics import Window
from bgfast.training.objective import Objective
from bgfast.training.schedule import Stage
from bgfast.training.waiting import host_may_look

Latent = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Step:
    """What a step is made of; called with the rows of one.

    Parameters
    ----------
    objective
        The loss.
    parameters
        What is trained.
    window
        Gives the row of metrics its columns.
    recompute
        Whether activations are computed anew in the backward pass.
    """

    objective: Objective
    parameters: list[torch.nn.Parameter]
    window: Window
    recompute: bool

    def __call__(
        self,
        stage: Stage,
        optimizer: torch.optim.Optimizer,
        examples: Examples | None,
        latent: Latent | None,
    ) -> Tensor:
        """Make one step and return its row of metrics.

        There is no update if the gradient is not finite. On a device, the optimiser decides that
        itself: nothing here waits for it.
        """
        with recompute_activations() if self.recompute else nullcontext():
            terms = self.objective(stage, examples, latent)
        optimizer.zero_grad()
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.get_total_norm(self._gradients())
        if host_may_look(norm):
            usable = bool(torch.isfinite(norm))
            if usable:
                if norm > 0.99 * stage.clip:  # else the factor would be 1: one pass less
                    torch.nn.utils.clip_grads_with_norm_(self.parameters, stage.clip, norm)
                optimizer.step()
            terms["skipped"] = norm.new_tensor(0.0 if usable else 1.0)
        else:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, stage.clip, norm)
            terms["skipped"] = (~torch.isfinite(norm)).to(norm.dtype)
            # A feature of fused Adam: 1 leaves everything as it is, also the count of steps.
            optimizer.found_inf = terms["skipped"].float()  # type: ignore[attr-defined]
            optimizer.step()
        terms["grad_norm"] = norm
        return self.window.row(terms, like=norm)

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]
