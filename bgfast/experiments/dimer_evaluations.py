"""What a run of the dimer, and its reference, cost in energy evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.evaluations import SWEEP, EnergyEvaluations, of_training
from bgfast.sampling.umbrella import UmbrellaResult

_STATES = 2


def dimer_evaluations(config: DimerConfig) -> EnergyEvaluations:
    """Return the evaluations that a run with ``config`` makes."""
    data, windows = config.data, config.windows
    n_taus = len(config.sampling.tau)
    walkers = _STATES * (len(data.tau) * data.n_walkers + n_taus * data.flat_walkers)
    sweeps = walkers * (data.burn_in + data.n_frames * data.stride)
    local = n_taus * windows.n_windows * windows.walkers
    sweeps_in_windows = local * (windows.burn_in + windows.n_frames * windows.stride)
    return EnergyEvaluations(
        data=SWEEP * sweeps,
        training=of_training(config.training),
        sampling=n_taus * config.sampling.n + SWEEP * sweeps_in_windows,
    )


def at_one_temperature(config: DimerConfig) -> EnergyEvaluations:
    """Return the evaluations of a run that samples at one of its temperatures only."""
    sampling = config.sampling.model_copy(update={"tau": config.sampling.tau[:1]})
    return dimer_evaluations(config.model_copy(update={"sampling": sampling}))


def with_annealing(evaluations: EnergyEvaluations, record: Mapping[str, int]) -> EnergyEvaluations:
    """Add what annealing took, a record of :class:`~bgfast.sampling.anneal.population.Evaluations`.

    In records of older runs ``flow`` includes the passes through the inverse, and ``starts`` are
    missing.
    """
    energies = record["flow"] + record["gradient"] + record.get("starts", 0)
    annealing = energies + SWEEP * record["sweeps"]
    return replace(evaluations, sampling=evaluations.sampling + annealing)


def umbrella_evaluations(reference: UmbrellaResult) -> int:
    """Return the evaluations that a reference took."""
    walkers = reference.n_ladders * reference.n_windows
    return SWEEP * walkers * (reference.burn_in + reference.sweeps)
