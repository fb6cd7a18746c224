import math

import numpy as np
import pytest

from bgfast.analysis.bar import bar


def gaussian_work(rng, n_forward, n_reverse, dissipation, f):
    """Works that fulfil Crooks' relation exactly: forward mean f + dissipation, variance twice."""
    width = math.sqrt(2 * dissipation)
    forward = f + dissipation + width * rng.normal(size=n_forward)
    return forward, -f + dissipation + width * rng.normal(size=n_reverse)


@pytest.mark.parametrize(("dissipation", "f"), [(0.1, 0.0), (2.0, -7.0), (12.0, 1e4)])
def test_bar_agrees_with_pymbar_and_with_crooks(dissipation, f):
    pymbar = pytest.importorskip("pymbar")
    forward, reverse = gaussian_work(np.random.default_rng(1), 5000, 2000, dissipation, f)
    ours = bar(forward, reverse)
    theirs = pymbar.bar(forward, reverse, method="bisection", relative_tolerance=1e-13)
    assert ours.value == pytest.approx(theirs["Delta_f"], abs=1e-8)
    assert ours.stderr == pytest.approx(theirs["dDelta_f"], rel=0.02)
    assert abs(ours.value - f) < 3.5 * ours.stderr


@pytest.mark.parametrize("spread", [1.0, 1e3, 1e9])
def test_bar_with_swapped_roles_gives_the_negative(spread):
    rng = np.random.default_rng(2)
    forward, reverse = spread * (1 + rng.normal(size=300)), spread * (1 + rng.normal(size=70))
    forward[:20] = np.inf
    one, other = bar(forward, reverse), bar(reverse, forward)
    assert one.value == pytest.approx(-other.value, abs=1e-11 * spread)
    assert one.stderr == pytest.approx(other.stderr, rel=1e-5)


def test_bar_counts_samples_on_which_the_other_density_vanishes():
    forward = np.where(np.arange(1000) < 250, 0.0, np.inf)  # a quarter of p_0 lies within p_1
    estimate = bar(forward, np.zeros(10_000))
    assert estimate.value == pytest.approx(math.log(4), abs=1e-12)
    assert estimate.stderr == pytest.approx(math.sqrt(0.75 / 0.25 / 1000), rel=1e-9)
    assert math.isnan(bar([np.inf], [0.0]).value)


def test_bar_refuses_bad_work():
    with pytest.raises(ValueError, match=r"work_forward must have shape \[n\]"):
        bar([], [1.0])
    with pytest.raises(ValueError, match="work_reverse must be finite or \\+infinity"):
        bar([0.0], [np.nan])
