import json

import pytest
import torch
from training_toys import AffineFlow, Harmonic

from bgfast.energies import DoubleWell
from bgfast.errors import UserError
from bgfast.flows import architecture
from bgfast.training import Stage, Trainer, TrainingConfig, TrainingError, ml_loss

ML = Stage(steps=12, w_ml=1.0, batch_ml=8, lr=1e-2)
MIXED = Stage(
    steps=13,
    w_ml=0.1,
    w_kl=1.0,
    w_rc=0.5,
    batch_ml=8,
    batch_kl=30,
    tau=(0.5, 1.0, 2.0),
    lr=1e-2,
    lr_end=1e-3,
)


def config(*stages, **changes):
    settings = {"rc_bounds": (-2.5, 2.5), "rc_estimator": "histogram", "log_every": 4}
    return TrainingConfig(stages=stages, **{**settings, **changes})


def first_coordinate(x):
    return x[:, 0]


def two_wells(n=100):
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(3))
    side = torch.tensor([-1.8, 1.7]).repeat(n // 2)
    return torch.stack([side + 0.2 * noise[:, 0], noise[:, 1]], 1)


def make(config, out=None, flow=None, **changes):
    arguments = {
        "flow": flow or architecture("R2", 2, (16,)),
        "energy": DoubleWell(2),
        "data": two_wells(),
        "validation": two_wells(),
        "reaction_coordinate": first_coordinate,
        "out": out,
    }
    return Trainer(config=config, **{**arguments, **changes})


def parameters(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.flow.parameters()])


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


class KilledError(Exception):
    pass


def kill_at(step):
    def progress(done, total, metrics):
        if done >= step:
            raise KilledError

    return progress


def test_training_by_example_and_by_energy_lowers_the_losses():
    ml = Stage(steps=60, w_ml=1.0, batch_ml=64, lr=5e-3)
    kl = Stage(steps=60, w_kl=1.0, w_rc=1.0, batch_kl=128, lr=5e-3)
    seen = []
    trainer = make(config(ml, kl, log_every=20), progress=lambda *p: seen.append(p))
    untrained = ml_loss(trainer.flow, two_wells()).value.item()
    last = trainer.run()
    assert [p[:2] for p in seen] == [(s, 120) for s in range(20, 121, 20)]
    by_stage = [[m for _, _, m in seen if m["stage"] == stage] for stage in (0, 1)]
    assert by_stage[0][-1]["validation_nll"] < untrained - 0.2
    assert last == by_stage[1][-1]
    assert last["kl"] < by_stage[1][0]["kl"] - 0.2


def test_an_affine_flow_finds_the_gaussian():
    flow = AffineFlow()
    stage = Stage(steps=150, w_kl=1.0, batch_kl=256, lr=5e-2, lr_end=0.0)
    make(config(stage), flow=flow, energy=Harmonic(k=4.0), data=None, validation=None).run()
    torch.testing.assert_close(
        flow.log_scale.exp().detach(), torch.full((2,), 0.5).double(), atol=0.02, rtol=0
    )
    assert flow.shift.abs().max() < 0.02


def test_kl_and_rc_share_one_forward_pass():
    flow = AffineFlow()
    stage = Stage(steps=5, w_kl=1.0, w_rc=1.0, batch_kl=16)
    make(config(stage, log_every=9), flow=flow, data=None, validation=None).run()
    assert flow.forward_calls == 5 + 1  # once more for the inverse error of the one line logged


def test_one_seed_gives_one_result():
    first, again, other = (make(config(ML, MIXED, seed=seed)) for seed in (1, 1, 2))
    for trainer in (first, again, other):
        trainer.run()
    assert torch.equal(parameters(first), parameters(again))
    assert not torch.equal(parameters(first), parameters(other))


