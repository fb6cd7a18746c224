"""What is said about annealed samples: in summary.json, in the report, on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bgfast.analysis.report import Report, Table
from bgfast.experiments.annealed_estimate import AnnealedEstimate

_TEXT = (
    "Samples of the generator are carried to the Boltzmann distribution by annealed sequential "
    "Monte Carlo: stage by stage their importance weights count more, from beta = 0 (as "
    "generated) to beta = 1; in every stage they are moved, and resampled where their weights have "
    "become uneven. Errors come from independent islands."
)


def anneal_entry(found: AnnealedEstimate) -> dict[str, Any]:
    """Return the numbers of an annealing run as they stand in summary.json."""
    record = found.record
    return {
        "n": found.n,
        "stages": len(record["betas"]),
        "min_ess": found.min_ess,
        "log_z": found.log_z.value,
        "log_z_stderr": found.log_z.stderr,
        "acceptance": float(np.nanmean(np.array(record["acceptance"], dtype=np.float64))),
        "ancestors": float(np.sum(record["ancestors"])),
        "island_log_z": record["island_log_z"],
        "betas": record["betas"],
        "evaluations": record["evaluations"],
        "trust": {"level": found.verdict.level, "sentences": found.verdict.sentences},
    }


def add_annealed(
    report: Report,
    difference: str,
    found: Mapping[str, AnnealedEstimate],
    figure: str,
    others: Sequence[Sequence[Any]] = (),
) -> None:
    """Add the section on annealing to a report.

    Parameters
    ----------
    report
        The report.
    difference
        Name of the free-energy difference.
    found
        Name -> estimate; the verdict is that of the last.
    figure
        Path of the schedule's picture.
    others
        Rows (name, free-energy difference, log Z) to compare with.
    """
    columns = ["", f"{difference}, k_B T", "log Z", "samples", "stages", "least ESS/n", "draws"]
    rows: list[list[Any]] = [
        [
            name,
            one.delta_f,
            one.log_z,
            one.n,
            len(one.record["betas"]),
            f"{one.min_ess:.2f}",
            f"{np.sum(one.record['ancestors']):.0f}",
        ]
        for name, one in found.items()
    ]
    rows += [[*row, "", "", "", ""] for row in others]
    report.add_section(
        "Annealed samples",
        _TEXT,
        table=Table(columns, rows, caption="Draws: effective independent draws they go back to."),
        figures=[(figure, "Schedule, least ESS of the islands, accepted moves.")],
        verdict=list(found.values())[-1].verdict,
    )


def annealed_sentences(found: AnnealedEstimate) -> list[str]:
    """Return what an annealing run found and is worth, in sentences."""
    numbers = (
        f"{found.n:,} annealed samples in {len(found.record['betas'])} stages, least ESS/n = "
        f"{found.min_ess:.2f}: log Z = {found.log_z}, free-energy difference {found.delta_f} k_B T."
    )
    return [numbers, *found.verdict.sentences]
