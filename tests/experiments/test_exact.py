"""Exact values, against published quadrature and independent ones."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad, simpson

from bgfast.energies import DoubleWell, MuellerBrown
from bgfast.experiments.exact import double_well_exact, mueller_brown_exact


def test_published_values():
    exact = double_well_exact(DoubleWell(), 1.0, (-2.5, 2.5), 100, 0.0)
    assert exact.log_z == pytest.approx(11.0204672, abs=1e-6)
    assert exact.delta_f == pytest.approx(3.3799011, abs=1e-6)


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("well", [{"a4": 0.01}, {"a2": 0.0, "a1": 0.0}, {"a1": -3.0, "dim": 4}])
def test_any_coefficients_and_temperatures(well, tau):
    energy = DoubleWell(**well)

    def u(x):
        return energy.a4 * x**4 - energy.a2 * x**2 + energy.a1 * x

    lowest = min(u(x) for x in np.linspace(-40, 40, 8001))
    options = {"limit": 500, "epsabs": 0, "epsrel": 1e-11, "points": (-18, -3, 0, 3, 18)}
    z, _ = quad(lambda x: math.exp((lowest - u(x)) / tau), -40, 40, **options)
    gaussian = 0.5 * (energy.dim - 1) * math.log(2 * math.pi * tau / energy.k)
    exact = double_well_exact(energy, tau, (-2.5, 2.5), 20, 0.0)
    assert exact.log_z == pytest.approx(math.log(z) - lowest / tau + gaussian, abs=1e-7)


def test_a_very_wide_well_is_integrated_to_its_end():
    exact = double_well_exact(DoubleWell(dim=2, a4=1e-6, a2=0.0, a1=0.0), 1.0, (-1, 1), 5, 0.0)
    closed_form = math.log(2 * math.gamma(1.25) * 1e6**0.25) + 0.5 * math.log(2 * math.pi)
    assert exact.log_z == pytest.approx(closed_form, abs=1e-7)


def test_steep_profiles_stay_finite():
    exact = double_well_exact(DoubleWell(), 0.01, (-6.0, 6.0), 50, 0.0)
    assert np.isfinite(exact.profile.f).all()


def mueller_brown_plane():
    """The Mueller-Brown surface by its formula on a grid: x, y, u."""
    x, y = np.linspace(-4, 3, 2101), np.linspace(-2, 3.5, 2201)
    terms = np.transpose(
        [
            (-200, -100, -170, 15),
            (-1, -1, -6.5, 0.7),
            (0, 0, 11, 0.6),
            (-10, -10, -6.5, 0.7),
            (1, 0, -0.5, -1),
            (0, 0.5, 1.5, 1),
        ]
    )
    u = np.zeros((y.size, x.size))
    for A, a, b, c, x0, y0 in terms:
        dx, dy = x - x0, y[:, None] - y0
        u += 0.1 * A * np.exp(a * dx**2 + b * dx * dy + c * dy**2)
    return x, y, u


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_mueller_brown_agrees_with_simpson_s_rule(tau):
    x, y, u = mueller_brown_plane()
    p = simpson(np.exp(-u / tau), x=x, axis=1)

    def integral(low, high):
        inside = (y > low - 1e-9) & (y < high + 1e-9)
        return simpson(p[inside], x=y[inside])

    exact = mueller_brown_exact(MuellerBrown(), tau, (-0.1, 1.7), 45, 0.72)
    assert exact.log_z == pytest.approx(math.log(simpson(p, x=y)), abs=1e-9)
    ratio = integral(0.72, 3.5) / integral(-2, 0.72)
    assert exact.delta_f == pytest.approx(-math.log(ratio), abs=1e-7)
    share = np.array([integral(*bin_) for bin_ in pairwise(np.linspace(-0.1, 1.7, 46))])
    np.testing.assert_allclose(exact.profile.f, -np.log(share / share.max()), atol=1e-6)
