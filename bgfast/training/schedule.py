"""The training schedule: a list of stages, checked, as it stands in a TOML file.

.. code-block:: toml

    [training]
    rc_bounds = [-2.5, 2.5]

    [[training.stages]]      # by example first
    steps = 1000
    batch_ml = 128
    w_ml = 1.0

    [[training.stages]]      # then by energy and along R
    steps = 500
    lr = 1e-3
    batch_kl = 2048
    w_kl = 1.0
    w_rc = 1.0
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bgfast.training.cap import LinLogCap
from bgfast.training.losses import Estimator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Stage(BaseModel):
    """One stage: so many steps with the same loss.

    Parameters
    ----------
    steps
        Optimiser steps. A published epoch over n examples is n / batch_ml steps.
    lr
        Learning rate of Adam, which starts afresh with each stage.
    lr_end
        Learning rate after the last step; default: ``lr`` throughout.
    decay
        How the learning rate gets there.
    clip
        Largest Euclidean norm of the gradient; a larger gradient is scaled down to it.
    w_ml, w_kl, w_rc
        Weights of the three losses; a term of weight 0 is not computed.
    batch_ml
        Examples per step.
    batch_kl
        Generated configurations per step, shared by the KL and RC terms, in equal shares for the
        temperatures (rounded down to a multiple of their number).
    tau
        Relative temperatures of the KL and RC terms.
    e_high, e_max
        Cap of the reduced energy u / tau: logarithmic above ``e_high``, constant above ``e_max``;
        see :class:`bgfast.training.cap.LinLogCap`.
    path_gradient
        Leave the part of the KL gradient out whose mean is zero, at the cost of one more inverse
        pass; see :mod:`bgfast.training.path_gradient`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(ge=1)
    lr: Positive = 1e-3
    lr_end: Weight | None = None
    decay: Literal["cosine", "linear"] = "cosine"
    clip: Positive = 100.0
    w_ml: Weight = 0.0
    w_kl: Weight = 0.0
    w_rc: Weight = 0.0
    batch_ml: int = Field(128, ge=1)
    batch_kl: int = Field(1024, ge=2)
    tau: tuple[Positive, ...] = Field((1.0,), min_length=1)
    e_high: float = Field(1e4, allow_inf_nan=False)
    e_max: float = Field(1e10, allow_inf_nan=False)
    path_gradient: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.w_ml == self.w_kl == self.w_rc == 0:
            raise ValueError("one of w_ml, w_kl, w_rc must be positive, all are 0")
        if self.batch_kl < 2 * len(self.tau):
            raise ValueError(
                f"batch_kl must hold at least 2 rows for each of the {len(self.tau)} temperatures "
                f"in tau, got {self.batch_kl}"
            )
        if self.lr_end is not None and self.lr_end > self.lr:
            raise ValueError(f"lr_end must be at most lr = {self.lr:g}, got {self.lr_end:g}")
        if not self.e_high < self.e_max:
            raise ValueError(f"e_high must be below e_max = {self.e_max:g}, got {self.e_high:g}")
        if self.path_gradient and not self.w_kl > 0:
            raise ValueError("path_gradient has no effect without w_kl > 0; omit it")
        return self

    @property
    def generates(self) -> bool:
        """Whether configurations are drawn in this stage."""
        return self.w_kl > 0 or self.w_rc > 0

    @property
    def cap(self) -> LinLogCap:
        """The cap of the reduced energy."""
        return LinLogCap(self.e_high, self.e_max)

    def lr_at(self, step: int) -> float:
        """Return the learning rate of step ``0 <= step < steps`` of this stage."""
        if self.lr_end is None:
            return self.lr
        done = step / self.steps
        left = 0.5 * (1 + math.cos(math.pi * done)) if self.decay == "cosine" else 1 - done
        return self.lr_end + (self.lr - self.lr_end) * left


class TrainingConfig(BaseModel):
    """The whole training.

    Parameters
    ----------
    stages
        At least one.
    rc_bounds
        Range of the reaction coordinate over which the RC term spreads the samples.
    rc_bandwidth
        Width of its density estimate; default: see :func:`bgfast.training.losses.rc_loss`.
    rc_estimator
        ``"kde"`` or ``"histogram"`` (as published).
    seed
        Seed of the order of the examples and of the latent vectors.
    log_every
        Steps between lines of metrics.jsonl.
    checkpoint_every
        Steps between checkpoints; one is always written at the end.
    max_nonfinite
        Training stops if more than this share of a step's rows, or of the steps between two lines
        of metrics, has to be left out because of NaN or infinite numbers.
    recompute_activations
        Compute activations anew in the backward pass: memory that does not grow with the batch, for
        steps that take about a third longer. See :func:`bgfast.flows.recompute_activations`.
    cuda_graph
        Record a step as a CUDA graph and replay it, which spares the host hundreds of launches:
        ``"auto"`` on a CUDA device for steps of few rows, ``true`` always, ``false`` never. The
        result is the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stages: tuple[Stage, ...] = Field(min_length=1)
    rc_bounds: tuple[float, float] | None = None
    rc_bandwidth: Positive | None = None
    rc_estimator: Estimator = "kde"
    seed: int = Field(0, ge=0)
    log_every: int = Field(50, ge=1)
    checkpoint_every: int = Field(500, ge=1)
    max_nonfinite: float = Field(0.2, ge=0, lt=1)
    recompute_activations: bool = False
    cuda_graph: Literal["auto"] | bool = "auto"

    @field_validator("rc_bounds")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and not -math.inf < bounds[0] < bounds[1] < math.inf:
            raise ValueError(f"must be [low, high] with low < high, got {list(bounds)}")
        return bounds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rc_bounds is None and any(stage.w_rc > 0 for stage in self.stages):
            raise ValueError("rc_bounds is needed because a stage has w_rc > 0")
        if self.rc_bandwidth is not None and self.rc_estimator == "histogram":
            raise ValueError("rc_bandwidth has no effect with rc_estimator = 'histogram'; omit it")
        return self

    @property
    def total_steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def locate(self, step: int) -> tuple[int, int]:
        """Return ``(stage index, step within that stage)`` of a global step."""
        if not 0 <= step < self.total_steps:
            raise ValueError(f"step must be in [0, {self.total_steps}), got {step}")
        index = 0
        while step >= self.stages[index].steps:
            step -= self.stages[index].steps
            index += 1
        return index, step
