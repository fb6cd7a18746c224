"""The dimer's CUDA kernels, run on the CPU by the shim: every mapping, against float64."""

import numpy as np
import pytest
import torch
from bgfast_kernels.dimer import DimerParameters, cuda_kernels, lattice
from bgfast_kernels.dimer.cuda_kernels import Mapping

from bgfast.ops.dimer_reference import reference_energy_grad, reference_hvp
from tests.cuda_shim import COMPILER, Guarded, ShimError, launch_in_shim, planted

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

ENERGY, GRADIENT = {"float32": 1e-6, "float64": 1e-13}, {"float32": 2e-6, "float64": 1e-13}
N_ROWS = 61  # fills neither a block nor a warp

# Number of particles, and how pairs are mapped to threads. First what `mapping` chooses, then the
# others a benchmark can ask for.
SHIPPED = [(n, cuda_kernels.mapping(n, "float32")) for n in (2, 3, 12, 38, 64, 70)]
SHIPPED += [(64, cuda_kernels.mapping(64, "float64"))]
OTHERS = [
    *((38, Mapping("symmetric", lanes)) for lanes in (2, 4, 16, 32)),
    *((38, Mapping("gather", lanes)) for lanes in (4, 8, 16, 32)),
    (2, Mapping("symmetric", 8)),
    (3, Mapping("gather", 32)),
    (300, Mapping("gather", 8)),  # several tiles
]
every_mapping = pytest.mark.parametrize(
    ("n_particles", "mapping"),
    SHIPPED + OTHERS,
    ids=lambda m: f"{m.kind}-{m.lanes}" if isinstance(m, Mapping) else str(m),
)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def parameters(n_particles):
    """Parameters of a fluid that is as dense for any number of particles above 70."""
    return DimerParameters(n_solvent=n_particles - 2, l=max(3.0, 3.0 * (n_particles / 70) ** 0.5))


