"""Keep what finished dimer runs said, for README: ``python -m benchmarks.runs RUN...``.

Reads the folders that ``bgfast run`` left and writes ``benchmarks/results/runs.json``: at every
temperature F(closed) - F(open) of each estimator and of umbrella sampling, the largest deviation of
the profile, the seconds of each part, and the versions. ``python -m benchmarks.readme`` writes the
table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bgfast.experiments.folder import RunFolder

RESULTS = Path(__file__).parent / "results" / "runs.json"


def command(table: dict[str, Any]) -> str:
    """Return the command line that a run's configuration belongs to."""
    name = table["experiment"]
    if len(table["sampling"]["tau"]) > 1:
        name += "-temperatures"
    line = f"bgfast run {name} --seed {table['seed']}"
    preset = table["system"]["preset"]
    return line if preset == "default" else f"{line} --set system.preset={preset}"


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what the run in ``path`` said at each temperature."""
    folder = RunFolder(path)
    summary = json.loads((path / "summary.json").read_text())
    for tau, found in summary["temperatures"].items():
        of_main = float(tau) == summary["tau"]  # the other estimators are those of one temperature
        estimators = summary["estimators"] if of_main else {}
        yield {
            "command": command(folder.table()),
            "tau": float(tau),
            "delta_f": found["delta_f"],
            "annealed": estimators.get("annealed", {}).get("delta_f"),
            "plain": estimators.get("plain", {}).get("delta_f"),
            "reference": found["reference"]["delta_f"],
            "profile_largest": found["agreement"]["profile_largest"],
            "seconds": summary["seconds"],
            "versions": summary["versions"],
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.runs", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--json", type=Path, default=RESULTS, help="[benchmarks/results/runs.json]")
    options = parser.parse_args(arguments)
    found = [row for path in options.runs for row in rows(path)]
    options.json.write_text(json.dumps({"rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
