"""How many times a run evaluated the energy, counted from what was asked for.

One count is u of one configuration, with or without its force. A Monte Carlo step counts one for
each walker; a sweep of single-particle moves counts :data:`SWEEP`. Steps of a burn-in count.
Evaluations of a reference do not: it is no part of the method.
"""

from __future__ import annotations

from dataclasses import dataclass

from bgfast.training.schedule import Stage, TrainingConfig

SWEEP = 4
"""A sweep moves every particle, and each move takes all its pairs at the old and the new place."""


@dataclass(frozen=True)
class EnergyEvaluations:
    """Energy evaluations of one estimate.

    Parameters
    ----------
    data
        Monte Carlo steps times walkers.
    training
        Generated configurations of all steps that train by energy or along R.
    sampling
        Generated configurations that were weighed, and local Monte Carlo that starts from them.
    """

    data: int
    training: int
    sampling: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.data + self.training + self.sampling


def of_training(*schedules: TrainingConfig) -> int:
    """Return how many configurations the ``schedules`` evaluate u on; ML evaluates none."""
    return sum(_of_stage(stage) for schedule in schedules for stage in schedule.stages)


def _of_stage(stage: Stage) -> int:
    if not stage.generates:
        return 0
    per_step = stage.batch_kl // len(stage.tau) * len(stage.tau)  # equal shares
    return stage.steps * per_step
