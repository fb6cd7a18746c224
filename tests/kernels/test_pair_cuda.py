"""The CUDA kernels of pair potentials, run on the CPU by the shim, against float64."""

import numpy as np
import pytest
import torch
from bgfast_kernels.pair import PairParameters, cuda_kernels

from bgfast.ops.pair_reference import reference_energy_grad, reference_hvp
from tests.cuda_shim import COMPILER, Guarded, ShimError, launch_in_shim, planted
from tests.pair_cases import assert_close, configurations, magnitudes

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

N_ROWS = 61  # fills neither a block nor a warp

# potential, dimensions, particles, lanes; None for what `lanes` chooses
CASES = [
    ("lennard_jones", 3, 13, None),
    ("lennard_jones", 2, 2, None),
    ("repulsion", 2, 38, None),
    ("lennard_jones", 3, 55, None),
    ("lennard_jones", 3, 64, None),
    ("repulsion", 3, 3, 32),
    ("lennard_jones", 3, 38, 4),  # two passes
    ("lennard_jones", 3, 300, 8),  # several passes and tiles
]
every_case = pytest.mark.parametrize(("potential", "n_dim", "n_particles", "n_lanes"), CASES)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def parameters(potential="lennard_jones", n_dim=3):
    return PairParameters(potential, n_dim, eps=1.3, sigma=1.1, trap=0.7)


def energy_grad(x, p, n_lanes=None):
    u, grad = Guarded(len(x), x.dtype), Guarded(x.shape, x.dtype)
    cuda_kernels.pair_energy_grad(
        x.ctypes.data,
        len(x),
        x.shape[1] // p.n_dim,
        p,
        str(x.dtype),
        u.address,
        grad.address,
        device=0,
        stream=0,
        n_lanes=n_lanes,
    )
    return u.check(), grad.check()


def hvp(x, v, p, n_lanes=None):
    out = Guarded(x.shape, x.dtype)
    cuda_kernels.pair_hvp(
        x.ctypes.data,
        v.ctypes.data,
        len(x),
        x.shape[1] // p.n_dim,
        p,
        str(x.dtype),
        out.address,
        device=0,
        stream=0,
        n_lanes=n_lanes,
    )
    return out.check()


def check(x, p, n_lanes):
    v = np.random.default_rng(1).standard_normal(x.shape).astype(x.dtype)
    found = (*energy_grad(x, p, n_lanes), hvp(x, v, p, n_lanes))
    exact = [torch.from_numpy(a.astype(np.float64)) for a in (x, v)]
    expected = (*reference_energy_grad(exact[0], p), reference_hvp(*exact, p))
    assert_close(found, expected, magnitudes(x, v, p))


@every_dtype
@every_case
def test_everything_agrees_with_float64(monkeypatch, potential, n_dim, n_particles, n_lanes, dtype):
    launch_in_shim(monkeypatch)
    p = parameters(potential, n_dim)
    check(configurations(N_ROWS if n_particles < 55 else 9, dtype, p, n_particles), p, n_lanes)


@every_dtype
def test_one_configuration_and_any_order_of_threads_give_the_same_bits(monkeypatch, dtype):
    p = parameters()
    x = configurations(N_ROWS, dtype, p, 13)
    results = []
    for seed in range(3):
        launch_in_shim(monkeypatch, seed)
        results.append((*energy_grad(x, p), hvp(x, x[::-1].copy(), p)))
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    u, grad = energy_grad(x[17:18].copy(), p)
    assert u == results[0][0][17]
    assert np.array_equal(grad[0], results[0][1][17])


@every_dtype
def test_a_nan_stays_in_its_row(monkeypatch, dtype):
    launch_in_shim(monkeypatch)
    p = parameters()
    x = configurations(N_ROWS, dtype, p, 13)
    clean = energy_grad(x, p)
    others = np.arange(N_ROWS) != 20
    for column in (0, 38):
        dirty = x.copy()
        dirty[20, column] = np.nan
        u, grad = energy_grad(dirty, p)
        assert np.isnan(u[20])
        assert np.isnan(grad[20]).any()
        assert np.array_equal(u[others], clean[0][others])
        assert np.array_equal(grad[others], clean[1][others])


@every_dtype
def test_every_finite_configuration_has_a_finite_energy_and_gradient(monkeypatch, dtype):
    launch_in_shim(monkeypatch)
    p = parameters()
    most = np.finfo(dtype).max
    x = np.zeros((5, 39), dtype)
    x[1:4] = np.array([0.5, most, -most])[:, None]
    x[4, ::3] = most
    x[4, 1::3] = np.finfo(dtype).tiny
    for numbers in (*energy_grad(x, p), hvp(x, np.ones_like(x), p)):
        assert np.isfinite(numbers).all()


# Each defect, planted in the source, has to fail the checks above.
DEFECTS = {
    "dropped barrier": ("__syncwarp();\n        for (int j = 0;", "for (int j = 0;"),
    "lost bounds guard": ("{group < n ? group : n - 1, group < n}", "{group, true}"),
    "particle paired with itself": ("return i == j;", "return false;"),
    "wrong sign": ("p.trap * off;", "-p.trap * off;"),
    "mean of one lane": ("group_sum<G>(mean[axis])", "mean[axis]"),
    "energy of one lane": ("= group_sum<G>(real(0.5)", "= (real(0.5)"),
    "padding is a particle": ("PADDING * real(i + 1)", "real(0.1) * real(i)"),
    "core left out": ("p.core_slope * (s - outer)", "real(0)"),
    "core is curved": ("s < p.s_core ? real(0) : p.bend", "p.bend"),
    "phi is straight": ("fold_curvature(x[k], p) * v[k]", "real(0)"),
    "early return": ("<G>(n);", "<G>(n); if (!row.own) return;"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(monkeypatch, defect):
    p = parameters()
    x = configurations(2 * N_ROWS, "float64", p, 13)[:N_ROWS]  # memory behind the rows is readable
    with planted(*DEFECTS[defect]) as change:
        launch_in_shim(monkeypatch, change=change)
        with pytest.raises((AssertionError, ShimError)):
            check(x, p, 8)
