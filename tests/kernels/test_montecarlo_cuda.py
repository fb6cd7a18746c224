"""The Metropolis sweeps' CUDA kernel, run on the CPU by the shim, against the CPU's own sweeps.

Both draw from the same streams, so a walker makes the same moves, to rounding; what the CPU kernels
sample is tested in tests/sampling.
"""

import copy
import dataclasses

import numpy as np
import pytest
from bgfast_kernels import cuda, montecarlo, random
from bgfast_kernels.dimer import DimerParameters, lattice
from bgfast_kernels.montecarlo import cuda_kernels

from tests.cuda_shim import COMPILER, Guarded, ShimError, compile_module
from tests.cuda_shim.fake_cupy import Machine, installed

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

N_WALKERS = 19


def start(p, bias=(0.0, 0.0), interval=(0.0, np.inf), tau=1.0):
    """Walkers, some with overlapping and some with far particles."""
    system = montecarlo.dimer(p)
    x = lattice(np.random.default_rng(0), N_WALKERS, np.float64, p)
    x[1, -2:] = x[1, :2] + 1e-3
    x[2, -1] = 2500.0
    u, _ = montecarlo.evaluate(system, x)
    ones = np.ones(N_WALKERS)
    return system, montecarlo.Walkers(
        x=x,
        u=u,
        states=random.streams(7, N_WALKERS),
        tau=tau * ones,
        step=0.15 * ones,
        bias=np.tile(bias, (N_WALKERS, 1)),
        interval=np.tile(interval, (N_WALKERS, 1)),
        accepted=np.zeros(N_WALKERS, np.int64),
        drift=np.zeros(N_WALKERS),
    )


def sweep(p, walkers, n_frames, stride):
    frames = Guarded((N_WALKERS, n_frames, p.dim), np.float64)
    energies = Guarded((N_WALKERS, n_frames), np.float64)
    addresses = {
        field.name: getattr(walkers, field.name).ctypes.data
        for field in dataclasses.fields(walkers)
    }
    targets = (frames.address, energies.address)
    cuda_kernels.dimer_sweeps(
        addresses, N_WALKERS, p, n_frames, stride, *targets, device=0, stream=0
    )
    return frames.check(), energies.check()


def compare(p, n_frames, stride, **options):
    """Run both kernels from the same start; return the acceptance."""
    system, walkers = start(p, **options)
    expected = copy.deepcopy(walkers)
    frames, energies = montecarlo.advance(system, "particle", expected, n_frames, stride)
    found_frames, found_energies = sweep(p, walkers, n_frames, stride)
    np.testing.assert_array_equal(walkers.states, expected.states)
    np.testing.assert_array_equal(walkers.accepted, expected.accepted)
    np.testing.assert_allclose(found_frames, frames, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found_energies, energies, rtol=1e-11, atol=1e-10)
    np.testing.assert_array_equal(walkers.x, found_frames[:, -1])
    np.testing.assert_array_equal(walkers.u, found_energies[:, -1])
    ordinary = np.arange(N_WALKERS) > 2  # not the walker that left an energy of 1e24
    assert walkers.drift[ordinary].max() < 1e-8
    return walkers.accepted.mean() / (n_frames * stride * p.n_particles)


@pytest.mark.parametrize("n_solvent", [0, 1, 36, 150])
def test_walkers_make_the_moves_of_the_cpu(n_solvent):
    with installed(Machine()):
        p = DimerParameters(n_solvent, l=3.0 if n_solvent < 100 else 6.0)
        acceptance = compare(p, 2, 3 if n_solvent < 100 else 1)
    assert 0.05 < acceptance < 0.95


def test_bias_interval_and_temperature_count():
    with installed(Machine()):
        free = compare(DimerParameters(2), 3, 4)
        compare(DimerParameters(2), 3, 4, bias=(300.0, 1.2))
        assert compare(DimerParameters(2), 3, 4, interval=(0.75, 2.3)) < free
        assert compare(DimerParameters(2), 3, 4, tau=5.0) > free


def test_several_calls_and_any_order_of_threads_give_the_same_bits():
    p = DimerParameters(5)
    with installed(Machine()) as machine:
        _, whole = start(p)
        frames, energies = sweep(p, whole, 4, 2)
        for machine.seed in range(1, 4):
            _, parts = start(p)
            pieces = [sweep(p, parts, 1, 2) for _ in range(4)]
            assert np.array_equal(np.concatenate([f for f, _ in pieces], 1), frames)
            assert np.array_equal(np.concatenate([e for _, e in pieces], 1), energies)
            assert np.array_equal(parts.states, whole.states)


def test_too_many_particles_are_refused():
    with pytest.raises(ValueError, match="take up to 320 particles, got 400"):
        cuda_kernels.sweeps_program(400)


DEFECTS = {
    "old place still read": ("__syncwarp();  // every lane has read the old place", ""),
    "new place read too early": ("}\n                __syncwarp();\n", "}\n"),
    "walls forgotten": ("change += wall_energy(new_place, p) - wall_energy(places[i], p);", ""),
    "uniform drawn in vain": ("cost < NEVER && next", "next"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(monkeypatch, defect):
    right, wrong = DEFECTS[defect]

    def launch(program, kernel, *, grid, block, arguments, device, stream):
        source = program.source()
        assert source.count(right) == 1
        module = compile_module(source.replace(right, wrong))
        module.launch(kernel, (grid,), (block,), arguments, seed=1)

    monkeypatch.setattr(cuda, "launch", launch)
    with pytest.raises((AssertionError, ShimError)):
        compare(DimerParameters(20), 2, 3)
