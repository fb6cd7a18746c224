import math

import numpy as np
import pytest

from bgfast.analysis.comparison import exact_profile, profile_deviation
from bgfast.analysis.profiles import (
    ProfileAccumulator,
    free_energy_difference,
    free_energy_profile,
)


def gaussian_f(r, mean=0.0):
    return 0.5 * (r - mean) ** 2


def reweighted_sample(n, seed, mean=0.5):
    """Samples of N(0, 1) and log weights that turn them into N(mean, 1)."""
    r = np.random.default_rng(seed).normal(size=n)
    return r, mean * r


def test_profile_of_a_known_density_is_recovered():
    r, log_w = reweighted_sample(200_000, seed=1)
    profile = free_energy_profile(r, log_w, bounds=(-1.5, 2.5), n_bins=40)
    exact = exact_profile(lambda r: gaussian_f(r, 0.5), (-1.5, 2.5), 40)
    deviation = profile_deviation(profile, exact)
    assert deviation.n_bins == 40
    assert deviation.rmse < 0.03
    assert deviation.largest < 5 * profile.stderr.max()
    assert np.nanmin(profile.f) == 0
    assert profile.counts.sum() == np.count_nonzero((r >= -1.5) & (r <= 2.5))


def test_bootstrap_errors_are_calibrated():
    n, repeats, bins = 2000, 200, 8
    exact = exact_profile(lambda r: gaussian_f(r, 0.5), (-1.0, 2.0), bins)
    log_p = exact.f + np.log(np.exp(-exact.f).sum())
    p_below = 0.5 * math.erfc(0.5 / math.sqrt(2))
    exact_delta = -math.log(p_below / (1 - p_below))
    hits_profile, hits_delta = [], []
    for seed in range(repeats):
        accumulator = ProfileAccumulator((-1.0, 2.0), bins, split=0.0)
        accumulator.update(*reweighted_sample(n, seed=100 + seed))
        profile = accumulator.profile(n_bootstrap=200)
        own = profile.f + np.log(np.exp(-profile.f).sum())
        hits_profile.append(np.abs(own - log_p) < profile.stderr)
        delta = accumulator.delta_f(n_bootstrap=200)
        hits_delta.append(abs(delta.value - exact_delta) < delta.stderr)
    assert 0.60 < np.mean(hits_profile) < 0.76
    assert 0.60 < np.mean(hits_delta) < 0.76


@pytest.mark.parametrize("chunks", [2, 13, 500])
def test_chunks_do_not_matter(chunks):
    r, log_w = reweighted_sample(3000, seed=2)
    log_w = 30 * log_w
    whole, parts = (ProfileAccumulator((-2, 2), 10, split=0.1) for _ in range(2))
    whole.update(r, log_w)
    for rows in np.array_split(np.arange(3000), chunks):
        parts.update(r[rows], log_w[rows])
    for name in ("f", "stderr", "counts", "ess"):
        expected = getattr(whole.profile(), name)
        assert np.allclose(getattr(parts.profile(), name), expected, rtol=1e-9, equal_nan=True)
    assert parts.delta_f().value == pytest.approx(whole.delta_f().value, rel=1e-12)
    assert parts.state_ess() == pytest.approx(whole.state_ess())


def test_sign_of_the_difference_is_as_documented():
    r = np.array([0.0] * 75 + [1.0] * 25)  # P(below) = 3 P(above): below is lower by log 3
    below_above = free_energy_difference(r, split=0.5)
    above_below = free_energy_difference(r, split=0.5, orientation="above-below")
    assert below_above.value == pytest.approx(-math.log(3))
    assert above_below.value == pytest.approx(math.log(3))
    assert below_above.stderr == above_below.stderr > 0


def test_split_belongs_to_the_upper_state_and_upper_bound_to_the_last_bin():
    assert free_energy_difference([0.5, 0.5, 0.0], split=0.5).value == pytest.approx(math.log(2))
    assert free_energy_profile([0.0, 1.0], bounds=(0, 1), n_bins=2).counts.tolist() == [1, 1]


def test_bins_without_samples_are_gaps():
    profile = free_energy_profile([0.1] * 60 + [0.9] * 40, bounds=(0, 1), n_bins=5)
    assert np.isfinite(profile.f).tolist() == [True, False, False, False, True]
    assert profile.f[4] - profile.f[0] == pytest.approx(math.log(60 / 40))
    assert np.isnan(profile.stderr[1:4]).all()
    assert profile.ess.tolist() == pytest.approx([60, 0, 0, 0, 40])


def test_single_sample_has_no_error():
    profile = free_energy_profile([0.1], bounds=(0, 1), n_bins=2)
    assert profile.f[0] == 0
    assert np.isnan(profile.stderr).all()


