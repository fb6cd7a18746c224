"""Keep what finished dimer runs said, for README: ``python -m benchmarks.runs RUN...``.

Reads the folders that ``bgfast run`` left and writes ``benchmarks/results/runs.json``: the command
line that leads to such a run, at every temperature F(closed) - F(open) of each estimator and of
umbrella sampling, the largest deviation of the profile, the seconds of each part, and the versions.
What the file says of other runs stays. ``python -m benchmarks.readme`` writes the table.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bgfast.errors import UserError
from bgfast.experiments.config import preset_names, read_table, to_toml, validated
from bgfast.experiments.folder import RunFolder, flattened
from bgfast.experiments.runner import EXPERIMENTS

RESULTS = Path(__file__).parent / "results" / "runs.json"


def command(table: dict[str, Any]) -> str:
    """Return the command line of a run with this configuration, from the nearest preset."""
    run = _settings(table)
    found = []
    for name in preset_names():
        preset = read_table(name)
        if preset["experiment"] != table["experiment"]:
            continue
        base = _settings(preset) | {"seed": run["seed"], "description": run["description"]}
        changes = [f"--set {k}={_toml(v)}" for k, v in run.items() if base.get(k) != v]
        if not base.keys() - run.keys():  # there is no way to unset a key
            found.append([f"bgfast run {name} --seed {run['seed']}", *changes])
    if not found:
        raise UserError(f"no preset of the experiment {table['experiment']!r} leads to this run")
    return " ".join(min(found, key=len))


def _settings(table: dict[str, Any]) -> dict[str, Any]:
    config = validated(EXPERIMENTS[table["experiment"]].config, table, "the configuration")
    return flattened(tomllib.loads(to_toml(config)))


def _toml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield what the run in ``path`` said at each temperature."""
    table = RunFolder(path).table()
    summary = json.loads((path / "summary.json").read_text())
    for tau, found in summary["temperatures"].items():
        of_main = float(tau) == summary["tau"]  # the other estimators are those of one temperature
        estimators = summary["estimators"] if of_main else {}
        yield {
            "command": command(table),
            "tau": float(tau),
            "delta_f": found["delta_f"],
            "annealed": estimators.get("annealed", {}).get("delta_f"),
            "plain": estimators.get("plain", {}).get("delta_f"),
            "reference": (found.get("reference") or {}).get("delta_f"),
            "profile_largest": (found.get("agreement") or {}).get("profile_largest"),
            "seconds": summary["seconds"],
            "versions": summary["versions"],
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.runs", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--json", type=Path, default=RESULTS, help="[benchmarks/results/runs.json]")
    options = parser.parse_args(arguments)
    try:
        found = [row for path in options.runs for row in rows(path)]
    except (UserError, FileNotFoundError) as error:
        parser.error(str(error))
    kept = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    by_run = {(row["command"], row["tau"]): row for row in [*kept, *found]}
    options.json.write_text(json.dumps({"rows": list(by_run.values())}, indent=1) + "\n")


if __name__ == "__main__":
    main()
