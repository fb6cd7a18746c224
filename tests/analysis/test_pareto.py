import math

import numpy as np
import pytest
from arviz_stats.base import array_stats

from bgfast.analysis.pareto import LargestWeights, pareto_k, tail_length


@pytest.mark.parametrize("n", [25, 100, 225, 226, 5000, 200_000])
def test_fit_to_the_largest_weights_equals_the_fit_to_all(n):
    log_w = 3 * np.random.default_rng(n).normal(size=n) + 50
    full = float(array_stats.psislw(-log_w, r_eff=1)[1])
    assert pareto_k(log_w) == pytest.approx(full, rel=1e-12)


@pytest.mark.parametrize("k", [0.3, 0.6, 1.2])
def test_tail_of_known_shape_is_found(k):
    # Pareto weights P(w > t) = t^(-1/k) have exactly shape k
    log_w = k * np.random.default_rng(7).exponential(size=200_000)
    assert pareto_k(log_w) == pytest.approx(k, abs=0.1)


def test_bounded_weights_have_a_negative_k():
    assert pareto_k(np.log(np.random.default_rng(8).random(100_000))) < -0.5


@pytest.mark.parametrize("chunk", [1, 37, 5000])
def test_stream_keeps_exactly_the_largest(chunk):
    log_w = np.random.default_rng(9).normal(size=5000)
    largest = LargestWeights(capacity=50)
    for start in range(0, 5000, chunk):
        largest.add(log_w[start : start + chunk])
    assert np.array_equal(largest.values(), np.sort(log_w)[-50:])


def test_beyond_the_capacity_k_comes_from_a_shorter_tail():
    log_w = 0.6 * np.random.default_rng(10).exponential(size=100_000)
    largest = LargestWeights(capacity=400)
    largest.add(log_w)
    assert tail_length(100_000) > 400
    assert largest.pareto_k(100_000) == pytest.approx(0.6, abs=0.15)


@pytest.mark.parametrize(
    "log_w",
    [
        np.zeros(0),
        np.arange(24.0),
        np.full(1000, np.nan),
        np.r_[np.arange(20.0), np.full(980, -np.inf)],
    ],
)
def test_too_few_weights_give_nan(log_w):
    assert math.isnan(pareto_k(log_w))


def test_equal_weights_have_no_tail():
    assert pareto_k(np.zeros(1000)) == -math.inf
