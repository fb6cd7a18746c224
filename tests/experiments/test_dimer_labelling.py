"""Annealing labelled particles of the dimer on a device: it never waits; labels are the CPU's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bgfast.energies import Bias, Biased, ParticleDimer
from bgfast.experiments import dimer_anneal
from bgfast.experiments.dimer_anneal import DimerLabelling
from bgfast.flows import Sequential, Whitening, architecture
from bgfast.ops import assignment, assignment_cuda
from bgfast.sampling.anneal import AnnealSettings, hmc
from bgfast.sampling.anneal.device_island import run_device_island
from bgfast.sampling.anneal.device_local import DeviceLocalMoves
from bgfast.sampling.anneal.island import Stage
from bgfast.sampling.anneal.local import LocalMoves
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.anneal.random_numbers import generator_of
from bgfast.sampling.umbrella_estimate import without_double_well
from tests.cuda_shim import COMPILER
from tests.montecarlo_shim import tensors_of_the_cpu
from tests.waiting import NoWaiting, Waited


def case(n=60):
    energy = ParticleDimer(n_solvent=6)
    reference = energy.lattice_configuration(1.2)
    x = reference + 0.1 * torch.from_numpy(np.random.default_rng(0).normal(size=(n, energy.dim)))
    return DimerLabelling(SimpleNamespace(reference=reference.numpy().reshape(-1, 2))), x


@pytest.fixture
def machine(monkeypatch):
    """Tensors of the CPU go to the CUDA kernels, in the shim; torch draws random numbers."""
    if COMPILER is None:
        pytest.skip("needs g++")

    def drawn(n, m, rng, device):
        return torch.rand(n, m, generator=generator_of(rng, device), dtype=torch.float64)

    def drawn_for_hmc(n, dim, step, rng, device):
        like = {"generator": generator_of(rng, device), "dtype": torch.float64}
        return torch.randn(n, dim, **like), step * torch.ones(n), torch.log(torch.rand(n, **like))

    monkeypatch.setattr(dimer_anneal, "random_rows", drawn)
    monkeypatch.setattr(hmc, "_random_numbers", drawn_for_hmc)
    monkeypatch.setattr(assignment_cuda, "place", lambda x: {"device": 0, "stream": 0})
    with tensors_of_the_cpu() as made:
        yield made


def test_a_labelling_never_waits_and_is_that_of_the_cpu(monkeypatch, machine):
    labelling, x = case()
    rng = np.random.default_rng
    shuffled = labelling.shuffled(x, rng(1))
    expected = labelling.inside(shuffled), labelling.canonical(shuffled)
    monkeypatch.setattr(assignment, "select_backend", lambda *_: "cuda")
    with NoWaiting():
        again = labelling.shuffled(x, rng(1))
        found = labelling.inside(again), labelling.canonical(again)
    assert len(machine.launches) == 2
    assert torch.equal(again, shuffled)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert labelling.inside(found[1]).all()


def test_annealing_to_a_flat_target_with_labels_and_sweeps_never_waits(monkeypatch, machine):
    labelling, x = case()
    energy = ParticleDimer(n_solvent=6)
    biased = Biased(energy, energy.dimer_distance, Bias([0.8, 2.0], [0.0, 1.0]))
    whitening = Whitening.fit(x, "standardise")
    flow = Sequential(architecture("S", energy.dim, dtype=torch.float64), whitening)
    target = Target(flow, biased, labelling=labelling)
    moves = LocalMoves(without_double_well(energy), 1.0, labelling, (0.5, 2.5))
    local = DeviceLocalMoves(moves, target.device)
    settings = AnnealSettings(
        n_samples=64, islands=1, draws=2, sweeps=2, final_sweeps=4, final_frames=2
    )
    stages = [Stage(0.3, 0.05, 0.1), Stage(1.0, 0.05, 0.1)]
    monkeypatch.setattr(assignment, "select_backend", lambda *_: "cuda")
    with NoWaiting():
        pending = run_device_island(target, settings, stages, local, 3, lambda: None)
    found = pending.finished()
    assert {launch.kernel for launch in machine.launches} == {"assign", "dimer_sweeps"}
    alive = np.isfinite(found.log_weights)
    assert alive.any()
    assert labelling.inside(found.particles.x)[torch.from_numpy(alive)].all()
    assert found.sweep_acceptance[-1] > 0


def test_a_labelling_that_goes_through_the_host_is_noticed(monkeypatch):
    labelling, x = case()
    monkeypatch.setattr(assignment, "select_backend", lambda *_: "torch")  # SciPy
    with pytest.raises(Waited), NoWaiting():
        labelling.inside(x)


def test_every_order_of_the_particles_is_as_likely():
    labelling, _ = case(1)
    energy = ParticleDimer(n_solvent=6)
    names = torch.arange(float(energy.dim), dtype=torch.float64)
    orders = labelling.shuffled(names.expand(20000, -1), np.random.default_rng(3))
    first = orders.reshape(-1, 8, 2)
    assert torch.equal(first[..., 1], first[..., 0] + 1)  # particles stay whole
    assert torch.equal(first[:, :, 0].sort(1).values, names[::2].expand(20000, -1))
    for place, of in ((0, range(2)), (1, range(2)), (2, range(2, 8)), (7, range(2, 8))):
        counts = torch.bincount((first[:, place, 0] / 2).long(), minlength=8)
        assert counts[list(of)].sum() == 20000
        expected = 20000 / len(of)
        assert ((counts[list(of)] - expected).abs() < 5 * expected**0.5).all()
