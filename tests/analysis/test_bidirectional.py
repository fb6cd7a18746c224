import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from bgfast.analysis.bidirectional import Pool, Rows, bidirectional
from bgfast.analysis.blocks import statistical_inefficiency, times_drawn
from bgfast.analysis.comparison import exact_profile, profile_deviation

STATES = ("left", "right")
LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def walkers(rng, n_walkers, n_frames, dim, correlation):
    """Stationary AR(1) walkers: frames ~ N(0, 1)^dim by walker and time, and each one's walker."""
    noise = rng.normal(size=(n_frames, n_walkers, dim))
    noise[1:] *= math.sqrt(1 - correlation**2)
    for t in range(1, n_frames):
        noise[t] += correlation * noise[t - 1]
    frames = noise.transpose(1, 0, 2).reshape(-1, dim)
    return frames, np.repeat(np.arange(n_walkers), n_frames)


def gaussian_pool(
    rng, dim=1, shift=0.0, scale=1.0, offset=0.0, n_generated=4000, n_walkers=16, n_frames=100,
    correlation=0.0,
):  # fmt: skip
    """u = |x|^2/2 - offset, states x_1 < 0 and x_1 >= 0; the generator is N(shift e_1, scale^2).

    log Z of either state is offset + dim log sqrt(2 pi) - log 2.
    """

    def rows(x, block):
        at = x.copy()
        at[:, 0] -= shift
        log_q = -0.5 * (at**2).sum(1) / scale**2 - dim * (math.log(scale) + LOG_SQRT_2PI)
        state = (x[:, 0] >= 0).astype(int)
        return Rows(0.5 * (x**2).sum(1) - offset, log_q, state, x[:, 0], block)

    generated = scale * rng.normal(size=(n_generated, dim))
    generated[:, 0] += shift
    sides = []
    for sign in (-1, 1):
        x, walker = walkers(rng, n_walkers, n_frames, dim, correlation)
        x[:, 0] = sign * np.abs(x[:, 0])
        sides.append((x, walker))
    simulated = np.concatenate([x for x, _ in sides])
    return Pool(rows(generated, None), rows(simulated, np.concatenate([w for _, w in sides])))


def with_rows(rows, chosen, **changes):
    """Return ``rows`` with single entries of some arrays replaced."""
    arrays = {name: getattr(rows, name).copy() for name in ("u", "log_q", "state", "r")}
    for name, value in changes.items():
        arrays[name][chosen] = value
    return Rows(**arrays, block=rows.block)


# --- free energies ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "shift", "scale", "offset"),
    [(1, 0.0, 2.0, 0.0), (1, 1.5, 0.7, 300.0), (5, 0.5, 1.3, -2e4), (20, 0.3, 1.3, 0.0)],
)
def test_restricted_gaussians_have_their_known_log_z(dim, shift, scale, offset):
    pool = gaussian_pool(np.random.default_rng(3), dim, shift, scale, offset)
    result = bidirectional(pool, STATES)
    exact = offset + dim * LOG_SQRT_2PI - math.log(2)
    for log_z in result.log_z:
        assert abs(log_z.value - exact) < 3.5 * log_z.stderr
        assert log_z.stderr < 0.15
    assert abs(result.delta_f().value) < 3.5 * result.delta_f().stderr
    assert result.delta_f(1, 0).value == -result.delta_f(0, 1).value
    assert result.verdict.level == "good"


def test_weights_solve_the_mbar_equations_of_pymbar():
    pymbar = pytest.importorskip("pymbar")
    pool = gaussian_pool(np.random.default_rng(4), dim=2, shift=0.5, scale=1.5, n_frames=30)
    simulated = pool.simulated
    independent = Rows(simulated.u, simulated.log_q, simulated.state, simulated.r)
    result = bidirectional(Pool(pool.generated, independent), STATES)
    u, log_q, state = (
        np.concatenate([getattr(pool.generated, name), getattr(simulated, name)])
        for name in ("u", "log_q", "state")
    )
    u_kn = np.stack([-log_q, *(np.where(state == k, u, np.inf) for k in range(2))])
    counts = [pool.generated.u.size, *np.bincount(simulated.state)]
    reference = pymbar.MBAR(u_kn, counts, relative_tolerance=1e-12)
    f = reference.compute_free_energy_differences(compute_uncertainty=False)["Delta_f"][0]
    for k in range(2):
        assert -result.log_z[k].value == pytest.approx(f[k + 1], abs=1e-7)
    assert np.allclose(result.overlap_matrix, reference.compute_overlap()["matrix"], atol=1e-7)
    log_w = np.concatenate([result.log_w_generated, result.log_w_simulated])
    for k in range(2):
        z = np.exp(log_w[state == k]).sum()
        assert math.log(z) == pytest.approx(result.log_z[k].value, abs=1e-10)
        assert np.allclose(np.exp(log_w[state == k]) / z, reference.W_nk[state == k, k + 1])


