import math
from dataclasses import replace

import numpy as np
import pytest
from pymbar import MBAR
from scipy.special import logsumexp

from bgfast.analysis import Bias, Pool, Rows, bidirectional, pool_biased
from bgfast.analysis.biased_verdict import SimulationSummary, judge

BOUNDS, SPLIT, N_BINS = (-2.5, 2.5), 0.0, 25
GRID = np.linspace(*BOUNDS, 20_001)


def u_of(r):
    return r**4 - 6 * r**2 + r


def exact_delta_f():
    below = GRID < SPLIT
    return float(logsumexp(-u_of(GRID[~below])) - logsumexp(-u_of(GRID[below])))


def exact_f_bins():
    index = np.minimum(((GRID - BOUNDS[0]) / 5 * N_BINS).astype(int), N_BINS - 1)
    p = np.bincount(index, np.exp(-u_of(GRID)))
    return -np.log(p / p.sum())


def drawn(rng, log_p, n):
    """Draw n points in proportion to exp(log_p) on the grid."""
    p = np.exp(log_p - log_p.max())
    return np.interp(rng.random(n), np.cumsum(p) / p.sum(), GRID)


def harmonic(centre, spring=8.0):
    return Bias(f"window {centre:g}", lambda r: 0.5 * spring * (r - centre) ** 2 - 0.9 * u_of(r))


def within(low, high, name):
    return Bias(name, lambda r: np.where((r >= low) & (r < high), 0.0, np.inf))


WINDOWS = [harmonic(c) for c in np.linspace(-2.2, 2.2, 7)]
STATES = [within(-9, SPLIT, "left"), within(SPLIT, 9, "right")]


