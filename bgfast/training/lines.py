"""Lines of metrics: put together where the flow is, written once the host has their numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from bgfast.training.health import (
    stop_if_not_invertible,
    stop_if_rows_are_bad,
    stop_if_steps_are_skipped,
)
from bgfast.training.metrics import Window
from bgfast.training.schedule import TrainingConfig

Metrics = dict[str, float | int | None]


class Moment:
    """A point in time: of the work of a CUDA device, else of the host."""

    def __init__(self, device: torch.device) -> None:
        self._time = time.perf_counter()
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Wait until the device is there."""
        if self._event is not None:
            self._event.synchronize()

    def seconds_since(self, earlier: Moment) -> float:
        """Return the time between two moments that have been waited for."""
        if self._event is None or earlier._event is None:
            return self._time - earlier._time
        return float(earlier._event.elapsed_time(self._event)) / 1e3


@dataclass(frozen=True)
class Line:
    """What one line of metrics.jsonl is made of; tensors are on their way to the host.

    Parameters
    ----------
    step
        Steps done.
    stage, lr
        Of the last one.
    n_rows
        Rows of a step.
    table
        The :meth:`Window.table` of the steps since the line before.
    validation
        Mean -log q of the held-out rows, and the share of them that it leaves out; or None.
    inverse_error
        See :func:`bgfast.training.health.inverse_error`; or None.
    begun, trained, ended
        Before the first of the steps, after the last, and after all of the work for this line.
    """

    step: int
    stage: int
    lr: float
    n_rows: int
    table: Tensor
    validation: Tensor | None
    inverse_error: Tensor | None
    begun: Moment
    trained: Moment
    ended: Moment

    def metrics(self, window: Window, config: TrainingConfig) -> Metrics:
        """Wait for the numbers and return the line.

        Raises
        ------
        TrainingError
            If they say that the training has failed; see :mod:`bgfast.training.health`.
        """
        self.ended.wait()
        columns = window.columns(self.table)
        stop_if_rows_are_bad(columns["nonfinite"], self.step, config.max_nonfinite)
        stop_if_steps_are_skipped(
            columns["skipped"], self.step, config.log_every, config.max_nonfinite
        )
        metrics: Metrics = {"step": self.step, "stage": self.stage}
        for name, values in columns.items():
            finite = values[torch.isfinite(values)]
            metrics[name] = float(finite.mean()) if len(finite) else None
        if self.validation is not None:
            nll, left_out = self.validation.tolist()
            metrics["validation_nll"] = nll if left_out < 1 else None
            metrics["validation_nonfinite"] = left_out
        metrics["lr"] = self.lr
        seconds = self.trained.seconds_since(self.begun)
        metrics["samples_per_s"] = len(self.table) * self.n_rows / seconds
        if self.inverse_error is not None:
            error = float(self.inverse_error)
            stop_if_not_invertible(error, self.step - 1)
            metrics["inverse_error"] = error
        return metrics


def to_host(x: Tensor) -> Tensor:
    """Return ``x``, or where a copy will be once the device has come to the next :class:`Moment`.

    Only a copy to pinned memory does not make the host wait.
    """
    if not x.is_cuda:
        return x
    return torch.empty(x.shape, dtype=x.dtype, pin_memory=True).copy_(x, non_blocking=True)