def test_a_perfect_generator_reduces_to_counting():
    pool = gaussian_pool(np.random.default_rng(5))
    result = bidirectional(pool, STATES)
    for k, log_z in enumerate(result.log_z):
        share = np.mean(pool.generated.state == k)
        assert log_z.value == pytest.approx(LOG_SQRT_2PI + math.log(share), abs=1e-9)
        assert log_z.stderr == pytest.approx(math.sqrt((1 - share) / share / 4000), rel=0.2)
        assert result.overlaps[k].overlap == pytest.approx(1)
        assert result.overlaps[k].generated_ess == pytest.approx(4000 * share)


def test_rows_outside_of_the_labelling_weigh_nothing_but_count_as_drawn():
    # two exchangeable coordinates, canonical labelling x_1 < x_2: half of the generated rows are
    # outside, simulated ones are relabelled into it; log Z of the labelled half is log(pi)
    rng = np.random.default_rng(6)
    x, y = 1.2 * rng.normal(size=(20_000, 2)), np.sort(rng.normal(size=(3000, 2)), axis=1)

    def rows(x, state):
        log_q = -0.5 * (x**2).sum(1) / 1.44 - 2 * (math.log(1.2) + LOG_SQRT_2PI)
        return Rows(0.5 * (x**2).sum(1), log_q, state, x[:, 0])

    canonical = np.where(x[:, 0] < x[:, 1], 0, -1)
    result = bidirectional(Pool(rows(x, canonical), rows(y, np.zeros(3000, int))), ["all"])
    assert abs(result.log_z[0].value - math.log(math.pi)) < 3 * result.log_z[0].stderr
    assert np.array_equal(np.isfinite(result.log_w_generated), canonical == 0)
    assert result.outside_generated == np.sum(canonical < 0)