def configurations(n, dtype, p):
    """Typical rows, and among them overlaps down to coincidence and far coordinates."""
    x = lattice(np.random.default_rng(0), n, np.float64, p)
    if n > 6:
        x[3] *= 2000.0
        if p.n_solvent:
            x[4, -2:] = x[4, :2] + 1e-3  # within the core
            x[5, -2:] = x[5, :2]
        if p.n_solvent > 20:
            x[6, 4:] = np.repeat(x[6, 4 : 4 + x[6, 4:].size // 2], 2)  # many overlaps
    return x.astype(dtype)


def energy_grad(x, p, mapping=None):
    u, grad = Guarded(len(x), x.dtype), Guarded(x.shape, x.dtype)
    address = (x.ctypes.data, len(x), p, str(x.dtype), u.address, grad.address)
    cuda_kernels.dimer_energy_grad(*address, device=0, stream=0, chosen=mapping)
    return u.check(), grad.check()


def hvp(x, v, p, mapping=None):
    out = Guarded(x.shape, x.dtype)
    address = (x.ctypes.data, v.ctypes.data, len(x), p, str(x.dtype), out.address)
    cuda_kernels.dimer_hvp(*address, device=0, stream=0, chosen=mapping)
    return out.check()


def sizes(x, p):
    """Return the reference, and what errors of energies and gradients are relative to, per row.

    The well cancels where it crosses zero, and d itself is rounded: its slope times d, and its
    curvature times d, are what rounding d once amounts to.
    """
    x = x.astype(np.float64)
    u, grad = (t.numpy() for t in reference_energy_grad(torch.from_numpy(x), p))
    folded = np.where(abs(x) > 1e3, 1e3 * (1 + np.log(np.maximum(abs(x), 1e3) / 1e3)), abs(x))
    folded = np.copysign(folded, x)
    d = np.hypot(folded[:, 0] - folded[:, 2], folded[:, 1] - folded[:, 3])
    q = abs(d - p.d0)
    u_size = np.maximum(abs(u), d * (p.a * q**3 + p.b * q + abs(p.c)))
    g_size = np.maximum(abs(grad).max(1), d * (3 * p.a * q**2 + p.b))
    return u, grad, u_size, g_size


def check_energy_grad(x, p, u, grad):
    expected_u, expected_grad, u_size, g_size = sizes(x, p)
    assert (abs(u - expected_u) / u_size).max() < ENERGY[str(x.dtype)]
    assert (abs(grad - expected_grad).max(1) / g_size).max() < GRADIENT[str(x.dtype)]


@every_dtype
@every_mapping
def test_energies_and_gradients_agree_with_float64(monkeypatch, n_particles, mapping, dtype):
    launch_in_shim(monkeypatch)
    p = parameters(n_particles)
    x = configurations(N_ROWS if n_particles < 100 else 9, dtype, p)
    check_energy_grad(x, p, *energy_grad(x, p, mapping))


@every_dtype
@every_mapping
def test_hessian_products_agree_with_float64(monkeypatch, n_particles, mapping, dtype):
    launch_in_shim(monkeypatch)
    p = parameters(n_particles)
    x = configurations(N_ROWS if n_particles < 100 else 9, dtype, p)
    v = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    expected = reference_hvp(*(torch.from_numpy(a.astype(np.float64)) for a in (x, v)), p).numpy()
    error = abs(hvp(x, v, p, mapping) - expected).max(1) / abs(expected).max(1)
    q = abs(np.hypot(x[:, 0] - x[:, 2], x[:, 1] - x[:, 3]) - p.d0)
    curvature = (3 * p.a * q**2 + p.b) * abs(v).max(1) / abs(expected).max(1)
    assert (error / np.maximum(1, curvature)).max() < GRADIENT[dtype]


@every_dtype
def test_one_configuration_and_any_order_of_threads_give_the_same_bits(monkeypatch, dtype):
    for n_particles in (3, 38, 70):
        p = DimerParameters(n_solvent=n_particles - 2)
        x = configurations(N_ROWS, dtype, p)
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
    for n_particles in (3, 38, 70):
        p = DimerParameters(n_solvent=n_particles - 2)
        x = configurations(N_ROWS, dtype, p)
        clean = energy_grad(x, p)
        for column in (0, 3, p.dim - 1):
            dirty = x.copy()
            dirty[20, column] = np.nan
            u, grad = energy_grad(dirty, p)
            others = np.arange(N_ROWS) != 20
            assert np.isnan(u[20])
            assert np.isnan(grad[20]).any()
            assert np.array_equal(u[others], clean[0][others])
            assert np.array_equal(grad[others], clean[1][others])


@every_dtype
def test_every_finite_configuration_has_a_finite_energy_and_gradient(monkeypatch, dtype):
    launch_in_shim(monkeypatch)
    p = DimerParameters()
    most = np.finfo(dtype).max
    x = np.zeros((5, p.dim), dtype)
    x[1:4] = np.array([0.5, most, -most])[:, None]
    x[4, ::3] = most
    x[4, 1::3] = np.finfo(dtype).tiny
    for numbers in (*energy_grad(x, p), hvp(x, np.ones_like(x), p)):
        assert np.isfinite(numbers).all()


@pytest.mark.parametrize("sigma", [1e-3, 0.1, 100.0])
def test_the_unit_of_length_does_not_matter_in_float32(monkeypatch, sigma):
    launch_in_shim(monkeypatch)
    p = DimerParameters(n_solvent=20, sigma=sigma, l=3 * sigma, d0=1.5 * sigma, a=0.0, b=0.0)
    x = (configurations(5, "float64", DimerParameters(n_solvent=20)) * sigma).astype(np.float32)
    check_energy_grad(x, p, *energy_grad(x, p))


# A test of kernels is worth what it catches: each defect, planted in the source, has to fail one of
# the checks above.

DEFECTS = {
    "dropped barrier": ("gather", "__syncwarp();\n        for (int j = 0;", "for (int j = 0;"),
    "lost bounds guard": ("symmetric", "{group < n ? group : n - 1, group < n}", "{group, true}"),
    "wrong partner sign": ("symmetric", "out[m][c] -= __shfl_sync", "out[m][c] += __shfl_sync"),
    "wrong sign in a lane": ("symmetric", "out[m][0] -= t[0];", "out[m][0] += t[0];"),
    "padded particles in the box": ("symmetric", "PADDING * real(k", "real(0.1) * real(k"),
    "pairs met twice": ("symmetric", "if (twice && m < k) continue;", ""),
    "dimer's own pair": ("gather", "|| (i < 2 && j < 2)", ""),
    "padding in the walls": ("symmetric", "k * G + lane < N ? beyond_walls", "true ? beyond_walls"),
    "core left out": ("gather", "e += group_sum<G>(core_energy", "if (0) e += group_sum<G>(core_en"
                      "ergy"),
    "early return": ("symmetric", "const Row row = row_of_group<G>(n);",
                     "const Row row = row_of_group<G>(n); if (!row.own) return;"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(monkeypatch, defect):
    kind, right, wrong = DEFECTS[defect]
    p = DimerParameters(n_solvent=10)
    x = configurations(2 * N_ROWS, "float64", p)[:N_ROWS]  # memory behind the rows is readable
    with planted(right, wrong) as change:
        launch_in_shim(monkeypatch, change=change)
        with pytest.raises((AssertionError, ShimError)):
            check_energy_grad(x, p, *energy_grad(x, p, Mapping(kind, 8)))