def generator(rng, n=4000, width=1.5):
    r = width * rng.normal(size=n)
    log_q = -0.5 * (r / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
    outside = (r < BOUNDS[0]) | (r > BOUNDS[1])
    state = np.where(outside, -1, 0)
    return Rows(u_of(r), log_q, state, r, np.arange(n) % 32)


def simulations(rng, biases, n_walkers=16, n_frames=50, width=1.5):
    parts = [drawn(rng, -u_of(GRID) - b.value(GRID), n_walkers * n_frames) for b in biases]
    r = np.concatenate(parts)
    log_q = -0.5 * (r / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
    state = np.repeat(np.arange(len(biases)), n_walkers * n_frames)
    block = np.tile(np.repeat(np.arange(n_walkers), n_frames), len(biases))
    return Rows(u_of(r), log_q, state, r, block)


def pooled(generated, simulated, biases, **kwargs):
    return pool_biased(
        generated, simulated, biases, bounds=BOUNDS, split=SPLIT, n_bins=N_BINS, **kwargs
    )


@pytest.mark.parametrize(
    ("biases", "with_generator"),
    [
        (WINDOWS, True),
        (WINDOWS, False),
        (STATES, True),
        (WINDOWS + STATES, True),
        (WINDOWS + STATES, False),
    ],
)
def test_free_energies_are_those_of_quadrature(biases, with_generator):
    rng = np.random.default_rng(5)
    generated = generator(rng) if with_generator else None
    result = pooled(generated, simulations(rng, biases), biases)
    assert abs(result.delta_f.value - exact_delta_f()) < 3.5 * result.delta_f.stderr
    assert 0 < result.delta_f.stderr < 0.3
    exact = exact_f_bins()
    apart = (result.profile.f - (exact - exact.min()))[exact < 8]
    assert np.abs(apart).max() < 5 * np.nanmax(result.profile.stderr[exact < 8])
    assert result.verdict.level == "good"
    if with_generator:
        log_z = logsumexp(-u_of(GRID)) + math.log(GRID[1] - GRID[0])
        assert abs(result.log_z.value - log_z) < 3.5 * result.log_z.stderr
        total = np.concatenate([result.log_w_generated, result.log_w_simulated])
        assert math.isclose(logsumexp(total), result.log_z.value, abs_tol=1e-9)
    else:
        assert math.isnan(result.log_z.value)


def test_solution_is_that_of_pymbar():
    rng = np.random.default_rng(2)
    generated, simulated = generator(rng, 500), simulations(rng, WINDOWS, 4, 25)
    inside = generated.state >= 0
    generated = Rows(
        *(a[inside] for a in (generated.u, generated.log_q, generated.state, generated.r))
    )
    simulated = Rows(simulated.u, simulated.log_q, simulated.state, simulated.r)  # no walkers
    result = pooled(generated, simulated, WINDOWS, n_bootstrap=2)
    r = np.concatenate([generated.r, simulated.r])
    u = np.concatenate([generated.u, simulated.u])
    log_q = np.concatenate([generated.log_q, simulated.log_q])
    reduced = np.stack([-log_q] + [u + b.value(r) for b in WINDOWS])
    numbers = [generated.u.size] + [100] * len(WINDOWS)
    theirs = MBAR(reduced, numbers, solver_protocol="robust")
    log_total = logsumexp(
        np.log(numbers)[:, None] + (theirs.f_k - theirs.f_k[0])[:, None] - reduced, axis=0
    )
    ours = np.concatenate([result.log_w_generated, result.log_w_simulated])
    np.testing.assert_allclose(ours, -u - log_total, atol=1e-6)
    np.testing.assert_allclose(result.overlap_matrix, theirs.compute_overlap()["matrix"], atol=1e-6)


def test_two_disjoint_states_give_the_bidirectional_estimate():
    rng = np.random.default_rng(8)
    generated, simulated = generator(rng), simulations(rng, STATES)
    state = np.where(generated.state < 0, -1, generated.r >= SPLIT)
    by_state = Rows(generated.u, generated.log_q, state, generated.r, generated.block)
    pair = bidirectional(Pool(by_state, simulated), ("left", "right"))
    result = pooled(generated, simulated, STATES)
    assert math.isclose(result.delta_f.value, pair.delta_f().value, abs_tol=0.02)
    assert 0.7 < result.delta_f.stderr / pair.delta_f().stderr < 1.4


@pytest.mark.parametrize("parts", ["windows", "windows and generator"])
def test_one_standard_error_covers_the_exact_value_in_two_of_three_cases(parts):
    z = []
    for seed in range(100):
        rng = np.random.default_rng(1000 + seed)
        generated = None if parts == "windows" else generator(rng, 500)
        simulated = simulations(rng, WINDOWS, 8, 10)
        delta_f = pooled(generated, simulated, WINDOWS, n_bootstrap=40).delta_f
        z.append((delta_f.value - exact_delta_f()) / delta_f.stderr)
    assert 0.58 <= np.mean(np.abs(z) < 1) <= 0.78  # 0.68 +- 2 sqrt(0.68 * 0.32 / 100)
    assert abs(np.mean(z)) < 0.35


def test_simulations_that_nothing_connects_are_called_out():
    rng = np.random.default_rng(0)
    biases = [harmonic(-2.0, 200.0), harmonic(2.0, 200.0)]
    result = pooled(None, simulations(rng, biases), biases)
    assert result.verdict.level == "poor"
    assert "between" in result.verdict.findings[0].sentence


@pytest.mark.parametrize("takes_part", [True, False])
def test_a_generator_whose_samples_add_nothing_is_named(takes_part):
    rng = np.random.default_rng(0)
    generated, simulated = generator(rng), simulations(rng, WINDOWS)
    if not takes_part:  # 40 k_B T too high, where no simulation goes
        generated = replace(generated, u=generated.u + 40)
        simulated = replace(simulated, log_q=simulated.log_q - 40)
    sentences = " ".join(pooled(generated, simulated, WINDOWS).verdict.sentences)
    assert ("add nothing to the estimate" in sentences) != takes_part


@pytest.mark.parametrize("index", [1, 2])
@pytest.mark.parametrize(("link", "printed"), [(0.94e-3, "0.0009"), (1.06e-3, "0.0011")])
def test_a_generator_adds_nothing_where_all_its_links_are_below_a_thousandth(index, link, printed):
    overlap = np.zeros((3, 3))
    overlap[1, 2] = overlap[2, 1] = 0.3
    overlap[0, index] = overlap[index, 0] = link / 2  # that with the other simulation is 0
    pool = [SimulationSummary(name, 800, 16, 1.0, 800.0) for name in ("left", "right")]
    sentence = judge(pool, overlap, 0, 1600, converged=True).findings[0].sentence
    nothing = f"the generator overlaps with none ({printed} at most): its samples add nothing"
    something = f"the generator overlaps by up to {printed} with one of them."
    assert (nothing in sentence, something in sentence) == (link < 1e-3, link > 1e-3)


def test_rows_that_cannot_be_used_weigh_nothing_and_are_reported():
    rng = np.random.default_rng(4)
    generated, simulated = generator(rng), simulations(rng, WINDOWS)
    u = simulated.u.copy()
    u[:200] = np.nan
    broken = Rows(u, simulated.log_q, simulated.state, simulated.r, simulated.block)
    result = pooled(generated, broken, WINDOWS)
    assert np.isneginf(result.log_w_simulated[:200]).all()
    assert np.isneginf(result.log_w_generated[generated.state < 0]).all()
    assert any("200 of" in finding.sentence for finding in result.verdict.findings)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": (0.0, 1.0), "split": 1.0}, "enclose split"),
        ({"n_bins": 0}, "n_bins must be at least 1"),
        ({"n_bootstrap": 1}, "n_bootstrap must be at least 2"),
        ({"biases": []}, "at least one simulation"),
        ({"biases": WINDOWS[:2]}, "simulated.state must lie in -1 ... 1"),
    ],
)
def test_a_wrong_argument_is_named(change, message):
    simulated = simulations(np.random.default_rng(0), WINDOWS, 2, 5)
    arguments = {"biases": WINDOWS, "bounds": BOUNDS, "split": SPLIT} | change
    with pytest.raises(ValueError, match=message):
        pool_biased(None, simulated, **arguments)