@pytest.mark.parametrize("name", ["u", "log_q", "r"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_rows_weigh_nothing_and_are_counted(name, bad):
    pool = gaussian_pool(np.random.default_rng(7), scale=1.3, n_frames=20)
    spoilt = with_rows(pool.generated, slice(0, 100), **{name: bad})
    outside = with_rows(pool.generated, slice(0, 100), state=-1)
    result = bidirectional(
        Pool(spoilt, with_rows(pool.simulated, slice(0, 3), **{name: bad})), STATES
    )
    assert (result.nonfinite_generated, result.nonfinite_simulated) == (100, 3)
    assert not np.isfinite(result.log_w_generated[:100]).any()
    assert not np.isfinite(result.log_w_simulated[:3]).any()
    assert "3 of 640 simulated rows were left out" in " ".join(result.verdict.sentences)
    same = bidirectional(Pool(outside, with_rows(pool.simulated, slice(0, 3), state=-1)), STATES)
    assert result.log_z == same.log_z


def test_huge_energies_and_tiny_densities_do_no_harm():
    pool = gaussian_pool(np.random.default_rng(8), scale=1.3)
    generated = with_rows(pool.generated, slice(0, 500), u=1e10)
    simulated = with_rows(pool.simulated, slice(0, 5), log_q=-1e6)
    result = bidirectional(Pool(generated, simulated), STATES)
    assert all(math.isfinite(z.value) and math.isfinite(z.stderr) for z in result.log_z)
    assert np.isfinite(result.profile((-2, 2), 10).f).all()


# --- errors ----------------------------------------------------------------------------------


def log_share(profile):
    return -profile.f - np.log(np.exp(-profile.f).sum())


def test_stated_errors_cover_the_truth_with_correlated_walkers():
    exact, bounds = LOG_SQRT_2PI - math.log(2), (-1.5, 1.5)
    exact_share = log_share(exact_profile(lambda r: r**2 / 2, bounds, 3))
    deviations = []
    for seed in range(400):  # standard error of a coverage 0.023
        rng = np.random.default_rng(100 + seed)
        pool = gaussian_pool(rng, shift=1.0, scale=1.3, n_generated=500, correlation=0.9)
        result = bidirectional(pool, STATES, n_bootstrap=100, seed=seed)
        difference, log_z = result.delta_f(), result.log_z[0]
        profile = result.profile(bounds, 3)
        in_errors = (log_share(profile) - exact_share) / profile.stderr
        deviations.append(
            [difference.value / difference.stderr, (log_z.value - exact) / log_z.stderr, *in_errors]
        )
    coverage = np.mean(np.abs(deviations) < 1, axis=0)
    assert (coverage > 0.60).all()
    assert (coverage < 0.76).all()


def test_bootstrap_replicas_solve_the_equation_anew():
    pool = gaussian_pool(np.random.default_rng(16), dim=5, scale=2.0, n_walkers=8)
    result = bidirectional(pool, ["left", "right"], n_bootstrap=20)
    state, replicas = result._states[0], result._replicas[0]
    batch_sizes = np.bincount(np.arange(4000) % 128)
    for i in range(20):
        times = replicas.times_batch[i][state.generated.block]
        frames = replicas.times_walker[i][state.simulated.block] * state.frame_weight

        def gap(c, times=times, frames=frames):
            return times @ expit(c - state.generated.work) - frames @ expit(
                state.simulated.work - c
            )

        n_generated = replicas.times_batch[i] @ batch_sizes
        f = brentq(gap, -50, 50) - math.log(frames.sum() / n_generated)
        assert replicas.f[i] == pytest.approx(f, abs=1e-3 * result.log_z[0].stderr + 1e-4)


@pytest.mark.parametrize("correlation", [0.0, 0.8, 0.95])
def test_the_inefficiency_of_correlated_walkers_is_theirs(correlation):
    x, walker = walkers(np.random.default_rng(9), 32, 1000, 1, correlation)
    exact = (1 + correlation) / (1 - correlation)
    assert statistical_inefficiency(x[:, 0], walker) == pytest.approx(exact, rel=0.12)
    shuffled = np.random.default_rng(10).permutation(32)[walker]  # names do not matter
    assert statistical_inefficiency(x[:, 0], shuffled) == pytest.approx(exact, rel=0.12)


def test_weights_with_correlated_walkers_sum_to_z():
    pool = gaussian_pool(np.random.default_rng(17), scale=1.3, correlation=0.9)
    result = bidirectional(pool, STATES)
    assert result.overlaps[1].inefficiency > 3
    w = np.exp(result.log_w_generated[pool.generated.state == 1]).sum()
    w += np.exp(result.log_w_simulated[pool.simulated.state == 1]).sum()
    assert math.log(w) == pytest.approx(result.log_z[1].value, abs=1e-10)


@pytest.mark.parametrize("n", [2, 4, 50])
def test_resampling_few_blocks_gives_the_unbiased_error_of_their_mean(n):
    rng = np.random.default_rng(18)
    means = times_drawn(rng, n, 20_000) @ (x := rng.normal(size=n)) / n
    assert means.std() == pytest.approx(x.std(ddof=1) / math.sqrt(n), rel=0.03)


def test_walkers_that_never_move_are_worth_one_frame_each():
    frozen = np.repeat(np.random.default_rng(11).normal(size=20), 50)
    assert statistical_inefficiency(frozen, np.repeat(np.arange(20), 50)) == pytest.approx(50)
    pool = gaussian_pool(np.random.default_rng(12), scale=1.3, n_frames=50, correlation=0.9999)
    result = bidirectional(pool, STATES)
    assert result.overlaps[0].n_effective < 20
    assert result.verdict.level == "caution"
    assert "hardly forget where they started" in " ".join(result.verdict.sentences)


# --- verdict ---------------------------------------------------------------------------------


def test_thin_overlap_is_flagged_and_not_determined_states_do_not_raise():
    rng = np.random.default_rng(13)
    thin = bidirectional(gaussian_pool(rng, dim=20, scale=3.0), STATES)
    assert thin.verdict.level == "poor"
    assert thin.overlaps[0].overlap < 0.01
    none = bidirectional(gaussian_pool(rng, dim=20, shift=50.0), STATES)
    assert none.verdict.level == "poor"
    assert not math.isfinite(none.log_z[0].value)
    assert not math.isfinite(none.delta_f().value)
    assert "0 generated and 1,600 simulated rows" in " ".join(none.verdict.sentences)
    assert np.isnan(none.profile((-1, 0), 4).f).all()


def test_one_walker_per_state_leaves_the_error_unknown():
    pool = gaussian_pool(np.random.default_rng(14), n_walkers=1, n_frames=500)
    result = bidirectional(pool, STATES)
    assert math.isnan(result.delta_f().stderr)
    assert result.verdict.level == "poor"
    assert "from a single walker no error can be told" in " ".join(result.verdict.sentences)


# --- profile ---------------------------------------------------------------------------------


def test_profile_of_a_double_well_agrees_with_quadrature():
    def u(x):
        return x**4 - 6 * x**2 + x

    rng, grid = np.random.default_rng(15), np.linspace(-4, 4, 40_001)
    density = np.exp(-u(grid) - 15)

    def restricted(inside):
        z, walker = walkers(rng, 32, 150, 1, 0.9)
        cumulative = np.cumsum(np.where(inside, density, 0))
        return np.interp(ndtr(z[:, 0]), cumulative / cumulative[-1], grid), walker

    (left, walker), (right, _) = restricted(grid < 0), restricted(grid >= 0)

    def rows(x, block):
        log_q = -0.5 * (x / 2) ** 2 - math.log(2) - LOG_SQRT_2PI
        return Rows(u(x), log_q, (x >= 0).astype(int), x, block)

    generated = rows(2 * rng.normal(size=20_000), None)
    simulated = rows(np.concatenate([left, right]), np.concatenate([walker, walker]))
    result = bidirectional(Pool(generated, simulated), STATES)
    exact = np.log(density[grid >= 0].sum() / density[grid < 0].sum())
    assert abs(result.delta_f().value - exact) < 3 * result.delta_f().stderr < 0.3

    profile = result.profile((-2.4, 2.4), 40)
    reference = exact_profile(u, (-2.4, 2.4), 40)
    deviation = profile_deviation(profile, reference)
    in_errors = (profile.f - reference.f - deviation.offset) / profile.stderr
    assert np.mean(in_errors**2) < 2
    assert np.abs(in_errors).max() < 4
    assert profile.stderr.max() < 0.3
    assert profile.counts.sum() == np.sum(np.abs(np.r_[generated.r, simulated.r]) <= 2.4)
    assert (profile.ess <= profile.counts).all()


# --- bad input -------------------------------------------------------------------------------


def test_bad_input_is_named():
    rows = Rows(np.zeros(3), np.zeros(3), np.zeros(3, int), np.zeros(3))
    with pytest.raises(ValueError, match="log_q must have the shape of u"):
        Rows(np.zeros(3), np.zeros(2), np.zeros(3, int), np.zeros(3))
    with pytest.raises(TypeError, match="state must hold integers"):
        Rows(np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"generated.state must lie in -1 ... 0, got 0 ... 1"):
        bidirectional(Pool(Rows(rows.u, rows.u, np.array([0, 1, 0]), rows.u), rows), ["all"])
    with pytest.raises(ValueError, match="at least two batches"):
        bidirectional(Pool(Rows(rows.u, rows.u, rows.state, rows.u, rows.state), rows), ["all"])
    with pytest.raises(ValueError, match="at least one state"):
        bidirectional(Pool(rows, rows), [])
    result = bidirectional(Pool(rows, rows), ["all"])
    with pytest.raises(ValueError, match="bounds must be finite and increasing"):
        result.profile((1, 0))
    with pytest.raises(ValueError, match="state must be 0 ... 0, got 1"):
        result.delta_f()
