"""Stated errors are what they claim: one standard error covers the exact value 68 % of the time."""

import numpy as np
import pytest

from tests.coverage_cases import ESTIMATORS, in_errors

N_SEEDS = 100


@pytest.fixture(scope="module", params=ESTIMATORS)
def off(request):
    """Errors of the difference and of the bins, in units of their stated standard errors."""
    return in_errors(request.param, range(N_SEEDS))


def test_one_standard_error_covers_the_exact_difference(off):
    difference, _ = off
    assert 0.60 <= np.mean(np.abs(difference) < 1) <= 0.76
    assert np.mean(np.abs(difference) < 2) > 0.88
    assert abs(difference.mean()) < 3.5 / np.sqrt(N_SEEDS)


def test_one_standard_error_covers_the_exact_profile(off):
    _, bins = off
    assert np.isfinite(bins).all()
    assert 0.60 <= np.mean(np.abs(bins) < 1) <= 0.76
    in_each_bin = np.mean(np.abs(bins) < 1, axis=0)
    assert 0.68 - 4 * 0.047 < in_each_bin.min() <= in_each_bin.max() < 0.68 + 4 * 0.047
