"""Exact values of the double well, against published quadrature and an independent one."""

import math

import numpy as np
import pytest
from scipy.integrate import quad

from bgfast.energies import DoubleWell
from bgfast.experiments.exact import double_well_exact


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
