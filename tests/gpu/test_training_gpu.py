"""On a GPU: a training step never waits, replays as a graph, and gives the same numbers."""

import warnings

import pytest
import torch

from bgfast.energies import DoubleWell, ParticleDimer
from bgfast.flows import architecture
from bgfast.training import Stage, Trainer, TrainingConfig

ML = Stage(steps=12, w_ml=1.0, batch_ml=64, lr=1e-3)
MIXED = Stage(
    steps=13, w_ml=0.1, w_kl=1.0, w_rc=0.5, batch_ml=32, batch_kl=96, tau=(0.5, 1.0, 2.0), lr=1e-3
)


def first_coordinate(x):
    return x[:, 0]


def trainer(gpu, letters="R2", graph=False, energy=None, stages=(ML, MIXED), seed=0):
    energy = energy or DoubleWell(2)
    data = torch.randn(200, energy.dim, generator=torch.Generator().manual_seed(1))
    if isinstance(energy, ParticleDimer):
        data = energy.lattice_configuration(1.5).float() + 0.02 * data
    return Trainer(
        architecture(letters, energy.dim, (32,)).to(gpu),
        energy.to(gpu),
        TrainingConfig(stages=stages, rc_bounds=(-4, 4), log_every=5, cuda_graph=graph, seed=seed),
        data=data,
        data_weights=torch.linspace(0.5, 1.5, len(data)),
        reaction_coordinate=first_coordinate,
    )


def trained(made):
    metrics = made.run()
    return torch.cat([p.detach().flatten() for p in made.flow.parameters()]).cpu(), metrics


@pytest.mark.parametrize("letters", ["R2", "QN"])
@pytest.mark.parametrize("stage", [ML, MIXED], ids=["ml", "mixed"])
def test_a_step_never_waits(gpu, letters, stage):
    made = trainer(gpu, letters, stages=(stage,))
    optimizer = made._optimizer()
    for _ in range(2):  # kernels are compiled, tables and temperatures copied
        made._train_step(0, optimizer, 1e-3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            made._train_step(0, optimizer, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert made._window.read()["skipped"].sum() == 0


@pytest.mark.parametrize(
    "energy", [DoubleWell(2), ParticleDimer(n_solvent=3)], ids=["well", "dimer"]
)
@pytest.mark.parametrize("letters", ["R2", "QN"])
def test_a_graph_gives_the_same_training(gpu, letters, energy):
    eager, eager_metrics = trained(trainer(gpu, letters, False, energy))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replayed, metrics = trained(trainer(gpu, letters, True, energy))
    assert torch.equal(replayed, eager)
    assert {k: v for k, v in metrics.items() if k != "samples_per_s"} == {
        k: v for k, v in eager_metrics.items() if k != "samples_per_s"
    }


def test_the_same_seed_gives_the_same_training_and_another_one_does_not(gpu):
    first, second, other = (trained(trainer(gpu, graph="auto", seed=s))[0] for s in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


class Waiting(DoubleWell):
    """Looks at a value on the host, as a user's energy may."""

    def _energy(self, x):
        assert bool(torch.isfinite(x).all())
        return super()._energy(x)


def test_what_cannot_be_recorded_runs_without_a_graph_or_is_an_error(gpu):
    expected, _ = trained(trainer(gpu, energy=Waiting(2), stages=(MIXED,)))
    with pytest.warns(RuntimeWarning, match="cannot be recorded as a CUDA graph"):
        found, _ = trained(trainer(gpu, graph="auto", energy=Waiting(2), stages=(MIXED,)))
    assert torch.equal(found, expected)
    with pytest.raises(RuntimeError):
        trainer(gpu, graph=True, energy=Waiting(2), stages=(MIXED,)).run()
