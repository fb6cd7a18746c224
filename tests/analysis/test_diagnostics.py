import math

import numpy as np
import pytest

from bgfast.analysis.diagnostics import trust
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.profiles import free_energy_profile
from bgfast.analysis.weights import WeightAccumulator, WeightSummary


def summary(**changes):
    good = {
        "n": 100_000,
        "ess": 40_000.0,
        "max_weight": 1e-4,
        "pareto_k": 0.2,
        "log_z": Estimate(0.0, 0.01),
        "nonfinite": 0,
        "discarded": 0,
        "history": ((25_000, 10_000.0),),
    }
    return WeightSummary(**{**good, **changes})


def test_well_sampled_weights_are_good():
    accumulator = WeightAccumulator()
    accumulator.update(0.3 * np.random.default_rng(1).normal(size=20_000))
    verdict = trust(accumulator.result())
    assert verdict.level == "good", verdict.sentences
    assert "20,000 draws" in " ".join(verdict.sentences)


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"pareto_k": 0.6}, "caution", "between 0.5 and 0.7"),
        ({"pareto_k": 0.9}, "poor", "bootstrap errors are themselves unreliable"),
        ({"pareto_k": math.nan}, "caution", "too few positive weights"),
        ({"ess": 300.0, "history": ()}, "caution", "ESS itself is an overestimate"),
        ({"ess": 30.0, "history": ()}, "poor", "worth 30 effective samples"),
        ({"max_weight": 0.05}, "caution", "5 % of the total"),
        ({"max_weight": 0.5}, "poor", "50 % of the total"),
        ({"nonfinite": 5000}, "caution", "5 % of the draws have a non-finite weight"),
        ({"nonfinite": 50_000}, "poor", "non-finite"),
        ({"history": ((25_000, 30_000.0),)}, "caution", "not converged"),
        ({"history": ((25_000, 45_000.0),)}, "poor", "not converged"),
    ],
)
def test_each_weakness_sets_the_level_and_is_named(changes, level, words):
    verdict = trust(summary(**changes))
    assert verdict.level == level
    assert words in " ".join(verdict.sentences)


def test_discarded_rows_are_reported_without_blame():
    verdict = trust(summary(discarded=60_000))
    assert verdict.level == "good"
    assert "60 % were discarded on purpose" in " ".join(verdict.sentences)


def test_heavy_tails_are_recognised_from_the_samples():
    accumulator = WeightAccumulator()
    accumulator.update(1.5 * np.random.default_rng(2).exponential(size=20_000))
    assert trust(accumulator.result()).level == "poor"


def test_empty_barrier_is_poor():
    r = np.r_[np.full(500, 0.1), np.full(500, 0.9)]
    profile = free_energy_profile(r, bounds=(0, 1), n_bins=10)
    verdict = trust(summary(), profile, barrier=(0.3, 0.7))
    assert verdict.level == "poor"
    assert "4 of 4 bins hold no sample" in " ".join(verdict.sentences)
    assert "part of the coordinate" in verdict.headline
    assert "part of the coordinate" not in trust(summary(pareto_k=1), profile, (0.3, 0.7)).headline
    with pytest.raises(ValueError, match="holds no bin"):
        trust(summary(), profile, barrier=(5, 6))
    with pytest.raises(ValueError, match="together"):
        trust(summary(), profile)


def test_scarce_state_is_named():
    verdict = trust(summary(), state_ess=(40_000.0, 3.0))
    assert verdict.level == "poor"
    assert "40,000 and 3.0 effective samples" in " ".join(verdict.sentences)


def test_no_weight_at_all_is_poor_and_says_why():
    accumulator = WeightAccumulator()
    accumulator.update(np.full(10, np.nan))
    verdict = trust(accumulator.result())
    assert verdict.level == "poor"
    assert "None of the 10 draws" in " ".join(verdict.sentences)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(3.37990, 0.0123), "3.380 ± 0.012"),
        (Estimate(12.3, 4.56), "12.3 ± 4.6"),
        (Estimate(1234.5, 67.0), "1234 ± 67"),
        (Estimate(1.0, math.nan), "1.00 ± unknown"),
        (Estimate(math.inf, math.nan), "not determined"),
    ],
)
def test_estimates_print_as_one_would_write_them(estimate, text):
    assert str(estimate) == text
