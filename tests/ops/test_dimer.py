"""The dimer in a repulsive fluid: the physics, the edges of its formula, what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bgfast_kernels.dimer import CORE, D_MIN, X_FAR, DimerParameters, lattice

from bgfast.ops import BackendError, dimer_energy, dimer_energy_grad, dimer_hvp
from bgfast.ops.dimer_reference import reference_energy, reference_energy_grad, reference_hvp

GOLDEN = Path(__file__).parents[1] / "data" / "dimer_bgflow.npz"
BGFLOW = DimerParameters(a=640.0, b=200.0, c=-2.0, k_box=200.0)

both_backends = pytest.mark.parametrize("backend", ["numba", "torch"])
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def configurations(n, dtype=torch.float64, parameters=None, **options):
    parameters = parameters or DimerParameters()
    rng = np.random.default_rng(7)
    return torch.from_numpy(lattice(rng, n, np.float64, parameters, **options)).to(dtype)


def closed_formula(x, p):
    """The printed formula in NumPy float64, with no continuation anywhere."""
    r = x.double().numpy().reshape(-1, p.n_particles, 2)
    q = np.linalg.norm(r[:, 0] - r[:, 1], axis=-1) - p.d0
    u = p.k_d * ((r[:, 0, 0] + r[:, 1, 0]) ** 2 + r[:, 0, 1] ** 2 + r[:, 1, 1] ** 2)
    u += p.a / 4 * q**4 - p.b / 2 * q**2 + p.c * q
    u += p.k_box * (np.maximum(np.abs(r) - p.l, 0) ** 2).sum((1, 2))
    for i in range(p.n_particles):
        for j in range(max(i + 1, 2), p.n_particles):
            u += p.eps * (p.sigma / np.linalg.norm(r[:, i] - r[:, j], axis=-1)) ** 12
    return torch.from_numpy(u)


@both_backends
@pytest.mark.parametrize("kind", ["random", "equilibrated", "overlapping"])
@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
def test_energies_and_forces_are_those_of_bgflow(kind, dtype, rtol, backend):
    # RepulsiveParticles of bgflow (params_default), run in float64. Overlaps go down to r = 0.02.
    golden = np.load(GOLDEN)
    x = torch.from_numpy(golden[f"{kind}_x"]).to(dtype)
    u, grad = dimer_energy_grad(x, BGFLOW, backend=backend)
    np.testing.assert_allclose(u, golden[f"{kind}_energy"], rtol=rtol)
    force = golden[f"{kind}_force"]
    error = np.abs(grad.numpy() + force).max(1)
    assert (error <= rtol * np.abs(force).max(1)).all()


@both_backends
@pytest.mark.parametrize("n_solvent", [0, 1, 2, 5, 13, 36, 50])
def test_any_number_of_solvent_particles_follows_the_formula(n_solvent, backend):
    p = DimerParameters(n_solvent=n_solvent, k_d=3.0, l=2.5, eps=0.7, sigma=0.9, d0=1.2)
    x = configurations(21, parameters=p, noise=0.1)
    u = dimer_energy(x, p, backend=backend)
    torch.testing.assert_close(u, closed_formula(x, p), rtol=1e-12, atol=0)


def test_two_particles_in_closed_form():
    p = DimerParameters(n_solvent=0)
    x = torch.tensor([[-0.9, 0.1, 1.1, -0.2], [-0.5, 0.0, 3.5, 0.0]], dtype=torch.float64)
    q = torch.tensor([(2.0**2 + 0.3**2) ** 0.5, 4.0], dtype=torch.float64) - 1.5
    expected = 160 * q**4 - 100 * q**2 - q
    expected += 20 * torch.tensor([0.2**2 + 0.1**2 + 0.2**2, 3.0**2], dtype=torch.float64)
    expected[1] += 100 * 0.5**2
    torch.testing.assert_close(dimer_energy(x, p), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("length", [1e-3, 0.1, 10.0, 100.0])
def test_the_unit_of_length_does_not_matter_in_float32(length):
    p = DimerParameters()
    scaled = DimerParameters(
        sigma=p.sigma * length,
        k_d=p.k_d / length**2,
        d0=p.d0 * length,
        a=p.a / length**4,
        b=p.b / length**2,
        c=p.c / length,
        l=p.l * length,
        k_box=p.k_box / length**2,
    )
    x = configurations(10)
    u, grad = dimer_energy_grad((x * length).float(), scaled)
    expected_u, expected_grad = dimer_energy_grad(x, p)
    torch.testing.assert_close(u.double(), expected_u, rtol=1e-5, atol=0)
    torch.testing.assert_close(grad.double() * length, expected_grad, rtol=1e-4, atol=0.1)


@both_dtypes
def test_the_hessian_product_is_that_of_the_reference(dtype):
    x = configurations(33, dtype)
    x[:4] *= 2000.0  # far coordinates
    x[4:8, 10:12] = x[4:8, 20:22] + 1e-3  # a pair within the core
    v = torch.randn(x.shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    p = DimerParameters()
    expected = reference_hvp(x.double(), v.double(), p)
    error = (dimer_hvp(x, v, p) - expected).abs().amax(1) / expected.abs().amax(1)
    assert error.max() < (1e-5 if dtype == torch.float32 else 1e-12)


@both_dtypes
@pytest.mark.parametrize("r", [0.0, 1e-12, 0.5, 0.99])
def test_within_the_core_the_pair_energy_is_linear_in_r_squared(dtype, r):
    p = DimerParameters(n_solvent=1, k_d=0.0, a=0.0, b=0.0, c=0.0, k_box=0.0)
    core = CORE * p.sigma
    x = torch.tensor([[-50.0, 0.0, 0.0, 0.0, r * core, 0.0]], dtype=dtype)
    u, grad = dimer_energy_grad(x, p)
    at_core = CORE**-12
    torch.testing.assert_close(u.item(), at_core * (7 - 6 * r**2), rtol=1e-5, atol=0)
    slope = -12 * at_core / core * r
    torch.testing.assert_close(grad[0, 4].item(), slope, rtol=1e-5, atol=1e-15)


@both_backends
@pytest.mark.parametrize("where", ["core", "far", "dimer"])
def test_energy_and_gradient_are_continuous_where_the_formula_is_continued(where, backend):
    p = DimerParameters(n_solvent=1, k_box=1e-3, c=-100.0)
    at = {"core": CORE * p.sigma, "far": X_FAR, "dimer": D_MIN}[where]
    rows = []
    for factor in (1 - 1e-9, 1 + 1e-9):
        x = [-0.75, 0.0, 0.75, 0.0, 0.3, 2.0]
        if where == "core":
            x[4], x[5] = x[2] + at * factor, 0.0
        elif where == "far":
            x[5] = -at * factor
        else:
            x[0], x[2] = 0.0, at * factor
        rows.append(x)
    u, grad = dimer_energy_grad(torch.tensor(rows, dtype=torch.float64), p, backend=backend)
    torch.testing.assert_close(u[0], u[1], rtol=1e-7, atol=0)
    torch.testing.assert_close(grad[0], grad[1], rtol=1e-7, atol=1e-7)


@both_backends
def test_far_coordinates_enter_through_the_logarithm(backend):
    p = DimerParameters(n_solvent=3)
    x = configurations(6, parameters=p)
    x[2, 5], x[4, 0] = -1e5, 3e200
    folded = x.clone()
    folded[2, 5] = -X_FAR * (1 + np.log(1e5 / X_FAR))
    folded[4, 0] = X_FAR * (1 + np.log(3e200 / X_FAR))
    torch.testing.assert_close(
        dimer_energy(x, p, backend=backend), closed_formula(folded, p), rtol=1e-12, atol=0
    )


@both_backends
@both_dtypes
def test_coinciding_particles_have_finite_energy_gradient_and_curvature(dtype, backend):
    p = DimerParameters()
    x = torch.zeros(3, p.dim, dtype=dtype)
    x[1], x[2] = 0.5, torch.finfo(dtype).max
    u, grad = dimer_energy_grad(x, p, backend=backend)
    assert u.isfinite().all()
    assert grad.isfinite().all()
    assert dimer_hvp(x, torch.ones_like(x), p, backend=backend).isfinite().all()


@both_dtypes
def test_a_nan_in_any_coordinate_shows_in_energy_and_gradient(dtype):
    for n_solvent in (0, 1, 36):
        p = DimerParameters(n_solvent=n_solvent)
        x = configurations(p.dim + 1, dtype, p)
        clean_u, clean_grad = dimer_energy_grad(x, p)
        x[range(p.dim), range(p.dim)] = torch.nan
        u, grad = dimer_energy_grad(x, p)
        assert u[:-1].isnan().all()
        assert grad[:-1].isnan().any(1).all()
        assert torch.equal(u[-1], clean_u[-1])
        assert torch.equal(grad[-1], clean_grad[-1])


def test_the_gradient_is_differentiable_for_force_losses():
    p = DimerParameters(n_solvent=4)
    x = configurations(3, parameters=p).requires_grad_()

    def force_loss(energy_grad):
        u, grad = energy_grad(x, p)
        return torch.autograd.grad((grad**2).sum() + u.sum(), x)[0]

    torch.testing.assert_close(force_loss(dimer_energy_grad), force_loss(reference_energy_grad))


def test_third_derivatives_raise_and_the_reference_has_them():
    p = DimerParameters(n_solvent=2)
    x = configurations(1, parameters=p).requires_grad_()
    v = torch.ones_like(x)
    v[0, 5] = 2.0
    with pytest.raises(NotImplementedError, match="third derivatives"):
        (dimer_hvp(x, v, p) ** 2).sum().backward()
    (dimer_hvp(x, v, p, backend="torch") ** 2).sum().backward()
    assert x.grad.abs().sum() > 0


def test_the_hessian_by_nested_transforms_is_symmetric_and_right():
    p = DimerParameters(n_solvent=2)
    x = configurations(1, parameters=p)[0]
    hessian = torch.func.jacrev(torch.func.grad(lambda x: dimer_energy(x, p)))(x)
    expected = torch.func.hessian(lambda x: reference_energy(x, p))(x)
    torch.testing.assert_close(hessian, expected, rtol=1e-10, atol=1e-8)


def test_half_precision_falls_back_to_the_reference_with_one_warning():
    p = DimerParameters(n_solvent=2)
    x = configurations(2, parameters=p).to(torch.bfloat16)
    with pytest.warns(RuntimeWarning, match="falls back to the torch reference"):
        u = dimer_energy(x, p)
    assert u.dtype == torch.bfloat16
    with pytest.raises(BackendError, match="bfloat16"):
        dimer_energy(x, p, backend="numba")


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 76)), TypeError, "x must be a torch tensor, got ndarray"),
        (
            torch.zeros(2, 76, dtype=torch.int64),
            TypeError,
            "floating-point tensor, got torch.int64",
        ),
        (torch.zeros(2, 75), ValueError, r"\[..., 76\] for 36 solvent particles, got \[2, 75\]"),
        (torch.zeros(()), ValueError, r"got \[\]"),
    ],
)
def test_bad_configurations_are_refused(x, error, message):
    with pytest.raises(error, match=message):
        dimer_energy(x, DimerParameters())


def test_bad_vectors_and_parameters_are_refused():
    x = torch.zeros(2, 76)
    with pytest.raises(ValueError, match="v must have the shape of x"):
        dimer_hvp(x, torch.zeros(3, 76), DimerParameters())
    with pytest.raises(TypeError, match="v must be a tensor like x, torch.float32"):
        dimer_hvp(x, x.double(), DimerParameters())
    with pytest.raises(TypeError, match="parameters must be DimerParameters, got dict"):
        dimer_energy(x, {"n_solvent": 36})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_solvent": -1}, ValueError, "n_solvent must be 0 or more, got -1"),
        ({"n_solvent": 36.0}, TypeError, "n_solvent must be an integer, got 36.0"),
        ({"sigma": 0.0}, ValueError, "sigma must be positive, got 0.0"),
        ({"a": float("nan")}, ValueError, "a must be finite, got nan"),
        ({"k_box": "100"}, TypeError, "k_box must be a number, got '100'"),
    ],
)
def test_bad_parameters_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        DimerParameters(**options)
