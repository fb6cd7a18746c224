"""What every energy promises, over the registry."""

import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from bgfast_kernels.pair import cluster
from hypothesis.extra import numpy as hnp

from bgfast.energies import ENERGIES, DoubleWell, LennardJones, MuellerBrown, ParticleDimer
from bgfast.energies.particle_dimer import PRESETS

DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=sorted(ENERGIES))
def energy(request):
    return ENERGIES[request.param]()


def some_x(energy, *shape, dtype=torch.float64, seed=0):
    noise = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, energy.dim, generator=noise, dtype=dtype)
    if isinstance(energy, ParticleDimer):
        x = energy.lattice_configuration(1.4).to(dtype) + 0.1 * x
    if isinstance(energy, LennardJones):
        sites = cluster(np.random.default_rng(seed), 1, np.float64, energy.n_particles, 3, noise=0)
        x = torch.from_numpy(sites[0]).to(dtype) + 0.05 * x
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (2, 3)])
def test_shapes_and_dtype_follow_x(energy, dtype, shape):
    x = some_x(energy, *shape, dtype=dtype)
    u, force = energy.energy_and_force(x)
    assert u.shape == torch.Size(shape)
    assert force.shape == x.shape
    assert u.dtype == force.dtype == dtype
    assert torch.equal(energy(x), energy.energy(x))


