"""The assignment's CUDA kernel, run on the CPU by the shim, against the CPU's and against SciPy."""

import numpy as np
import pytest
import torch
from bgfast_kernels import get
from bgfast_kernels.assignment import augmenting_path, cuda_kernels

from bgfast.ops import assignment_cuda
from bgfast.ops.assignment import assign
from tests.cuda_shim import COMPILER, Guarded, ShimError, launch_in_shim, planted
from tests.cuda_shim.fake_cupy import Machine, installed
from tests.waiting import NoWaiting

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")


def on_shim(x, reference):
    """Assign by the CUDA kernel; the permutation stands between canaries."""
    n, n_particles, n_dim = x.shape
    x, reference = np.ascontiguousarray(x), np.ascontiguousarray(reference)
    out = Guarded((n, n_particles), np.int64)
    addresses = (x.ctypes.data, reference.ctypes.data)
    sizes = (n, n_particles, n_dim)
    cuda_kernels.assign(*addresses, *sizes, out.address, device=0, stream=0)
    return out.check()


def sample(n, seed=0):
    arguments = get("assignment").sample(np.random.default_rng(seed), n, np.float64)
    return arguments["x"], arguments["reference"]


def scattered(n, n_particles, dim):
    """Configurations that have nothing to do with the reference: many paths to search."""
    rng = np.random.default_rng(n_particles)
    return rng.normal(size=(n, n_particles, dim)), rng.normal(size=(n_particles, dim))


@pytest.mark.parametrize("n", [1, 61])
def test_permutations_are_those_of_the_cpu_in_any_order_of_threads(n):
    x, reference = sample(n)
    expected = augmenting_path.assign(x, reference)
    with installed(Machine()) as machine:
        for machine.seed in range(3):
            np.testing.assert_array_equal(on_shim(x, reference), expected)


@pytest.mark.parametrize(("n", "dim"), [(1, 2), (7, 3), (33, 2), (70, 1)])
def test_any_particle_number_and_dimension(n, dim):
    x, reference = scattered(5, n, dim)
    with installed(Machine()):
        found = on_shim(x, reference)
    np.testing.assert_array_equal(found, augmenting_path.assign(x, reference))


def test_ties_give_a_best_permutation_and_keep_labels_where_they_can():
    axis = np.arange(4.0)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(16, 2)
    x = np.stack([grid + 0.5, np.zeros((16, 2)), grid])
    with installed(Machine()):
        found = on_shim(x, grid)
    totals = [((x[b][found[b]] - grid) ** 2).sum() for b in range(3)]
    assert totals == [8.0, (grid**2).sum(), 0.0]
    assert (np.sort(found) == np.arange(16)).all()
    assert (found[2] == np.arange(16)).all()
    with installed(Machine()):
        assert (on_shim(np.zeros((2, 6, 2)), np.zeros((6, 2))) == np.arange(6)).all()


def test_rows_out_of_range_keep_their_labels_and_do_not_touch_others():
    x, reference = sample(9, seed=1)
    x[2, 3, 1], x[5, 0, 0], x[7, 35, 0] = np.nan, 1e200, -np.inf
    with installed(Machine()):
        found = on_shim(x, reference)
        np.testing.assert_array_equal(found, augmenting_path.assign(x, reference))
        assert (found[[2, 5, 7]] == np.arange(36)).all()
        reference[0] = np.nan
        assert (on_shim(x, reference) == np.arange(36)).all()


DEFECTS = {  # all of them end
    "greedy": ("if (column_of[start] != FREE) continue;", "if (start >= 0) continue;"),
    "duals of columns": ("column_dual[j] -= slack;", ""),
    "duals of rows": ("if (row_of[j] != FREE) row_dual[row_of[j]] += slack;", ""),
    "another distance": ("squares = fma(dx, dx, squares);", "squares += fabs(dx);"),
    "beyond the last row": ("if (!row.own) return;", "if (lane == 0) permutation[n * N] = 0;"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(monkeypatch, defect):
    x, reference = scattered(61, 20, 2)
    expected = augmenting_path.assign(x, reference)
    with planted(*DEFECTS[defect]) as change:
        launch_in_shim(monkeypatch, 1, change)
        with pytest.raises((AssertionError, ShimError)):
            np.testing.assert_array_equal(on_shim(x, reference), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_goes_through_the_loader(monkeypatch, dtype):
    monkeypatch.setattr(assignment_cuda, "place", lambda x: {"device": 0, "stream": 3})
    x, reference = (torch.from_numpy(part).to(dtype) for part in sample(6))
    strided = x.repeat_interleave(2, -1)[..., ::2]
    with installed(Machine()) as machine, NoWaiting():
        found = assignment_cuda.assign(strided.reshape(2, 3, 36, 2), reference)
        nothing = assignment_cuda.assign(x[:0], reference)
    assert torch.equal(found.reshape(6, 36), assign(x, reference))
    assert nothing.shape == (0, 36)
    (launch,) = machine.launches
    assert (launch.kernel, launch.stream) == ("assign", 3)


def test_too_many_particles_are_refused():
    with pytest.raises(ValueError, match="up to 731 particles in 2 dimensions, got 800"):
        cuda_kernels.program(800, 2)
