"""CUDA kernels that move all coordinates at once, run by the shim, against the CPU's own.

Both draw the same normal and uniform numbers, so a walker makes the same moves, to rounding; what
the CPU kernels sample is tested in tests/sampling.
"""

import numpy as np
import pytest
import torch
from bgfast_kernels import cuda, random
from bgfast_kernels.dimer import lattice
from bgfast_kernels.montecarlo import cuda_kernels

from bgfast.energies import DoubleWell, MuellerBrown, ParticleDimer
from bgfast.sampling import MetropolisSampler
from bgfast.sampling.metropolis import SYSTEMS
from tests import montecarlo_shim as shim
from tests.cuda_shim import COMPILER, Guarded, ShimError, compile_module, launch_in_shim, planted
from tests.cuda_shim.fake_cupy import Machine, address, installed

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

# Module and step size. 13 coordinates: one lane per walker still; 41: four; 3 particles: eight.
CASES = {
    "double well": (DoubleWell(2, a1=0.7, k=2.0), 0.6),
    "double well in one dimension": (DoubleWell(1), 0.6),
    "double well, one lane": (DoubleWell(13), 0.3),
    "double well, more lanes": (DoubleWell(41), 0.2),
    "mueller-brown": (MuellerBrown(), 0.15),
    "dimer alone": (ParticleDimer(n_solvent=0), 0.1),
    "dimer, odd": (ParticleDimer(n_solvent=3), 0.05),
    "dimer": (ParticleDimer(), 0.01),
}


def start(case, n, **options):
    """Walkers about the middle, some of them far out."""
    module, step = CASES[case]
    system = SYSTEMS[type(module).__name__](module)
    rng = np.random.default_rng(0)
    if isinstance(module, ParticleDimer):
        x = lattice(rng, n, np.float64, module.params)
        x[1:2, -2:] = x[1:2, :2] + 1e-3
    else:
        x = rng.normal(0, 1.2, (n, module.dim))
    x[2:3, -1] = 2500.0
    return system, shim.walkers_at(system, x, **{"step": step, **options})


@pytest.mark.parametrize("case", CASES)
def test_walkers_make_the_moves_of_the_cpu(case):
    n = 9 if case == "dimer" else 19 if case.startswith("dimer") else 141
    with installed(Machine()):
        system, walkers = start(case, n)
        assert 0.05 < shim.compare(system, "all", walkers, 2, 8) < 0.95
        system, alone = start(case, 1)
        shim.compare(system, "all", alone, 1, 3)


@pytest.mark.parametrize("case", ["double well", "mueller-brown", "dimer alone"])
def test_bias_interval_and_temperature_count(case):
    interval = (0.75, 2.3) if case == "dimer alone" else (-2.0, 3000.0)

    def run(**options):
        system, walkers = start(case, 60, **options)
        return shim.compare(system, "all", walkers, 3, 10)

    with installed(Machine()):
        free = run()
        assert run(interval=interval) < free
        assert run(tau=5.0) > free
        assert run(bias=(300.0, 1.2)) != free


@pytest.mark.parametrize("case", ["double well", "double well, more lanes", "dimer, odd"])
def test_several_calls_and_any_order_of_threads_give_the_same_bits(case):
    with installed(Machine()) as machine:
        system, whole = start(case, 19, bias=(3.0, 1.1))
        frames, energies = shim.advance(system, "all", whole, 4, 5)
        for machine.seed in range(1, 4):
            system, parts = start(case, 19, bias=(3.0, 1.1))
            pieces = [shim.advance(system, "all", parts, 1, 5) for _ in range(4)]
            assert np.array_equal(np.concatenate([f for f, _ in pieces], 1), frames)
            assert np.array_equal(np.concatenate([e for _, e in pieces], 1), energies)
            assert np.array_equal(parts.states, whole.states)
            assert np.array_equal(parts.accepted, whole.accepted)