@pytest.mark.parametrize("log_w", [np.full(10, np.nan), np.full(10, -np.inf), np.zeros(0)])
def test_no_weight_gives_an_empty_profile(log_w):
    accumulator = ProfileAccumulator((0, 1), 4, split=0.5)
    accumulator.update(np.linspace(0, 1, log_w.size), log_w)
    profile = accumulator.profile()
    assert np.isnan(profile.f).all()
    assert np.isnan(accumulator.delta_f().value)
    assert accumulator.state_ess() == (0, 0)


def test_empty_state_gives_an_infinite_difference_of_unknown_error():
    estimate = free_energy_difference(np.ones(100), split=0.0)
    assert estimate.value == math.inf
    assert math.isnan(estimate.stderr)


def test_nonfinite_rows_weigh_nothing():
    r, log_w = reweighted_sample(1000, seed=3)
    spoilt_r = np.r_[r, [np.nan, np.inf, 0.0, 0.0, 0.0]]
    spoilt_w = np.r_[log_w, [0.0, 0.0, np.nan, np.inf, -np.inf]]
    clean = free_energy_profile(r, log_w, bounds=(-1, 1), n_bins=4)
    spoilt = free_energy_profile(spoilt_r, spoilt_w, bounds=(-1, 1), n_bins=4)
    assert np.array_equal(clean.f, spoilt.f)
    assert np.array_equal(clean.counts, spoilt.counts)


def test_memory_does_not_grow_with_the_samples():
    rng = np.random.default_rng(4)
    accumulator = ProfileAccumulator((-2, 2), 50, split=0.0)

    def held():
        return sum(v.nbytes for v in vars(accumulator).values() if isinstance(v, np.ndarray))

    before = held()
    for _ in range(10):
        accumulator.update(rng.normal(size=100_000), rng.normal(size=100_000))
    assert accumulator.n == 1_000_000
    assert held() == before


def test_deviation_ignores_the_constant_and_respects_the_range():
    exact = exact_profile(gaussian_f, (-3, 3), 60)
    shifted = exact_profile(lambda r: gaussian_f(r) + 7, (-3, 3), 60)
    object.__setattr__(shifted, "f", shifted.f + np.where(shifted.r > 2, 6.0, 0.25))
    deviation = profile_deviation(shifted, exact, bounds=(-2, 2))
    assert deviation.rmse == pytest.approx(0, abs=1e-12)
    assert deviation.offset == pytest.approx(0.25)
    assert profile_deviation(shifted, exact, f_max=1.0).largest == pytest.approx(0, abs=1e-12)
    assert profile_deviation(shifted, exact).largest > 4


def test_deviation_interpolates_a_finer_reference():
    coarse = exact_profile(gaussian_f, (-2, 2), 40)
    fine = exact_profile(gaussian_f, (-3, 3), 601)
    assert profile_deviation(coarse, fine).largest < 2e-3


def test_profiles_without_common_bins_cannot_be_compared():
    left, right = exact_profile(gaussian_f, (-2, -1), 10), exact_profile(gaussian_f, (1, 2), 10)
    with pytest.raises(ValueError, match="no finite bin in common"):
        profile_deviation(left, right)


def test_exact_profile_averages_over_the_bin():
    # F = g r: the mean of exp(-F) over a bin of width h is exp(-g r) sinh(gh/2) / (gh/2)
    exact = exact_profile(lambda r: 40 * r, (0, 1), 10)
    assert exact.f[3] - exact.f[0] == pytest.approx(12, rel=1e-9)
    uneven = exact_profile(lambda r: r**4 - 6 * r**2 + r, (-2.5, 2.5), 100)
    direct = uneven.r**4 - 6 * uneven.r**2 + uneven.r
    direct -= direct.min()
    bias = ((4 * uneven.r**3 - 12 * uneven.r + 1) ** 2 - (12 * uneven.r**2 - 12)) * 0.05**2 / 24
    assert np.abs(uneven.f - direct).max() > 0.05
    assert np.ptp(uneven.f - (direct - bias)) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": (1, 0)}, "bounds must be finite and increasing"),
        ({"bounds": (0, 1), "n_bins": 0}, "n_bins must be at least 1"),
        ({"bounds": (0, 1), "n_batches": 1}, "n_batches must be at least 2"),
        ({"bounds": (0, 1), "split": math.nan}, "split must be finite"),
    ],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProfileAccumulator(**arguments)


def test_bad_calls_are_named():
    accumulator = ProfileAccumulator((0, 1))
    with pytest.raises(ValueError, match="r must have the shape"):
        accumulator.update(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="needs a split"):
        accumulator.delta_f()
    with pytest.raises(ValueError, match="orientation must be"):
        free_energy_difference([0.0], split=0.5, orientation="open-closed")
