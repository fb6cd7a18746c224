"""Drawing, weighing and moving samples on a device never waits for it: proven on the CPU."""

import numpy as np
import pytest
import torch

from bgfast.energies import DoubleWell
from bgfast.flows import architecture
from bgfast.sampling.anneal import hmc as moves
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.generate import generate
from tests.waiting import NoWaiting, no_network_kernels


@pytest.mark.parametrize("letters", ["R2", "QN"])
def test_drawing_and_weighing_never_waits(letters, monkeypatch):
    no_network_kernels(monkeypatch)
    flow = architecture(letters, 2, (8,))
    expected = [b.log_w for b in generate(flow, DoubleWell(2), 600, chunk=300)]
    with NoWaiting():
        found = [b.log_w for b in generate(flow, DoubleWell(2), 600, chunk=300)]
    assert torch.equal(torch.cat(found), torch.cat(expected))


def numbers(n, dim, step, rng, device):
    """As on a device: torch draws."""
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    like = {"generator": generator, "dtype": torch.float64}
    return torch.randn(n, dim, **like), step * torch.ones(n), torch.log(torch.rand(n, **like))


def test_a_move_never_waits(monkeypatch):
    monkeypatch.setattr(moves, "_random_numbers", numbers)
    target = Target(architecture("R2", 2, (8,)), DoubleWell(2))
    z = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    with NoWaiting():
        particles = target.particles(z)
        arguments = (0.5, 0.1, 3, np.random.default_rng(0), 200)
        moved, probability = moves.hmc(target, particles, *arguments)
    assert 0.5 < probability.mean() <= 1
    assert not torch.equal(moved.z, z)


def on_the_cpu(function):
    return lambda *size, device, **like: function(*size, **like)


def test_random_numbers_drawn_by_torch_have_the_distributions_of_those_drawn_by_numpy(monkeypatch):
    rng = np.random.default_rng(0)
    with monkeypatch.context() as patch:
        generator = torch.Generator
        patch.setattr(torch, "Generator", lambda device: generator())
        patch.setattr(torch, "randn", on_the_cpu(torch.randn))
        patch.setattr(torch, "rand", on_the_cpu(torch.rand))
        drawn = moves._random_numbers(20000, 2, 0.3, rng, torch.device("meta"))
    expected = moves._random_numbers(20000, 2, 0.3, rng, torch.device("cpu"))
    for a, b in zip(drawn, expected, strict=True):
        assert a.dtype == b.dtype == torch.float64
        assert a.shape == b.shape
        error = 5 * b.std() / 20000**0.5
        assert abs(a.mean() - b.mean()) < 2**0.5 * error
        assert abs(a.std() / b.std() - 1) < 0.1
    assert drawn[1].min() >= 0.3 * 0.8
    assert drawn[1].max() <= 0.3 * 1.2
