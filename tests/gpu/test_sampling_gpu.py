"""On a GPU: Metropolis moves are those of the CPU, and sample what the CPU samples."""

import numpy as np
import pytest
import torch
from bgfast_kernels.dimer import lattice

from bgfast.energies import DoubleWell, MuellerBrown, ParticleDimer
from bgfast.sampling import MetropolisSampler


def samplers(gpu, n_walkers, n_solvent=36, **options):
    energy = ParticleDimer(n_solvent=n_solvent)
    x0 = lattice(np.random.default_rng(0), n_walkers, np.float64, energy.params)
    return [
        MetropolisSampler(energy, x0, seed=3, device=device, **options) for device in (None, gpu)
    ]


def assert_same_moves(on_cpu, on_device, n_steps, stride):
    expected, found = (sampler.run(n_steps, stride=stride) for sampler in (on_cpu, on_device))
    np.testing.assert_array_equal(found.acceptance, expected.acceptance)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("moves", ["particle", "particle-palindrome"])
def test_sweeps_make_the_moves_of_the_cpu(gpu, moves):
    assert_same_moves(*samplers(gpu, 100, moves=moves), 4, 2)


def test_the_dimer_moves_as_a_whole_as_on_the_cpu(gpu):
    assert_same_moves(*samplers(gpu, 100, moves="all", step=0.01, bias=(20.0, 1.6)), 40, 10)


@pytest.mark.parametrize("system", [DoubleWell(2), DoubleWell(50), MuellerBrown()], ids=str)
@pytest.mark.parametrize("n_walkers", [1, 61, 1000])
def test_all_coordinates_move_as_on_the_cpu(gpu, system, n_walkers):
    x0 = np.random.default_rng(0).normal(0, 1, (n_walkers, system.dim))
    options = {"step": 0.2, "seed": 3, "bias": (2.0, 0.5), "interval": (-9.0, 9.0)}
    on_cpu, on_device = (
        MetropolisSampler(system, x0, device=device, **options) for device in (None, gpu)
    )
    assert_same_moves(on_cpu, on_device, 40, 10)


def test_the_double_well_is_sampled_as_quadrature_says(gpu):
    start = np.zeros((4096, 2))
    sampler = MetropolisSampler(DoubleWell(2), start, tau=4.0, step=0.8, seed=1, device=gpu)
    sampler.run(2000, 2000)
    x = sampler.run(2000, 100).x
    grid = np.linspace(-4, 4, 20_001)
    density = np.exp(-(grid**4 - 6 * grid**2 + grid) / 4.0)
    density /= density.sum()
    for power in (1, 2):
        means = (x[..., 0] ** power).mean(1)
        error = means.std(ddof=1) / len(means) ** 0.5
        assert abs(means.mean() - (density * grid**power).sum()) < 5 * error


def test_energies_are_sampled_with_the_mean_of_the_cpu(gpu):
    means = []
    for sampler in samplers(gpu, 400):
        energy = sampler.run(600, stride=20).energy[:, 10:].mean(1)
        means.append((energy.mean(), energy.std() / len(energy) ** 0.5))
    (a, error_a), (b, error_b) = means
    assert abs(a - b) < 5 * np.hypot(error_a, error_b)


def test_running_energies_do_not_drift(gpu):
    _, on_device = samplers(gpu, 200)
    trajectory = on_device.run(500, stride=500)
    assert on_device.drift < 1e-6
    energy = ParticleDimer().energy(torch.from_numpy(trajectory.x[:, -1]))
    np.testing.assert_allclose(trajectory.energy[:, -1], energy.numpy(), rtol=1e-10)
