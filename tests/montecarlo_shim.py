"""Walkers moved by the CUDA kernels in the shim, beside the same walkers moved by the CPU's."""

import copy
import dataclasses
from contextlib import contextmanager
from unittest import mock

import numpy as np
from bgfast_kernels import montecarlo, random
from bgfast_kernels.montecarlo import cuda_kernels

from bgfast.sampling import metropolis_cuda
from tests.cuda_shim import Guarded
from tests.cuda_shim.fake_cupy import Machine, installed


@contextmanager
def tensors_of_the_cpu():
    """Let walkers in tensors of the CPU be moved by the CUDA kernels, in the shim."""
    with (
        mock.patch.object(metropolis_cuda, "check", lambda system, moves, device: device),
        mock.patch.object(metropolis_cuda, "place", return_value={"device": 0, "stream": 0}),
        installed(Machine()) as machine,
    ):
        yield machine


def walkers_at(system, x, bias=(0.0, 0.0), interval=(-np.inf, np.inf), tau=1.0, step=0.15):
    n, ones = len(x), np.ones(len(x))
    u, _ = montecarlo.evaluate(system, x)
    return montecarlo.Walkers(
        x=np.ascontiguousarray(x),
        u=u,
        states=random.streams(7, n),
        tau=tau * ones,
        step=step * ones,
        bias=np.tile(bias, (n, 1)),
        interval=np.tile(interval, (n, 1)),
        accepted=np.zeros(n, np.int64),
        drift=np.zeros(n),
    )


def advance(system, moves, walkers, n_frames, stride):
    """As montecarlo.advance, by the CUDA kernel; outputs stand between canaries."""
    n = len(walkers.x)
    frames, energies = (
        Guarded(shape, np.float64) for shape in ((n, n_frames, system.dim), (n, n_frames))
    )
    tables = random.ziggurat_tables().copy()
    fields = dataclasses.fields(walkers)
    places = cuda_kernels.Places(
        walkers={field.name: getattr(walkers, field.name).ctypes.data for field in fields},
        parameters=system.parameters.ctypes.data,
        tables=tables.ctypes.data,
        frames=frames.address,
        energies=energies.address,
    )
    cuda_kernels.advance(system, moves, n, n_frames, stride, places, device=0, stream=0)
    return frames.check(), energies.check()


def compare(system, moves, walkers, n_frames, stride):
    """Run both kernels from the same start; return the acceptance."""
    expected = copy.deepcopy(walkers)
    frames, energies = montecarlo.advance(system, moves, expected, n_frames, stride)
    found_frames, found_energies = advance(system, moves, walkers, n_frames, stride)
    np.testing.assert_array_equal(walkers.states, expected.states)
    np.testing.assert_array_equal(walkers.accepted, expected.accepted)
    np.testing.assert_allclose(found_frames, frames, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found_energies, energies, rtol=1e-11, atol=1e-10)
    np.testing.assert_array_equal(walkers.x, found_frames[:, -1])
    np.testing.assert_array_equal(walkers.u, found_energies[:, -1])
    proposals = n_frames * stride * system.moves_per_step[moves]
    return walkers.accepted.mean() / proposals
