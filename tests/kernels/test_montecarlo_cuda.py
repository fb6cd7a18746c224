"""The Metropolis sweeps' CUDA kernel, run on the CPU by the shim, against the CPU's own sweeps.

Both draw from the same streams, so a walker makes the same moves, to rounding; what the CPU kernels
sample is tested in tests/sampling.
"""

import numpy as np
import pytest
import torch
from bgfast_kernels import montecarlo
from bgfast_kernels.dimer import DimerParameters, lattice
from bgfast_kernels.montecarlo import cuda_kernels

from bgfast.energies import ParticleDimer
from bgfast.ops import BackendError
from bgfast.sampling import MetropolisSampler, metropolis_cuda
from tests import montecarlo_shim as shim
from tests.cuda_shim import COMPILER, ShimError, launch_in_shim, planted
from tests.cuda_shim.fake_cupy import Machine, installed

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

N_WALKERS = 19


def start(p, **options):
    """Walkers, some with overlapping and some with far particles."""
    x = lattice(np.random.default_rng(0), N_WALKERS, np.float64, p)
    x[1, -2:] = x[1, :2] + 1e-3
    x[2, -1] = 2500.0
    system = montecarlo.dimer(p)
    return system, shim.walkers_at(system, x, **options)


def compare(p, n_frames, stride, moves="particle", **options):
    """Run both kernels from the same start; return the acceptance."""
    system, walkers = start(p, **options)
    acceptance = shim.compare(system, moves, walkers, n_frames, stride)
    ordinary = np.arange(N_WALKERS) > 2  # not the walker that left an energy of 1e24
    assert walkers.drift[ordinary].max() < 1e-8
    return acceptance


@pytest.mark.parametrize("n_solvent", [0, 1, 36, 150])
def test_walkers_make_the_moves_of_the_cpu(n_solvent):
    with installed(Machine()):
        p = DimerParameters(n_solvent, l=3.0 if n_solvent < 100 else 6.0)
        acceptance = compare(p, 2, 3 if n_solvent < 100 else 1)
    assert 0.05 < acceptance < 0.95


@pytest.mark.parametrize("stride", [1, 2, 5])
def test_every_other_sweep_goes_backwards_if_asked_for(stride):
    with installed(Machine()):
        compare(DimerParameters(3), 2, stride, moves="particle-palindrome")


def test_bias_interval_and_temperature_count():
    with installed(Machine()):
        free = compare(DimerParameters(2), 3, 4)
        compare(DimerParameters(2), 3, 4, bias=(300.0, 1.2))
        assert compare(DimerParameters(2), 3, 4, interval=(0.75, 2.3)) < free
        assert compare(DimerParameters(2), 3, 4, tau=5.0) > free


def test_several_calls_and_any_order_of_threads_give_the_same_bits():
    p = DimerParameters(5)
    with installed(Machine()) as machine:
        system, whole = start(p)
        frames, energies = shim.advance(system, "particle", whole, 4, 2)
        for machine.seed in range(1, 4):
            _, parts = start(p)
            pieces = [shim.advance(system, "particle", parts, 1, 2) for _ in range(4)]
            assert np.array_equal(np.concatenate([f for f, _ in pieces], 1), frames)
            assert np.array_equal(np.concatenate([e for _, e in pieces], 1), energies)
            assert np.array_equal(parts.states, whole.states)


def test_too_many_particles_are_refused():
    with pytest.raises(ValueError, match="have up to 640 coordinates, got 800"):
        cuda_kernels.program("dimer", "particle", 800)


DEFECTS = {
    "old place still read": ("__syncwarp();  // every lane has read the old place", ""),
    "new place read too early": ("}\n                __syncwarp();\n", "}\n"),
    "walls forgotten": ("change += wall_energy(new_place, p) - wall_energy(places[i], p);", ""),
    "never backwards": ("palindromic && s % 2 == 1 ? N - 1 - k : k", "k"),
    "uniform drawn in vain": ("cost < NEVER && next", "next"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(monkeypatch, defect):
    with planted(*DEFECTS[defect]) as change:
        launch_in_shim(monkeypatch, 1, change)
        with pytest.raises((AssertionError, ShimError)):
            compare(DimerParameters(20), 2, 3, moves="particle-palindrome")


def test_a_sampler_hands_its_walkers_to_the_device_and_takes_them_back():
    energy = ParticleDimer(n_solvent=4)
    x0 = lattice(np.random.default_rng(0), 5, np.float64, energy.params)
    with shim.tensors_of_the_cpu() as machine:
        on_cpu, on_device = (
            MetropolisSampler(energy, x0, seed=3, device=device)
            for device in (None, torch.device("cpu"))
        )
        for _ in range(2):
            expected, found = on_cpu.run(6, stride=2), on_device.run(6, stride=2)
            np.testing.assert_allclose(found.x, expected.x, rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-10, atol=1e-10)
            np.testing.assert_array_equal(found.acceptance, expected.acceptance)
    assert machine.launches


def test_a_device_that_cannot_sample_is_refused(monkeypatch):
    dimer = ParticleDimer(n_solvent=4)
    x0 = lattice(np.random.default_rng(0), 5, np.float64, dimer.params)
    with pytest.raises(ValueError, match="device must be a CUDA device or None for the CPU"):
        MetropolisSampler(dimer, x0, device="cpu")
    with pytest.raises(ValueError, match="have up to 640 coordinates, got 644"):
        MetropolisSampler(ParticleDimer(n_solvent=320), np.zeros((2, 644)), device="cuda")
    monkeypatch.setattr(metropolis_cuda, "why_no_cuda", lambda: "no device")
    with pytest.raises(BackendError, match="Monte Carlo cannot run on cuda: no device"):
        MetropolisSampler(dimer, x0, device="cuda")
