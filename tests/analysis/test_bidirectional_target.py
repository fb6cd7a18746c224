"""Simulations under a known bias: weights, free energies and profiles are those of the target."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from bgfast.analysis import Pool, Rows, bidirectional, exact_profile, profile_deviation

STATES = ("left", "right")
BOUNDS = (-2.4, 2.4)
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
GRID = np.linspace(*BOUNDS, 48_001)


def double_well(x):
    return 2 * x**4 - 12 * x**2 + x  # a barrier of 18


def rest(x):
    return 0.4 * x**2 + 0.3 * np.sin(4 * x)


def target(x):
    return double_well(x) + rest(x)


def flattened_pool(seed, n_generated=4000, n_walkers=16, n_frames=100):
    """Walkers in exp(-rest), confined to either side of 0; the generator is N(0.3, 1.2^2)."""
    rng = np.random.default_rng(seed)

    def rows(x, block):
        log_q = -0.5 * ((x - 0.3) / 1.2) ** 2 - math.log(1.2) - LOG_SQRT_2PI
        inside = (x >= BOUNDS[0]) & (x <= BOUNDS[1])
        state = np.where(inside, (x >= 0).astype(int), -1)
        return Rows(rest(x), log_q, state, x, block, log_target=-double_well(x))

    def walkers(inside):
        noise = rng.normal(size=(n_frames, n_walkers))
        for t in range(1, n_frames):
            noise[t] = 0.8 * noise[t - 1] + 0.6 * noise[t]
        cumulative = np.cumsum(np.where(inside, np.exp(-rest(GRID)), 0))
        return np.interp(ndtr(noise.T.ravel()), cumulative / cumulative[-1], GRID)

    simulated = np.concatenate([walkers(GRID < 0), walkers(GRID >= 0)])
    walker = np.tile(np.repeat(np.arange(n_walkers), n_frames), 2)
    return Pool(rows(0.3 + 1.2 * rng.normal(size=n_generated), None), rows(simulated, walker))


def exact_log_z(u, inside):
    return math.log(np.exp(-u(GRID[inside])).sum() * (GRID[1] - GRID[0]))


def test_flattened_simulations_give_the_profile_across_the_barrier():
    result = bidirectional(flattened_pool(1, n_generated=20_000, n_frames=400), STATES)
    profile, exact = result.profile(BOUNDS, 40), exact_profile(target, BOUNDS, 40)
    deviation = profile_deviation(profile, exact)
    in_errors = (profile.f - exact.f - deviation.offset) / profile.stderr
    assert exact.f.max() > 15
    assert deviation.largest < 0.25
    assert np.abs(in_errors).max() < 4
    assert np.mean(in_errors**2) < 2


def test_log_z_is_of_the_target_and_the_overlap_of_the_simulated_states():
    pool = flattened_pool(2)
    result = bidirectional(pool, STATES)
    log_w = np.concatenate([result.log_w_generated, result.log_w_simulated])
    state = np.concatenate([pool.generated.state, pool.simulated.state])
    unbiased = [replace(rows, log_target=None) for rows in (pool.generated, pool.simulated)]
    flat = bidirectional(Pool(*unbiased), STATES)
    assert result.overlaps == flat.overlaps
    assert np.array_equal(result.overlap_matrix, flat.overlap_matrix)
    for k, inside in enumerate((GRID < 0, GRID >= 0)):
        z = result.log_z[k]
        assert math.log(np.exp(log_w[state == k]).sum()) == pytest.approx(z.value, abs=1e-10)
        assert abs(z.value - exact_log_z(target, inside)) < 3.5 * z.stderr
        assert abs(flat.log_z[k].value - exact_log_z(rest, inside)) < 3.5 * flat.log_z[k].stderr


def test_stated_errors_cover_the_truth():
    exact = exact_log_z(target, GRID >= 0) - exact_log_z(target, GRID < 0)
    f = exact_profile(target, (-1.8, 1.8), 3).f
    exact_share = -f - np.log(np.exp(-f).sum())
    deviations = []
    for seed in range(300):  # standard error of a coverage 0.027
        result = bidirectional(
            flattened_pool(100 + seed, n_generated=500), STATES, n_bootstrap=100, seed=seed
        )
        profile, delta_f = result.profile((-1.8, 1.8), 3), result.delta_f()
        share = -profile.f - np.log(np.exp(-profile.f).sum())
        in_errors = (share - exact_share) / profile.stderr
        deviations.append([(delta_f.value - exact) / delta_f.stderr, *in_errors])
    coverage = np.mean(np.abs(deviations) < 1, axis=0)
    assert (coverage > 0.60).all(), coverage
    assert (coverage < 0.76).all(), coverage


def with_target(pool, value):
    return Pool(
        *(
            replace(rows, log_target=None if value is None else np.full(rows.u.size, value))
            for rows in (pool.generated, pool.simulated)
        )
    )


def test_a_constant_target_factor_changes_no_average_and_zero_changes_no_bit():
    pool = flattened_pool(3)
    none, zero, constant = (
        bidirectional(with_target(pool, value), STATES) for value in (None, 0.0, 500.0)
    )
    assert none.log_z == zero.log_z
    assert none.delta_f() == zero.delta_f()
    assert np.array_equal(none.log_w_generated, zero.log_w_generated)
    assert np.array_equal(none.log_w_simulated, zero.log_w_simulated)
    profiles = [result.profile(BOUNDS, 20) for result in (none, zero, constant)]
    for name in ("f", "stderr", "counts", "ess"):
        first, second, third = (getattr(profile, name) for profile in profiles)
        assert np.array_equal(first, second, equal_nan=True)
        np.testing.assert_allclose(third, first, rtol=1e-6, atol=1e-9)
    assert constant.log_z[0].value == pytest.approx(none.log_z[0].value + 500)
    # replicas of log Z are interpolated sums here, and roots of the BAR equation there
    assert constant.delta_f().stderr == pytest.approx(none.delta_f().stderr, rel=0.01)


def test_rows_without_a_finite_target_factor_weigh_nothing_and_are_counted():
    pool = flattened_pool(4)
    log_target = pool.generated.log_target.copy()
    log_target[:7] = np.nan
    spoilt = replace(pool.generated, log_target=log_target)
    result = bidirectional(Pool(spoilt, pool.simulated), STATES)
    assert result.nonfinite_generated == 7
    assert not np.isfinite(result.log_w_generated[:7]).any()
    with pytest.raises(ValueError, match="log_target must have the shape of u"):
        replace(pool.generated, log_target=np.zeros(3))