@pytest.mark.parametrize("killed_at", [2, 8, 13, 21])
def test_a_resumed_run_equals_one_without_a_break_bit_for_bit(tmp_path, killed_at):
    settings = config(ML, MIXED, checkpoint_every=5, log_every=3)
    straight = make(settings, tmp_path / "straight")
    straight.run()
    with pytest.raises(KilledError):
        make(settings, tmp_path / "broken", progress=kill_at(killed_at)).run()
    resumed = make(settings, tmp_path / "broken")
    with torch.no_grad():
        for parameter in resumed.flow.parameters():
            parameter.fill_(9.0)
    with pytest.raises(UserError, match="holds a run already"):
        resumed.run()
    last = resumed.run(resume=True)
    assert torch.equal(parameters(straight), parameters(resumed))
    timeless = [
        [{**line, "samples_per_s": None} for line in lines(tmp_path / name)]
        for name in ("straight", "broken")
    ]
    assert timeless[0] == timeless[1]
    assert last["step"] == 25


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    settings = config(ML)
    first = make(settings, tmp_path)
    first.run()
    before = lines(tmp_path)
    again = make(settings, tmp_path)
    again.run(resume=True)
    assert torch.equal(parameters(first), parameters(again))
    assert lines(tmp_path) == before


def test_metrics_have_one_readable_line_per_interval(tmp_path):
    make(config(ML, MIXED), tmp_path).run()
    found = lines(tmp_path)
    assert [line["step"] for line in found] == [4, 8, 12, 16, 20, 24, 25]
    assert [line["stage"] for line in found] == [0, 0, 0, 1, 1, 1, 1]
    assert found[0]["kl"] is None
    assert found[0]["ml"] == pytest.approx(found[0]["loss"])
    mixed = found[-1]
    total = 0.1 * mixed["ml"] + mixed["kl"] + 0.5 * mixed["rc"]
    assert mixed["loss"] == pytest.approx(total, rel=1e-5)
    assert mixed["lr"] < 2e-3
    assert 0 <= mixed["inverse_error"] < 1e-5
    assert all(line["samples_per_s"] > 0 for line in found)


def test_bad_rows_are_counted_in_the_metrics():
    stage = Stage(steps=4, w_kl=1.0, w_rc=1.0, batch_kl=200, lr=1e-6)
    energy = Harmonic(edge=2.0)
    trainer = make(config(stage), flow=AffineFlow(), energy=energy, data=None, validation=None)
    metrics = trainer.run()
    assert 0.005 < metrics["nonfinite"] < 0.15
    assert parameters(trainer).isfinite().all()


def test_too_many_bad_rows_stop_the_training():
    energy = Harmonic(edge=-1e9)
    stages = Stage(steps=5, w_ml=1.0), Stage(steps=5, w_kl=1.0)
    trainer = make(
        config(*stages),
        flow=AffineFlow(),
        energy=energy,
        data=two_wells().double(),
        validation=None,
    )
    with pytest.raises(TrainingError, match=r"step 5: 100% .* max_nonfinite = 20%; lower lr"):
        trainer.run()


class SteepFlow(AffineFlow):
    """Finite values whose gradient in the parameters overflows."""

    def _forward(self, z):
        x, logdet = super()._forward(z)
        return x, logdet + 0 * (self.shift[0] - self.shift[0].detach()).abs().sqrt()


def test_steps_without_a_finite_gradient_change_nothing_and_stop_the_training():
    trainer = make(
        config(Stage(steps=9, w_kl=1.0)),
        flow=SteepFlow(),
        energy=Harmonic(),
        data=None,
        validation=None,
    )
    before = parameters(trainer)
    with pytest.raises(TrainingError, match="steps 0 to 3: 4 had a non-finite gradient"):
        trainer.run()
    assert torch.equal(parameters(trainer), before)


class DeceptiveFlow(AffineFlow):
    """Rounds z to integers and claims a large log-determinant, as an overstretched flow does."""

    def _forward(self, z):
        x, logdet = super()._forward(z + (z.round() - z).detach())
        return x, logdet + 10


