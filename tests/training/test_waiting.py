"""A training step on a device never waits for it: proven on the CPU, along the device's path."""

from contextlib import nullcontext
from itertools import pairwise

import pytest
import torch
from test_trainer import MIXED, ML, config, lines, make, parameters, two_wells
from training_toys import AffineFlow, Harmonic, SquareRootFlow

from bgfast.energies import ParticleDimer
from bgfast.flows import architecture
from bgfast.training import Stage, TrainingConfig
from bgfast.training.waiting import as_on_a_device
from tests.waiting import NoWaiting, Waited


def steps(trainer, n, mode=None):
    optimizer = trainer._optimizer()
    for _ in range(n):
        with as_on_a_device():
            if mode is None:
                trainer._train_step(0, optimizer, 1e-2)
            else:
                with mode:
                    trainer._train_step(0, optimizer, 1e-2)
    return optimizer


KL = Stage(steps=5, w_kl=1.0, batch_kl=32)
PATH = KL.model_copy(update={"path_gradient": True})


@pytest.mark.parametrize("estimator", ["kde", "histogram"])
@pytest.mark.parametrize("stage", [ML, MIXED, KL, PATH], ids=["ml", "mixed", "kl", "path"])
@pytest.mark.parametrize("letters", ["R2", "QN"])
def test_a_step_never_waits(letters, stage, estimator):
    weights = torch.linspace(0.5, 1.5, len(two_wells()))
    flow = architecture(letters, 2, (8,))
    trainer = make(config(stage, rc_estimator=estimator), flow=flow, data_weights=weights)
    steps(trainer, 1)  # the temperatures are copied to the device
    steps(trainer, 2, NoWaiting())
    assert trainer._window.read()["skipped"].sum() == 0


@pytest.mark.parametrize("stage", [ML, KL], ids=["ml", "kl"])
def test_what_waits_is_noticed(stage):
    trainer = make(config(stage))
    optimizer = trainer._optimizer()
    trainer._train_step(0, optimizer, 1e-2)
    with NoWaiting(), pytest.raises(Waited):
        trainer._train_step(0, optimizer, 1e-2)  # along the path of the CPU


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum() > 0),
        lambda x: x[x > 0],
        lambda x: torch.tensor([1.0]),
        lambda x: x.cpu(),
        lambda x: x.to("cpu", torch.float64),
        lambda x: x.to(device="cpu"),
        lambda x: x.tolist(),
        lambda x: (x > 0).nonzero(),
    ],
)
def test_every_kind_of_waiting_is_noticed(wait):
    with NoWaiting(), pytest.raises(Waited):
        wait(torch.ones(3))


@pytest.mark.parametrize("stage", [ML, MIXED], ids=["ml", "mixed"])
def test_both_paths_train_the_same(stage):
    on_cpu, on_device = make(config(stage)), make(config(stage))
    optimizer = on_cpu._optimizer()
    for _ in range(5):
        on_cpu._train_step(0, optimizer, 1e-2)
    steps(on_device, 5)
    assert torch.equal(parameters(on_cpu), parameters(on_device))


def test_rows_with_a_bad_energy_are_left_out_on_both_paths():
    def trainer():
        energy = Harmonic(edge=0.9)
        return make(config(KL), flow=AffineFlow(), energy=energy, data=None, validation=None)

    on_cpu, on_device = trainer(), trainer()
    optimizer = on_cpu._optimizer()
    for _ in range(3):
        on_cpu._train_step(0, optimizer, 1e-2)
    steps(on_device, 3)
    assert torch.equal(parameters(on_cpu), parameters(on_device))
    left_out = on_device._window.read()["nonfinite"]
    assert torch.equal(left_out, on_cpu._window.read()["nonfinite"])
    assert left_out.max() > 0


def test_a_gradient_that_is_not_finite_changes_nothing_but_the_count():
    trainer = make(config(KL), flow=SquareRootFlow(), energy=Harmonic(), data=None, validation=None)
    before = parameters(trainer)
    optimizer = steps(trainer, 1)
    columns = trainer._window.read()
    assert 0 < columns["nonfinite"] < 0.5
    assert columns["skipped"] == 1
    assert torch.equal(parameters(trainer), before)
    assert all(state["step"] == 0 for state in optimizer.state.values())


def test_lines_of_metrics_are_a_line_behind_on_a_device_and_say_the_same(tmp_path):
    behind = []
    trainers = []

    def progress(done, total, metrics):
        behind.append(trainers[-1].step - done)

    for folder in ("cpu", "device"):
        trainers.append(make(config(ML, MIXED), tmp_path / folder, progress=progress))
        with as_on_a_device() if folder == "device" else nullcontext():
            trainers[-1].run()
    on_cpu, on_device = (lines(tmp_path / folder) for folder in ("cpu", "device"))
    timeless = [[{**line, "samples_per_s": 0} for line in found] for found in (on_cpu, on_device)]
    assert timeless[0] == timeless[1]
    assert all(line["samples_per_s"] > 0 for line in on_cpu + on_device)
    n = len(on_cpu)
    assert behind[:n] == [0] * n
    assert behind[n:] == [*(b["step"] - a["step"] for a, b in pairwise(on_device)), 0]


def test_a_line_is_put_together_without_waiting():
    trainer = make(config(MIXED))
    steps(trainer, 2)
    latent = trainer._latent.draw(8, (1.0,))[0]
    with as_on_a_device(), NoWaiting():
        line = trainer._line(0, 1e-2, trainer._moment(), latent)
    metrics = line.metrics(trainer._window, trainer.config)
    assert metrics["validation_nll"] > 0
    assert 0 <= metrics["inverse_error"] < 1e-5


def test_a_graph_is_refused_on_the_cpu_and_none_is_made_by_itself():
    with pytest.raises(ValueError, match="cuda_graph = true needs a flow on a CUDA device"):
        make(config(ML, cuda_graph=True))
    with pytest.raises(ValueError, match="cuda_graph"):
        TrainingConfig(stages=(ML,), cuda_graph="always")
    trainers = [make(config(ML, cuda_graph=choice)) for choice in ("auto", False)]
    for trainer in trainers:
        trainer.run()
    assert torch.equal(*map(parameters, trainers))


def test_a_run_is_resumed_with_another_choice_of_graphs(tmp_path):
    make(config(ML), tmp_path).run()
    make(config(ML, cuda_graph=False), tmp_path).run(resume=True)


def test_a_step_on_the_dimer_never_waits():
    energy = ParticleDimer(n_solvent=2)
    stage = MIXED.model_copy(update={"w_ml": 0.0})
    trainer = make(
        config(stage, rc_bounds=(-9.0, 9.0)),
        flow=architecture("R2", 8, (8,)),
        energy=energy,
        data=None,
        validation=None,
        reaction_coordinate=energy.dimer_distance,
    )
    steps(trainer, 1)
    steps(trainer, 2, NoWaiting())
    assert trainer._window.read()["loss"].isfinite().all()
