"""A step as a CUDA graph: recorded once per stage, then launched as a whole.

A step of a small batch is hundreds of kernels of a few microseconds each; the host needs longer to
launch them than the device to run them. Rows are drawn outside of the graph and copied into the
memory it reads.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from bgfast.training.inputs import Examples
from bgfast.training.schedule import Stage, TrainingConfig
from bgfast.training.step import Latent, Step

WARM_UP = 3
"""Steps of a stage that run kernel by kernel: kernels are compiled, the optimiser's state made.
The last is a rehearsal: whatever waits for the device in it would break the recording, and what a
broken recording leaves behind (torch's current stream, its allocator) is of no use to anyone."""

_SMALL = 8192
"""Rows of a step up to which ``cuda_graph = "auto"`` records it; beyond, launches cost little."""


def wants_graph(config: TrainingConfig, stage: Stage, device: torch.device) -> bool:
    """Return whether the steps of a stage are to be recorded.

    Raises
    ------
    ValueError
        If ``cuda_graph`` is true and the device is no CUDA device.
    """
    if config.cuda_graph == "auto":
        rows = max((stage.w_ml > 0) * stage.batch_ml, stage.generates * stage.batch_kl)
        return device.type == "cuda" and rows <= _SMALL
    if config.cuda_graph and device.type != "cuda":
        raise ValueError(
            f"cuda_graph = true needs a flow on a CUDA device, this one is on {device}; "
            'leave it at "auto"'
        )
    return config.cuda_graph


class GraphedStep:
    """Makes the steps of one stage, the first ones one by one, then by a graph.

    Parameters
    ----------
    step
        The step.
    stage, optimizer
        Of the stage; the optimiser must be capturable and have a tensor as its learning rate.
    required
        Whether a step that cannot be recorded is an error; else it warns and goes on without.
    """

    def __init__(
        self, step: Step, stage: Stage, optimizer: torch.optim.Optimizer, *, required: bool
    ) -> None:
        self._step, self._stage, self._optimizer = step, stage, optimizer
        self._required = required
        self._n_done = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []
        self._row: Tensor | None = None
        self.failed = False

    def __call__(self, examples: Examples | None, latent: Latent | None) -> Tensor:
        """Make one step and return its row of metrics."""
        if self.failed:
            return self._step(self._stage, self._optimizer, examples, latent)
        if self._n_done < WARM_UP - 1:
            self._n_done += 1
            return self._aside(examples, latent)
        if self._n_done == WARM_UP - 1:
            self._n_done += 1
            return self._rehearsed(examples, latent)
        if self._graph is None and not self._record(examples, latent):
            return self._step(self._stage, self._optimizer, examples, latent)
        assert self._graph is not None
        assert self._row is not None
        for static, now in zip(self._inputs, _tensors(examples, latent), strict=True):
            static.copy_(now)
        self._graph.replay()
        return self._row.clone()

    def _aside(self, examples: Examples | None, latent: Latent | None) -> Tensor:
        """Make a step on another stream, as a capture needs of the steps before it."""
        current = torch.cuda.current_stream()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                row = self._step(self._stage, self._optimizer, examples, latent)
        finally:
            current.wait_stream(side)
            for tensor in _tensors(examples, latent):
                tensor.record_stream(side)
        row.record_stream(current)
        return row

    def _rehearsed(self, examples: Examples | None, latent: Latent | None) -> Tensor:
        """Make a step in which nothing may wait for the device; if something does, another one.

        What waits does so before the update: the first attempt has changed no parameter.
        """
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            return self._aside(examples, latent)
        except RuntimeError as error:
            self._give_up(error)
        finally:
            torch.cuda.set_sync_debug_mode(before)
        return self._step(self._stage, self._optimizer, examples, latent)

    def _give_up(self, error: RuntimeError) -> None:
        """Warn and go on without a graph, or raise if one was asked for."""
        if self._required:
            raise error
        warnings.warn(
            "a training step cannot be recorded as a CUDA graph and runs kernel by kernel "
            f"({str(error).partition(chr(10))[0]}); an energy or reaction coordinate that "
            "looks at values on the host is the usual reason",
            RuntimeWarning,
            stacklevel=5,
        )
        self._optimizer.zero_grad()
        self.failed = True

    def _record(self, examples: Examples | None, latent: Latent | None) -> bool:
        static_examples = None
        if examples is not None:
            weights = None if examples.weights is None else examples.weights.clone()
            static_examples = Examples(examples.x.clone(), weights, examples.tau.clone())
        static_latent = None if latent is None else (latent[0].clone(), latent[1].clone())
        self._inputs = _tensors(static_examples, static_latent)
        self._optimizer.zero_grad()  # gradients have to live in the graph's own memory
        graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        try:
            with torch.cuda.graph(graph, stream=side):
                row = self._step(self._stage, self._optimizer, static_examples, static_latent)
        except RuntimeError as error:
            torch.cuda.set_stream(current)  # torch stays on the other one if a capture is broken
            self._give_up(error)
            return False
        self._graph, self._row = graph, row
        return True


class Steps:
    """The steps of a schedule, each stage's recorded or not as the configuration has it.

    Parameters
    ----------
    step
        The step.
    config
        The schedule.
    device
        Of the flow.

    Raises
    ------
    ValueError
        See :func:`wants_graph`.
    """

    def __init__(self, step: Step, config: TrainingConfig, device: torch.device) -> None:
        self._step, self._config, self._device = step, config, device
        self._recorded = [wants_graph(config, stage, device) for stage in config.stages]
        self._current: tuple[torch.optim.Optimizer, GraphedStep] | None = None

    def __call__(
        self,
        index: int,
        optimizer: torch.optim.Optimizer,
        examples: Examples | None,
        latent: Latent | None,
    ) -> Tensor:
        """Make a step of stage ``index``, which has an optimiser of its own."""
        stage = self._config.stages[index]
        failed = self._current is not None and self._current[1].failed  # so would later stages
        if failed or not self._recorded[index]:
            return self._step(stage, optimizer, examples, latent)
        if self._current is None or self._current[0] is not optimizer:
            required = self._config.cuda_graph is True
            step = GraphedStep(self._step, stage, optimizer, required=required)
            self._current = optimizer, step
        with torch.cuda.device(self._device):
            return self._current[1](examples, latent)

    def prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an optimiser that is new, or was loaded, read its learning rate on the device."""
        on_cuda = self._device.type == "cuda"  # with or without a graph: the same rounding
        for group in optimizer.param_groups:
            group["capturable"] = on_cuda
            lr = float(group["lr"])
            group["lr"] = lr
            if on_cuda:
                group["lr"] = torch.full((), lr, dtype=torch.float32, device=self._device)

    def set_lr(self, optimizer: torch.optim.Optimizer, lr: float) -> None:
        """Set the learning rate, in place where a graph reads it."""
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr


def _tensors(examples: Examples | None, latent: Latent | None) -> list[Tensor]:
    return [t for pair in (examples, latent) if pair is not None for t in pair if t is not None]
