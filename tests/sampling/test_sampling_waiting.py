"""Drawing, weighing and moving samples on a device never waits for it: proven on the CPU."""

import numpy as np
import pytest
import torch

from bgfast.energies import DoubleWell
from bgfast.flows import architecture
from bgfast.sampling.anneal import device_island
from bgfast.sampling.anneal import hmc as moves
from bgfast.sampling.anneal.island import Stage, run_island
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.anneal.settings import AnnealSettings
from bgfast.sampling.anneal.weights import ess_share, systematic
from bgfast.sampling.generate import generate
from tests.waiting import NoWaiting


@pytest.mark.parametrize("letters", ["R2", "QN"])
def test_drawing_and_weighing_never_waits(letters):
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


STAGES = [Stage(beta, 0.4, 0.0) for beta in (0.1, 0.3, 0.6, 1.0)]
SETTINGS = AnnealSettings(n_samples=500, islands=1, draws=2, resample_below=0.9, chunk=600)


def island(run, seed):
    target = Target(architecture("N", 2, (8,)), DoubleWell(2))
    return run(target, SETTINGS, STAGES, seed=seed, progress=lambda: None)


def test_a_population_never_waits(monkeypatch):
    monkeypatch.setattr(moves, "_random_numbers", numbers)
    expected = island(device_island.run_device_island, 3)
    target = Target(architecture("N", 2, (8,)), DoubleWell(2))
    with NoWaiting(copies=True):  # results leave at the end
        found = device_island.run_device_island(target, SETTINGS, STAGES, 3, lambda: None)
    assert np.array_equal(found.log_weights, expected.log_weights)
    assert (found.acceptance > 0.3).all()
    assert len(np.unique(found.ancestor)) < 500


def test_a_population_on_a_device_estimates_what_one_on_the_cpu_does():
    def of_cpu(target, settings, stages, seed, progress):
        return run_island(target, settings, stages, None, seed, progress)

    found, expected = (
        np.array([island(run, seed).log_z for seed in range(12)])
        for run in (device_island.run_device_island, of_cpu)
    )
    error = np.hypot(found.std(ddof=1), expected.std(ddof=1)) / 12**0.5
    assert error < 0.1
    assert abs(found.mean() - expected.mean()) < 4 * error
    # On the CPU both draw the same numbers but where they resample: nearly the same estimates.
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("n", [100, 1000])
def test_resampling_on_a_device_is_that_on_the_cpu(n, spread):
    rng = np.random.default_rng(0)
    log_weights = spread * rng.normal(size=1000) - 500.0
    log_weights[[0, 17, 999]] = -np.inf
    weights = torch.from_numpy(log_weights)
    found = device_island.systematic(weights, n, 0.37).numpy()
    assert np.array_equal(found, systematic(log_weights, n, 0.37))
    assert not np.isin(found, [0, 17, 999]).any()
    assert device_island.ess_share(weights).item() == pytest.approx(ess_share(log_weights))


def test_a_population_without_weight_stays_one():
    weights = torch.full((5,), -torch.inf, dtype=torch.float64)
    assert device_island.ess_share(weights) == 0
    index = device_island.systematic(weights, 3, 0.5)
    assert ((index >= 0) & (index < 5)).all()
