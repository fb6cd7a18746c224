"""The labelling of the dimer's particles on a device: never waits, and is that of the CPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bgfast.energies import ParticleDimer
from bgfast.experiments import dimer_anneal
from bgfast.experiments.dimer_anneal import DimerLabelling
from bgfast.ops import assignment, assignment_cuda
from bgfast.sampling.anneal.random_numbers import generator_of
from tests.cuda_shim import COMPILER
from tests.cuda_shim.fake_cupy import Machine, installed
from tests.waiting import NoWaiting, Waited


def case(n=60):
    energy = ParticleDimer(n_solvent=6)
    reference = energy.lattice_configuration(1.2)
    x = reference + 0.1 * torch.from_numpy(np.random.default_rng(0).normal(size=(n, energy.dim)))
    return DimerLabelling(SimpleNamespace(reference=reference.numpy().reshape(-1, 2))), x


@pytest.mark.skipif(COMPILER is None, reason="needs g++")
def test_it_never_waits_for_a_device(monkeypatch):
    def drawn(n, m, rng, device):  # as on a device: torch draws
        return torch.rand(n, m, generator=generator_of(rng, device), dtype=torch.float64)

    monkeypatch.setattr(dimer_anneal, "random_rows", drawn)
    labelling, x = case()
    rng = np.random.default_rng
    shuffled = labelling.shuffled(x, rng(1))
    expected = labelling.inside(shuffled), labelling.canonical(shuffled)
    monkeypatch.setattr(assignment, "select_backend", lambda *_: "cuda")
    monkeypatch.setattr(assignment_cuda, "place", lambda x: {"device": 0, "stream": 0})
    with installed(Machine()) as machine, NoWaiting():
        again = labelling.shuffled(x, rng(1))
        found = labelling.inside(again), labelling.canonical(again)
        inside = labelling.inside(found[1])
    assert len(machine.launches) == 3
    assert torch.equal(again, shuffled)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert inside.all()


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