def test_force_is_minus_the_gradient(energy):
    x = some_x(energy, 5).requires_grad_()
    u, force = energy.energy_and_force(x)
    (gradient,) = torch.autograd.grad(energy.energy(x).sum(), x)
    torch.testing.assert_close(force, -gradient, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(energy.force(x), force)
    torch.testing.assert_close(u, energy.energy(x))


def test_second_derivatives_flow_through_energy(energy):
    x = some_x(energy, 2).requires_grad_()
    # The dimer's curvature is of order 1e6: differences of its gradient are good to 1e-4 or so.
    tolerance = {"eps": 1e-6, "rtol": 1e-4, "atol": 1e-3}
    assert torch.autograd.gradcheck(energy.energy, x, **tolerance)
    assert torch.autograd.gradgradcheck(energy.energy, x, **tolerance)


@pytest.mark.parametrize("energy_name", sorted(ENERGIES))
@pytest.mark.parametrize("dtype", DTYPES)
@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(data=st.data())
def test_every_finite_x_has_a_finite_energy_and_force(energy_name, dtype, data):
    energy = ENERGIES[energy_name]()
    width = 32 if dtype == torch.float32 else 64
    element = st.floats(allow_nan=False, allow_infinity=False, width=width)
    x = data.draw(hnp.arrays(f"f{width // 8}", (2, energy.dim), elements=element, fill=element))
    u, force = energy.energy_and_force(torch.from_numpy(x))
    assert u.isfinite().all()
    assert force.isfinite().all()


def test_a_nan_spoils_its_own_row_only(energy):
    x = some_x(energy, 3)
    clean = energy.energy_and_force(x)
    x[1, -1] = math.nan
    u, force = energy.energy_and_force(x)
    assert u[1].isnan()
    for row in (0, 2):
        assert torch.equal(u[row], clean[0][row])
        assert torch.equal(force[row], clean[1][row])


def test_log_prob_divides_by_tau_per_row(energy):
    x = some_x(energy, 3)
    tau = torch.tensor([0.5, 1.0, 2.0], dtype=x.dtype)
    torch.testing.assert_close(energy.log_prob(x, tau), -energy.energy(x) / tau)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_log_prob_refuses_a_tau_that_is_no_temperature(energy, tau):
    with pytest.raises(ValueError, match="tau must be positive"):
        energy.log_prob(some_x(energy, 1), tau)


def test_wrong_input_is_named(energy):
    with pytest.raises(
        ValueError, match=rf"shape \[\.\.\., {energy.dim}\], got \[4, {energy.dim + 1}\]"
    ):
        energy.energy(torch.zeros(4, energy.dim + 1))
    with pytest.raises(TypeError, match="float32 or float64 tensor, got torch.int64"):
        energy.energy(torch.zeros(4, energy.dim, dtype=torch.int64))
    with pytest.raises(TypeError, match="got list"):
        energy.force([0.0] * energy.dim)


def test_double_well_has_the_values_of_the_formula():
    x = torch.tensor([[1.5, 2.0], [-1.5, 0.0]], dtype=torch.float64)
    expected = torch.tensor([1.5**4 - 6 * 1.5**2 + 1.5 + 2.0, 1.5**4 - 6 * 1.5**2 - 1.5])
    torch.testing.assert_close(DoubleWell(dim=2).energy(x), expected.double())


def test_mueller_brown_has_its_published_stationary_points():
    # Minima and energies of the unscaled surface, Mueller and Brown 1979.
    x = torch.tensor([[-0.558224, 1.441726], [0.623499, 0.028038], [-0.050011, 0.466694]])
    u, force = MuellerBrown(scale=1.0).energy_and_force(x.double())
    expected = torch.tensor([-146.699517, -108.166724, -80.767818]).double()
    torch.testing.assert_close(u, expected, rtol=0, atol=1e-4)
    assert force.abs().max() < 1e-2


def test_the_double_well_is_what_the_dimer_has_beyond_the_rest():
    energy, rest = ParticleDimer(n_solvent=4), ParticleDimer(n_solvent=4, a=0.0, b=0.0, c=0.0)
    x = torch.stack([energy.lattice_configuration(d) for d in (0.6, 1.0, 1.5, 2.3)])
    v = energy.double_well(energy.dimer_distance(x))
    torch.testing.assert_close(v, energy.energy(x) - rest.energy(x))


def test_dimer_distance_is_the_distance_of_the_first_two_particles():
    energy = ParticleDimer()
    x = energy.lattice_configuration(1.7)
    torch.testing.assert_close(energy.dimer_distance(x), torch.tensor(1.7, dtype=x.dtype))
    assert x.shape == (energy.dim,)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_dimer_presets_change_only_what_they_name(name):
    changed = PRESETS[name]
    params, default = ParticleDimer.preset(name).params, ParticleDimer().params
    for field in ("eps", "sigma", "k_d", "d0", "a", "b", "c", "l", "k_box"):
        assert getattr(params, field) == changed.get(field, getattr(default, field))


def test_unknown_preset_lists_the_known_ones():
    with pytest.raises(ValueError, match="default, bgflow, original, figure, got 'defualt'"):
        ParticleDimer.preset("defualt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"dim": 0}, "dim must be a positive integer"), ({"a4": -1.0}, "a4 must be positive")],
)
def test_double_well_refuses_what_cannot_be_normalised(arguments, message):
    with pytest.raises(ValueError, match=message):
        DoubleWell(**arguments)


def test_lennard_jones_follows_the_formula_of_bgflow():
    # eps [(rm/r)^12 - 2 (rm/r)^6] over unordered pairs, and 1/2 scale sum |x - mean|^2
    energy = LennardJones(n_particles=13)
    x = some_x(energy, 4)
    r = x.reshape(4, 13, 3)
    i, j = torch.triu_indices(13, 13, 1)
    inverse_6 = (r[:, i] - r[:, j]).norm(dim=-1) ** -6
    trap = 0.5 * (r - r.mean(1, keepdim=True)).square().sum((1, 2))
    torch.testing.assert_close(energy.energy(x), (inverse_6**2 - 2 * inverse_6).sum(1) + trap)
    assert not torch.allclose(LennardJones(oscillator=0.0).energy(x), energy.energy(x))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"n_particles": 1}, "n_particles must be 2 or more, got 1"),
        ({"n_dim": 4}, "n_dim must be 2 or 3, got 4"),
        ({"sigma": 0.0}, "sigma must be positive, got 0.0"),
        ({"eps": math.nan}, "eps must be finite, got nan"),
        ({"oscillator": -1.0}, "oscillator must be 0 or more, got -1.0"),
    ],
)
def test_lennard_jones_names_a_wrong_parameter(wrong, error):
    with pytest.raises(ValueError, match=error):
        LennardJones(**wrong)