NORMALS = """#include "common.cuh"
#include "random.cuh"
extern "C" __global__ void fill(
    unsigned long long *state, const double *layers, double *out, int n) {
    if (threadIdx.x > 0) return;
    Stream s = {state[0], state[1], state[2], state[3]};
    for (int i = 0; i < n; ++i) out[i] = next_normal(s, layers);
    state[0] = s.a, state[1] = s.b, state[2] = s.c, state[3] = s.count;
}
"""
NORMAL_DEFECTS = {
    "sign": ("bits >> 8 & 1", "bits >> 9 & 1"),
    "sign of the tail": ("bits >> 17 & 1", "bits >> 16 & 1"),
    "tail": ("while (!(height + height > beyond * beyond))", "while (false)"),
    "layers": ("(layer[3] - layer[2])", "(layer[2] - layer[3])"),
}


def normals(replaced=("", "")):
    """Return normal numbers of the CUDA source and of the CPU, and the streams after them."""
    source = cuda._INCLUDE.sub(lambda match: cuda._inline(match[1], set()), NORMALS)
    source = "#define REAL double\n" + source.replace(*replaced)
    tables, (state,) = random.ziggurat_tables().copy(), random.streams(11, 1)
    out, expected, on_cpu = Guarded(400_000, np.float64), np.empty(400_000), state.copy()
    arguments = (address(state), address(tables), out.address, np.int32(len(expected)))
    compile_module(source).launch("fill", (1,), (32,), arguments)
    random.fill_normal(on_cpu, tables, expected)
    return out.check(), expected, state, on_cpu


def test_normal_numbers_are_those_of_the_cpu():
    found, expected, state, on_cpu = normals()
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    np.testing.assert_array_equal(state, on_cpu)
    assert (np.abs(expected) > 3.6541528853610088).sum() > 50  # the tail was seen


@pytest.mark.parametrize("defect", NORMAL_DEFECTS)
def test_a_defect_of_the_normal_numbers_is_found(defect):
    found, expected, *_ = normals(NORMAL_DEFECTS[defect])
    assert not np.allclose(found, expected, rtol=1e-14, atol=0)


DEFECTS = {
    "trial still read": ("__syncwarp();  // every lane has read the last trial", "", "dimer, odd"),
    "trial read too early": (
        "}\n            __syncwarp();\n            const real limit",
        "}\n            const real limit",
        "dimer, odd",
    ),
    "interval open": ("low <= q && q <= high && ", "", "mueller-brown"),
    "bias forgotten": ("stiffness, q - centre)", "real(0), q - centre)", "double well"),
    "bias forgotten at the start": (
        "with_bias(energy, stiffness, coordinate(trial) - centre)",
        "energy",
        "double well",
    ),
    "no far map": ("places[i] = fold(trial[i], p);", "places[i] = trial[i];", "double well"),
    "energy kept": ("energy = moved;", "", "mueller-brown"),
    "stream not kept": ("states[4 * w + 3] = stream.count;", "", "double well"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(monkeypatch, defect):
    right, wrong, case = DEFECTS[defect]
    options = {"bias": (30.0, 1.2), "interval": (0.3, 3000.0)}
    system, walkers = start(case, 19, **options)
    with planted(right, wrong) as change:
        launch_in_shim(monkeypatch, 1, change)
        with pytest.raises((AssertionError, ShimError)):
            shim.compare(system, "all", walkers, 4, 6)


def test_a_kernel_is_there_for_every_kind_of_moves_of_the_cpu():
    for module, _ in CASES.values():
        system = SYSTEMS[type(module).__name__](module)
        assert set(cuda_kernels.MOVES[system.name]) == set(system.kernels)
    with pytest.raises(ValueError, match="no moves 'particle' of the double_well"):
        cuda_kernels.program("double_well", "particle", 2)


@pytest.mark.parametrize("case", ["double well", "mueller-brown", "dimer, odd"])
def test_a_sampler_hands_its_walkers_to_the_device_and_takes_them_back(case):
    module, step = CASES[case]
    _, walkers = start(case, 7)
    with shim.tensors_of_the_cpu() as machine:
        on_cpu, on_device = (
            MetropolisSampler(module, walkers.x, step=step, moves="all", seed=3, device=device)
            for device in (None, torch.device("cpu"))
        )
        for sampler in (on_cpu, on_device):
            sampler.adapt(25)
        np.testing.assert_array_equal(on_device.step, on_cpu.step)
        expected, found = on_cpu.run(6, stride=2), on_device.run(6, stride=2)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(found.acceptance, expected.acceptance)
    assert {launch.kernel for launch in machine.launches} == {"all_coordinates"}
