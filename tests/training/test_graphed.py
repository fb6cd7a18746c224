"""What is recorded as a CUDA graph, and what is not, with a stand-in for the device."""

import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from test_trainer import KilledError, config, make, parameters

from bgfast.energies import DoubleWell
from bgfast.training import Stage
from bgfast.training.graphed import WARM_UP, Steps
from bgfast.training.waiting import as_on_a_device
from tests.waiting import NoWaiting, Waited, no_network_kernels

KL = Stage(steps=5, w_kl=1.0, batch_kl=32)


class FakeCuda:
    """The parts of ``torch.cuda`` that recording needs; what waits raises where it would there."""

    def __init__(self, monkeypatch, broken=False):
        self.mode, self.current, self.recorded = 0, "default", 0
        self.broken = broken
        names = "get_sync_debug_mode set_sync_debug_mode current_stream set_stream"
        for name in f"{names} Stream stream graph CUDAGraph device".split():
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, stream: None)

    def get_sync_debug_mode(self):
        return self.mode

    def set_sync_debug_mode(self, mode):
        self.mode = mode

    def current_stream(self):
        return self

    def wait_stream(self, stream):
        pass

    def set_stream(self, stream):
        self.current = "default" if stream is self else stream

    def Stream(self):
        return self

    @contextmanager
    def device(self, device):
        yield

    @contextmanager
    def stream(self, stream):
        with NoWaiting() if self.mode == "error" else warnings.catch_warnings():
            try:
                yield
            except Waited as error:
                raise RuntimeError("called a synchronizing CUDA operation") from error

    @contextmanager
    def graph(self, graph, stream):
        self.current = "side"
        if self.broken:
            raise RuntimeError("operation not permitted when stream is capturing")
        yield
        self.current = "default"
        self.recorded += 1

    def CUDAGraph(self):
        return SimpleNamespace(replay=self.replay)

    def replay(self):
        raise KilledError


class Looking(DoubleWell):
    """Looks at a value on the host, as a user's energy may."""

    def _energy(self, x):
        assert x.sum().item() == x.sum().item()
        return super()._energy(x)


def steps_of(trainer, choice="auto"):
    """Return the trainer's steps, recorded as if it were on a device."""
    changed = trainer.config.model_copy(update={"cuda_graph": choice})
    made = Steps(trainer._steps._step, trainer.config, torch.device("cpu"))
    made._config, made._recorded = changed, [True] * len(changed.stages)
    return made


def run(trainer, steps, n):
    for index in range(len(trainer.config.stages)):
        optimizer = trainer._optimizer()
        for _ in range(n):
            stage = trainer.config.stages[index]
            with as_on_a_device():
                steps(index, optimizer, None, trainer._latent.draw(stage.batch_kl, stage.tau))


def test_steps_that_do_not_wait_are_recorded_after_the_warm_up(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    trainer = make(config(KL))
    run(trainer, steps_of(trainer), WARM_UP)
    assert (cuda.recorded, cuda.mode) == (0, 0)
    with pytest.raises(KilledError):  # there is a graph to replay
        run(trainer, steps_of(trainer), WARM_UP + 1)
    assert cuda.recorded == 1


def test_what_waits_is_found_before_anything_is_recorded_and_changes_no_number(monkeypatch):
    plain, recorded = (make(config(KL, KL), energy=Looking(2)) for _ in range(2))
    run(plain, plain._steps, 6)
    cuda = FakeCuda(monkeypatch)
    with pytest.warns(RuntimeWarning, match="cannot be recorded .*synchronizing") as caught:
        run(recorded, steps_of(recorded), 6)
    assert len(caught) == 1  # of two stages
    assert (cuda.recorded, cuda.mode) == (0, 0)
    assert torch.equal(parameters(plain), parameters(recorded))


def test_a_recording_that_breaks_leaves_torch_on_its_stream(monkeypatch):
    no_network_kernels(monkeypatch)
    cuda = FakeCuda(monkeypatch, broken=True)
    plain, recorded = make(config(KL)), make(config(KL))
    run(plain, plain._steps, 6)
    with pytest.warns(RuntimeWarning, match="not permitted when stream is capturing"):
        run(recorded, steps_of(recorded), 6)
    assert cuda.current == "default"
    assert torch.equal(parameters(plain), parameters(recorded))


@pytest.mark.parametrize("broken", [False, True])
def test_a_graph_that_was_asked_for_and_cannot_be_is_an_error(monkeypatch, broken):
    cuda = FakeCuda(monkeypatch, broken)
    trainer = make(config(KL), energy=DoubleWell(2) if broken else Looking(2))
    with pytest.raises(RuntimeError, match="capturing" if broken else "synchronizing"):
        run(trainer, steps_of(trainer, True), 6)
    assert (cuda.current, cuda.mode) == ("default", 0)