def test_a_flow_that_lost_its_inverse_stops_the_training():
    stage = Stage(steps=9, w_kl=1.0)
    trainer = make(
        config(stage), flow=DeceptiveFlow(), energy=Harmonic(), data=None, validation=None
    )
    with pytest.raises(TrainingError, match="step 3: the flow is no longer invertible"):
        trainer.run()


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"data": None}, ValueError, "data is needed by stage 0"),
        ({"energy": None}, ValueError, "energy is needed by stage 1"),
        ({"reaction_coordinate": None}, ValueError, "reaction_coordinate is needed by stage 1"),
        ({"energy": DoubleWell(3)}, ValueError, "dim 3, the flow 2"),
        ({"data": torch.zeros(5, 3)}, ValueError, r"data must have shape \[n, 2\]"),
        ({"data": two_wells().double()}, TypeError, "data must have the dtype torch.float32"),
        ({"data": torch.full((4, 2), torch.nan)}, ValueError, "4 of 4 rows"),
        ({"validation": torch.zeros(0, 2)}, ValueError, "validation"),
        ({"data_weights": torch.ones(7)}, ValueError, "data_weights must have shape"),
        ({"data_weights": -torch.ones(100)}, ValueError, "data_weights must be finite and >= 0"),
        ({"data_tau": torch.ones(7)}, ValueError, "data_tau must have shape"),
        ({"data_tau": torch.zeros(100)}, ValueError, "data_tau must be positive"),
        ({"validation_tau": -torch.ones(100)}, ValueError, "validation_tau must be positive"),
        (
            {"validation": None, "validation_tau": torch.ones(1)},
            ValueError,
            "validation_tau were given without validation",
        ),
    ],
)
def test_bad_input_is_refused_by_name(changes, error, named):
    with pytest.raises(error, match=named):
        make(config(ML, MIXED), **changes)


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: x, "reaction_coordinate must map x of shape"),
        (lambda x: x[:, 0].detach(), "reaction_coordinate must be differentiable"),
    ],
)
def test_a_reaction_coordinate_that_cannot_work_is_refused(function, named):
    with pytest.raises(ValueError, match=named):
        make(config(MIXED), reaction_coordinate=function).run()


def test_data_weights_decide_what_is_learnt():
    data = two_wells()
    weights = (data[:, 0] > 0).float()
    stage = Stage(steps=200, w_ml=1.0, lr=5e-2)
    trainer = make(config(stage), flow=AffineFlow(dtype=torch.float32), data_weights=weights)
    trainer.run()
    right = data[data[:, 0] > 0, 0]
    assert trainer.flow.shift[0].item() == pytest.approx(right.mean().item(), abs=0.05)


def test_examples_at_several_temperatures_train_one_flow():
    """x ~ N(m, tau s^2): the flow must be z s + m, and the validation loss the exact entropy."""
    generator = torch.Generator().manual_seed(0)
    tau = torch.tensor([0.25, 1.0, 4.0]).repeat(4000)
    scale, mean = torch.tensor([0.5, 2.0]), torch.tensor([1.0, -1.0])
    z = torch.randn(len(tau), 2, generator=generator)
    x = mean + scale * tau.sqrt()[:, None] * z / z.square().mean(0).sqrt()
    stage = Stage(steps=400, w_ml=1.0, lr=5e-2, lr_end=0.0, batch_ml=2000)
    flow = AffineFlow(dtype=torch.float32)
    inputs = {"data": x, "data_tau": tau, "validation": x, "validation_tau": tau}
    metrics = make(config(stage), flow=flow, **inputs).run()
    torch.testing.assert_close(flow.log_scale.exp(), scale, rtol=0.02, atol=0)
    torch.testing.assert_close(flow.shift, mean, rtol=0, atol=0.02)
    entropy = torch.distributions.Normal(0.0, scale * tau.sqrt()[:, None]).entropy().sum(1).mean()
    assert metrics["validation_nll"] == pytest.approx(entropy.item(), abs=0.01)


def test_recomputed_activations_train_to_the_same_parameters():
    stage = Stage(steps=2, w_kl=1.0, batch_kl=5000, lr=1e-2)
    found = {}
    for recompute in (False, True):
        flow = AffineFlow()
        trainer = Trainer(flow, Harmonic(), config(stage, recompute_activations=recompute))
        trainer.run()
        found[recompute] = (parameters(trainer), flow.forward_calls)
    torch.testing.assert_close(found[True][0], found[False][0], rtol=1e-12, atol=1e-12)
    # Two pieces instead of one batch, each run twice.
    assert found[True][1] - found[False][1] == 3 * stage.steps
