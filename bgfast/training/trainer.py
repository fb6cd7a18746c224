"""Run a training schedule: steps, metrics, checkpoints, resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bgfast.errors import UserError
from bgfast.training.batches import LatentRows, ShuffledRows, independent_seeds
from bgfast.training.checkpoint import (
    CheckpointError,
    load_checkpoint,
    require_same,
    save_checkpoint,
)
from bgfast.training.graphed import Steps
from bgfast.training.health import inverse_error, stop_if_rows_are_bad
from bgfast.training.inputs import Examples, checked_inputs
from bgfast.training.lines import Line, Metrics, Moment, to_host
from bgfast.training.metrics import MetricsFile, Window
from bgfast.training.objective import TERMS, Objective, ReactionCoordinate
from bgfast.training.schedule import TrainingConfig
from bgfast.training.step import Step
from bgfast.training.validation import validation_metrics
from bgfast.training.waiting import host_may_look

if TYPE_CHECKING:
    from bgfast.energies import Energy
    from bgfast.flows import Flow

Progress = Callable[[int, int, Metrics], None]

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"


class Trainer:
    """Trains a flow by the stages of a schedule.

    Parameters
    ----------
    flow
        Flow to train, in place; its parameters set device and dtype.
    energy
        Reduced energy; needed by stages with ``w_kl`` or ``w_rc``.
    config
        The schedule.
    data
        Examples, ``[n, dim]``; needed by stages with ``w_ml``.
    data_weights
        Weights >= 0 of the examples, ``[n]``.
    data_tau
        Relative temperatures of the examples, ``[n]``; 1 if not given.
    validation, validation_tau
        Held-out examples, ``[m, dim]``, whose mean -log q is logged, and their temperatures.
    reaction_coordinate
        ``x[n, dim] -> R[n]``, differentiable; needed by stages with ``w_rc``.
    out
        Folder for ``metrics.jsonl`` and ``checkpoint.pt``; nothing is written without it.
    progress
        Called as ``progress(step, total_steps, metrics)`` with every line of metrics.

    Raises
    ------
    ValueError, TypeError
        If an argument that a stage needs is missing or has the wrong shape, dtype or values.
    """

    def __init__(
        self,
        flow: Flow,
        energy: Energy | None,
        config: TrainingConfig,
        data: Tensor | None = None,
        data_weights: Tensor | None = None,
        data_tau: Tensor | None = None,
        validation: Tensor | None = None,
        validation_tau: Tensor | None = None,
        reaction_coordinate: ReactionCoordinate | None = None,
        out: Path | str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.flow, self.config = flow, config
        self._parameters = [p for p in flow.parameters() if p.requires_grad]
        self._data, self._validation = checked_inputs(
            flow,
            energy,
            config,
            data,
            data_weights,
            data_tau,
            validation,
            validation_tau,
            reaction_coordinate,
        )
        objective = Objective(flow, energy, config, reaction_coordinate)
        self._out = None if out is None else Path(out)
        self._progress = progress

        like = self._parameters[0]
        data_seed, latent_seed = independent_seeds(config.seed, 2)
        self._rows = None
        if self._data is not None:
            self._rows = ShuffledRows(len(self._data.x), data_seed, like.device)
        self._latent = LatentRows(flow.dim, latent_seed, like.dtype, like.device)
        self._window = Window((*TERMS, "grad_norm", "skipped"))
        step = Step(objective, self._parameters, self._window, config.recompute_activations)
        self._steps = Steps(step, config, like.device)
        self.step = 0

    def run(self, *, resume: bool = False) -> Metrics:
        """Train to the end of the schedule.

        Parameters
        ----------
        resume
            Go on from the checkpoint in ``out``; bit for bit as if there had been no break, on
            the same device and number of threads.

        Returns
        -------
        dict
            The last line of metrics: step, stage, the terms of :data:`objective.TERMS` as means
            over the steps since the line before, grad_norm (before clipping), skipped (share of
            steps without an update because the gradient was not finite), validation_nll and
            validation_nonfinite (share of held-out rows it leaves out), inverse_error (median
            |z - inverse(forward(z))| after the last step), lr, samples_per_s.

        Raises
        ------
        TrainingError
            If more than ``max_nonfinite`` of a step's rows or of the steps' gradients were not
            finite, or the flow is no longer invertible in its precision.
        UserError
            If ``out`` holds a run already and ``resume`` is False.
        CheckpointError
            If the checkpoint cannot be read or belongs to another training.
        """
        optimizer, keep_bytes = self._start(resume)
        file = MetricsFile(None if self._out is None else self._out / METRICS, keep_bytes)
        metrics: Metrics = {}
        waiting: list[Line] = []  # enqueued on the device, not yet written
        try:
            begun = self._moment()
            while self.step < self.config.total_steps:
                index, in_stage = self.config.locate(self.step)
                stage = self.config.stages[index]
                if in_stage == 0:
                    optimizer = self._optimizer()
                lr = stage.lr_at(in_stage)
                latent = self._train_step(index, optimizer, lr)
                self.step += 1
                last = self.step == self.config.total_steps
                stage_ends = in_stage + 1 == stage.steps
                saves = last or self.step % self.config.checkpoint_every == 0
                if last or stage_ends or self.step % self.config.log_every == 0:
                    waiting.append(self._line(index, lr, begun, latent))
                    begun = self._moment()
                while len(waiting) > (0 if saves else self._lines_behind()):
                    metrics = self._write(waiting.pop(0), file)
                if saves:
                    self._checkpoint(optimizer, file.n_bytes)
        finally:
            file.close()
        return metrics

    def _train_step(self, index: int, optimizer: torch.optim.Optimizer, lr: float) -> Tensor | None:
        stage = self.config.stages[index]
        self._steps.set_lr(optimizer, lr)
        examples = self._examples(stage.batch_ml) if stage.w_ml > 0 else None
        latent = self._latent.draw(stage.batch_kl, stage.tau) if stage.generates else None
        self._window.add(self._steps(index, optimizer, examples, latent))
        return None if latent is None else latent[0]

    def _examples(self, batch: int) -> Examples:
        assert self._data is not None
        assert self._rows is not None
        return self._data.take(self._rows.take(batch))

    def _optimizer(self) -> torch.optim.Adam:
        # Fused: one call for all parameters; the loop over many small ones would cost more.
        optimizer = torch.optim.Adam(self._parameters, fused=True)
        self._steps.prepare(optimizer)
        return optimizer

    def _moment(self) -> Moment:
        return Moment(self._parameters[0].device)

    def _lines_behind(self) -> int:
        # A device works on while the line before is written; on the host the numbers are there.
        return 0 if host_may_look(self._parameters[0]) else 1

    def _line(self, stage_index: int, lr: float, begun: Moment, latent: Tensor | None) -> Line:
        stage = self.config.stages[stage_index]
        trained = self._moment()
        table = to_host(self._window.table())
        self._window.clear()
        validation, error = None, None
        if self._validation is not None:
            validation = to_host(validation_metrics(self.flow, self._validation))
        if latent is not None:
            error = to_host(inverse_error(self.flow, latent))
        n_rows = int(stage.w_ml > 0) * stage.batch_ml + stage.generates * stage.batch_kl
        moments = begun, trained, self._moment()
        return Line(self.step, stage_index, lr, n_rows, table, validation, error, *moments)

    def _write(self, line: Line, file: MetricsFile) -> Metrics:
        metrics = line.metrics(self._window, self.config)
        file.write(metrics)
        if self._progress is not None:
            self._progress(line.step, self.config.total_steps, metrics)
        return metrics

    def _start(self, resume: bool) -> tuple[torch.optim.Optimizer, int]:
        if resume:
            if self._out is None:
                raise ValueError("resume needs the folder out that holds the checkpoint")
            return self._load(self._out / CHECKPOINT)
        optimizer = self._optimizer()
        if self._out is not None:
            for name in (CHECKPOINT, METRICS):
                if (self._out / name).exists():
                    raise UserError(
                        f"{self._out} holds a run already ({name}); resume it or use another folder"
                    )
            self._out.mkdir(parents=True, exist_ok=True)
        self._save(optimizer, 0)  # so that a run can be resumed however early it stops
        return optimizer, 0

    def _identity(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json", exclude={"cuda_graph"}),
            "flow_config": _flow_config(self.flow),
            "data": None if self._data is None else list(self._data.x.shape),
        }

    def _checkpoint(self, optimizer: torch.optim.Optimizer, metrics_bytes: int) -> None:
        if len(self._window):  # never replace a good checkpoint by a bad one
            shares = self._window.read()["nonfinite"]
            stop_if_rows_are_bad(shares, self.step, self.config.max_nonfinite)
        self._save(optimizer, metrics_bytes)

    def _save(self, optimizer: torch.optim.Optimizer, metrics_bytes: int) -> None:
        if self._out is None:
            return
        generators = {"latent": self._latent.state_dict()}
        if self._rows is not None:
            generators["rows"] = self._rows.state_dict()
        state = {
            **self._identity(),
            "flow": self.flow.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": self.step,
            "generators": generators,
            "metrics": {"bytes": metrics_bytes, "window": self._window.state()},
        }
        save_checkpoint(self._out / CHECKPOINT, state)

    def _load(self, path: Path) -> tuple[torch.optim.Optimizer, int]:
        state = load_checkpoint(path)
        for key, current in self._identity().items():
            require_same(path, "training", {key: state[key]}, {key: current})
        try:
            self.flow.load_state_dict(state["flow"])
            self.step = state["step"]
            optimizer = self._optimizer()
            optimizer.load_state_dict(state["optimizer"])
            self._steps.prepare(optimizer)
            self._latent.load_state_dict(state["generators"]["latent"])
            if self._rows is not None:
                self._rows.load_state_dict(state["generators"]["rows"])
            device = self._parameters[0].device
            self._window.load_state([row.to(device) for row in state["metrics"]["window"]])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            message = str(error).partition("\n")[0]
            raise CheckpointError(
                f"{path} does not fit this flow and optimizer ({message}); build the flow as for "
                "the first run, or start in another folder"
            ) from None
        return optimizer, state["metrics"]["bytes"]


def _flow_config(flow: Flow) -> Any:
    try:
        return getattr(flow, "config", None)
    except ValueError:  # a flow put together by hand has none
        return None
