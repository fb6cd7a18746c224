"""On a GPU: Metropolis sweeps make the moves of the CPU, and sample what the CPU samples."""

import numpy as np
import torch
from bgfast_kernels.dimer import lattice

from bgfast.energies import ParticleDimer
from bgfast.sampling import MetropolisSampler


def samplers(gpu, n_walkers, n_solvent=36):
    energy = ParticleDimer(n_solvent=n_solvent)
    x0 = lattice(np.random.default_rng(0), n_walkers, np.float64, energy.params)
    return [MetropolisSampler(energy, x0, seed=3, device=device) for device in (None, gpu)]


def test_walkers_make_the_moves_of_the_cpu(gpu):
    on_cpu, on_device = samplers(gpu, 100)
    expected, found = on_cpu.run(4, stride=2), on_device.run(4, stride=2)
    np.testing.assert_array_equal(found.acceptance, expected.acceptance)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-9)


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
