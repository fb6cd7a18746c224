"""Pair potentials, beyond what the contract tests promise of every op."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from bgfast_kernels.dimer import DimerParameters
from bgfast_kernels.pair import CORE, POTENTIALS, PairParameters, Potential
from bgfast_kernels.pair.potential import derivatives, straight_line

from bgfast.ops import dimer_energy_grad, pair_energy, pair_energy_grad, pair_hvp
from bgfast.ops.pair_reference import reference_energy_grad, reference_hvp
from tests.pair_cases import assert_close, configurations, magnitudes

# u, du/ds and d2u/ds2, by hand.
BY_HAND = {
    "lennard_jones": (
        lambda s: 4 / s**6 - 4 / s**3,
        lambda s: -24 / s**7 + 12 / s**4,
        lambda s: 168 / s**8 - 48 / s**5,
    ),
    "repulsion": (lambda s: 1 / s**6, lambda s: -6 / s**7, lambda s: 42 / s**8),
}


def by_pairs(x, p):
    """Return energies and gradients of configurations within X_FAR, pair by pair in NumPy."""
    u, du, _ = BY_HAND[p.potential]
    r = x.astype(np.float64).reshape(len(x), -1, p.n_dim)
    centred = r - r.mean(1, keepdims=True)
    energy, grad = 0.5 * p.trap * (centred**2).sum((1, 2)), p.trap * centred
    for i in range(r.shape[1]):
        for j in range(i):
            d = r[:, i] - r[:, j]
            s = (d**2).sum(-1) / p.sigma**2
            outer = np.maximum(s, CORE**2)
            energy += p.eps * (u(outer) + du(CORE**2) * (s - outer))
            pull = (p.eps * 2 * du(outer) / p.sigma**2)[:, None] * d
            grad[:, i] += pull
            grad[:, j] -= pull
    return energy, grad.reshape(x.shape)


def test_every_potential_is_checked_by_hand():
    assert set(BY_HAND) == set(POTENTIALS)


@pytest.mark.parametrize("name", POTENTIALS)
def test_derived_polynomials_are_the_derivatives(name):
    d = derivatives(POTENTIALS[name])
    for s in (0.3, 1.0, 7.0):
        space = {"t": 1 / s}
        for target, expression in straight_line(
            {"value": d.value, "slope": d.slope, "curvature": d.curvature}, "{!r}"
        ):
            space[target] = eval(expression, space)
        found = np.array([space["value"], space["slope"], space["curvature"]])
        found *= d.value_factor, d.slope_factor, d.slope_factor
        np.testing.assert_allclose(found, [f(s) for f in BY_HAND[name]], rtol=1e-13)
        np.testing.assert_allclose(d.at(s), found[:2], rtol=1e-13)


def test_a_potential_that_does_not_vanish_far_away_is_refused():
    for u in (lambda s: s, lambda s: 1 + 1 / s, lambda s: s**-0.5):
        with pytest.raises(ValueError, match="'odd' must be a polynomial in 1/s without constant"):
            derivatives(Potential("odd", "not a pair potential", u))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_particles", [2, 3, 13])
@pytest.mark.parametrize("n_dim", [2, 3])
@pytest.mark.parametrize("name", POTENTIALS)
def test_energies_and_gradients_agree_with_sums_over_pairs(name, n_dim, n_particles, dtype):
    p = PairParameters(name, n_dim, eps=1.3, sigma=1.1, trap=0.7)
    x = configurations(37, dtype, p, n_particles)
    x[3] /= 2000.0
    found = pair_energy_grad(torch.from_numpy(x), p)
    assert_close(found, by_pairs(x, p), magnitudes(x, x, p))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_dim", [2, 3])
@pytest.mark.parametrize("name", POTENTIALS)
def test_far_coordinates_overlaps_and_hessians_agree_with_torch(name, n_dim, dtype):
    p = PairParameters(name, n_dim, eps=1.3, sigma=1.1, trap=0.7)
    x = configurations(37, dtype, p, 13)
    v = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    rows, directions = torch.from_numpy(x), torch.from_numpy(v)
    found = (*pair_energy_grad(rows, p), pair_hvp(rows, directions, p))
    exact = rows.double(), directions.double()
    expected = (*reference_energy_grad(exact[0], p), reference_hvp(*exact, p))
    assert_close(found, expected, magnitudes(x, v, p))


@pytest.mark.parametrize("sigma", [1e-3, 100.0])
def test_the_unit_of_length_does_not_matter_in_float32(sigma):
    one = PairParameters("lennard_jones")
    x = torch.from_numpy(configurations(20, "float32", one, 13)[6:])
    other = pair_energy(x * sigma, PairParameters("lennard_jones", sigma=sigma))
    torch.testing.assert_close(pair_energy(x, one), other, rtol=1e-5, atol=0)


def test_repulsion_in_the_plane_is_what_the_dimer_feels():
    p = PairParameters("repulsion", 2, sigma=1.1)
    x = torch.from_numpy(configurations(20, "float64", p, 38)[6:])
    free = DimerParameters(k_d=0.0, a=0.0, b=0.0, c=0.0, k_box=0.0)
    own_pair = pair_energy_grad(x[:, :4], p)
    u, grad = pair_energy_grad(x, p)
    expected_u, expected_grad = dimer_energy_grad(x, free)
    torch.testing.assert_close(u - own_pair[0], expected_u)
    grad[:, :4] -= own_pair[1]
    torch.testing.assert_close(grad, expected_grad)


def test_another_process_finds_the_compiled_kernels_on_disk():
    code = """
import numpy as np
from bgfast_kernels.pair import PairParameters, cluster, numba_kernels, numba_rows
x = cluster(np.random.default_rng(0), 3, "f8", 5, 3)
u, _ = numba_kernels.pair_energy_grad(x, PairParameters("repulsion", 3))
kernel = numba_rows.rows_kernels("repulsion", 3)[0]
print(sum(kernel.stats.cache_hits.values()), u.tobytes().hex())
"""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (_, first), (hits, second) = (run.stdout.split() for run in runs)
    assert int(hits) == 1
    assert first == second


def test_wrong_input_is_named():
    p = PairParameters("lennard_jones")
    for shape in ((), (2, 7), (2, 3), (2, 0)):
        with pytest.raises(ValueError, match=r"shape \[\.\.\., 3 N\] with N >= 2, got"):
            pair_energy(torch.zeros(shape), p)
    with pytest.raises(TypeError, match="parameters must be PairParameters, got str"):
        pair_energy(torch.zeros(6), "lennard_jones")
    with pytest.raises(ValueError, match="v must have the shape of x"):
        pair_hvp(torch.zeros(6), torch.zeros(9), p)
    make = functools.partial(PairParameters, "lennard_jones")
    with pytest.raises(ValueError, match="potential must be one of lennard_jones, repulsion"):
        PairParameters("morse")
    with pytest.raises(TypeError, match="sigma must be a number, got '1'"):
        make(sigma="1")
