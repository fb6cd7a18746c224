"""From weighted samples to numbers, figures and a report."""

from bgfast.analysis.bar import bar
from bgfast.analysis.biased import Bias, BiasedEstimate, pool_biased
from bgfast.analysis.bidirectional import Bidirectional, bidirectional
from bgfast.analysis.comparison import ProfileDeviation, exact_profile, profile_deviation
from bgfast.analysis.diagnostics import Finding, Verdict, trust
from bgfast.analysis.estimate import Estimate
from bgfast.analysis.overlap import StateOverlap
from bgfast.analysis.pareto import pareto_k
from bgfast.analysis.pool import Pool, Rows
from bgfast.analysis.profiles import (
    Profile,
    ProfileAccumulator,
    free_energy_difference,
    free_energy_profile,
)
from bgfast.analysis.report import Report, Table
from bgfast.analysis.summary import (
    EstimatorResult,
    estimators_entry,
    load_summary,
    write_summary,
)
from bgfast.analysis.weights import WeightAccumulator, WeightSummary, ess, weighted_mean

__all__ = [
    "Bias",
    "BiasedEstimate",
    "Bidirectional",
    "Estimate",
    "EstimatorResult",
    "Finding",
    "Pool",
    "Profile",
    "ProfileAccumulator",
    "ProfileDeviation",
    "Report",
    "Rows",
    "StateOverlap",
    "Table",
    "Verdict",
    "WeightAccumulator",
    "WeightSummary",
    "bar",
    "bidirectional",
    "ess",
    "estimators_entry",
    "exact_profile",
    "free_energy_difference",
    "free_energy_profile",
    "load_summary",
    "pareto_k",
    "pool_biased",
    "profile_deviation",
    "trust",
    "weighted_mean",
    "write_summary",
]
