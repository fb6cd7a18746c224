import math

import numpy as np
import pytest

from bgfast.analysis.weights import WeightAccumulator, ess, weighted_mean


def accumulate(log_w, chunks=1, discard=None):
    accumulator = WeightAccumulator()
    masks = [None] * chunks if discard is None else np.array_split(discard, chunks)
    for part, mask in zip(np.array_split(log_w, chunks), masks, strict=True):
        accumulator.update(part, mask)
    return accumulator.result()


def test_lognormal_weights_have_their_known_ess_and_log_z():
    # w = exp(a + s g): log <w> = a + s^2/2 and ESS/n = <w>^2/<w^2> = exp(-s^2)
    s, a, n = 0.5, 700.0, 200_000
    result = accumulate(a + s * np.random.default_rng(1).normal(size=n))
    assert result.ess / n == pytest.approx(math.exp(-(s**2)), rel=0.01)
    assert abs(result.log_z.value - (a + s**2 / 2)) < 4 * result.log_z.stderr
    exact_stderr = math.sqrt((math.exp(s**2) - 1) / n)
    assert result.log_z.stderr == pytest.approx(exact_stderr, rel=0.05)


def test_equal_weights_are_worth_their_number():
    result = accumulate(np.full(1000, -3.0))
    assert result.ess == pytest.approx(1000)
    assert result.max_weight == pytest.approx(1 / 1000)
    assert (result.log_z.value, result.log_z.stderr) == (-3.0, 0.0)
    assert result.pareto_k == -math.inf


@pytest.mark.parametrize("chunks", [1, 2, 7, 1000])
def test_chunks_do_not_matter(chunks):
    rng = np.random.default_rng(2)
    log_w = 20 * rng.normal(size=5000)
    log_w[rng.random(5000) < 0.1] = np.nan
    discard = rng.random(5000) < 0.2
    whole, parts = accumulate(log_w, 1, discard), accumulate(log_w, chunks, discard)
    assert (parts.n, parts.nonfinite, parts.discarded) == (5000, whole.nonfinite, whole.discarded)
    for name in ("ess", "max_weight", "pareto_k"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    assert parts.log_z.value == pytest.approx(whole.log_z.value, rel=1e-12)
    assert np.allclose(parts.history, whole.history, rtol=1e-12, atol=0)


def test_merging_equals_one_stream():
    log_w = 10 * np.random.default_rng(3).normal(size=3000)
    first, second = WeightAccumulator(), WeightAccumulator()
    first.update(log_w[:1000])
    second.update(log_w[1000:])
    first.merge(second)
    first.merge(WeightAccumulator())
    merged, whole = first.result(), accumulate(log_w)
    for name in ("n", "ess", "max_weight", "pareto_k"):
        assert getattr(merged, name) == pytest.approx(getattr(whole, name), rel=1e-12)
    assert merged.log_z.value == pytest.approx(whole.log_z.value, rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_rows_weigh_nothing_and_are_counted(bad):
    log_w = np.random.default_rng(4).normal(size=100)
    spoilt = np.concatenate([log_w, np.full(100, bad)])
    result, clean = accumulate(spoilt, 3), accumulate(log_w)
    assert result.nonfinite == 100
    assert result.ess == pytest.approx(clean.ess)
    assert result.log_z.value == pytest.approx(clean.log_z.value - math.log(2))  # they are draws
    assert ess(spoilt) == pytest.approx(clean.ess)


def test_discarded_rows_weigh_nothing_even_when_they_are_the_heaviest():
    log_w = np.array([0.0, 1.0, 500.0, np.nan])
    result = accumulate(log_w, discard=np.array([False, False, True, True]))
    assert (result.n, result.discarded, result.nonfinite) == (4, 2, 0)
    assert result.ess == pytest.approx(ess([0.0, 1.0]))


def test_no_positive_weight_is_reported_not_raised():
    result = accumulate(np.full(50, np.nan))
    assert (result.n, result.nonfinite, result.ess) == (50, 50, 0.0)
    assert math.isnan(result.max_weight)
    assert math.isnan(result.pareto_k)
    assert result.log_z.value == -math.inf
    assert WeightAccumulator().result().n == 0
    assert ess([]) == 0.0


def test_weights_beyond_the_range_of_floats_are_handled():
    result = accumulate(np.array([-1e308, 1e308, 1e308]), chunks=3)
    assert result.ess == pytest.approx(2)
    assert result.max_weight == pytest.approx(0.5)


def test_memory_does_not_grow_with_the_samples():
    rng = np.random.default_rng(5)
    accumulator = WeightAccumulator(n_largest=1000)
    for _ in range(100):
        accumulator.update(rng.normal(size=10_000))
    assert accumulator._largest._kept.size <= 2000
    assert len(accumulator._history) < 40
    assert accumulator.n == 1_000_000


def test_weighted_mean_and_its_error_match_theory():
    # target N(m, 1) from N(0, 1): log w = m x - m^2/2 and the mean of x is m
    m, n, rng = 0.5, 2000, np.random.default_rng(6)
    estimates = [weighted_mean(x, m * x) for x in rng.normal(size=(300, n))]
    values = np.array([e.value for e in estimates])
    assert values.mean() == pytest.approx(m, abs=4 * values.std() / math.sqrt(300))
    assert np.mean([e.stderr for e in estimates]) == pytest.approx(values.std(), rel=0.15)


def test_weighted_mean_leaves_out_nonfinite_rows():
    assert weighted_mean([1.0, 3.0, np.nan, 9.0], [0.0, 0.0, 0.0, np.nan]).value == 2.0
    assert math.isnan(weighted_mean([1.0], [0.0]).stderr)
    with pytest.raises(ValueError, match="no row"):
        weighted_mean([np.nan], [0.0])


def test_bad_input_is_named():
    accumulator = WeightAccumulator()
    with pytest.raises(ValueError, match=r"log_w must have shape \[n\], got \[2, 2\]"):
        accumulator.update(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="discard must have shape"):
        accumulator.update(np.zeros(3), np.zeros(2, dtype=bool))
    with pytest.raises(TypeError, match="discard must be boolean"):
        accumulator.update(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="values must have the shape"):
        weighted_mean(np.zeros(3), np.zeros(2))
