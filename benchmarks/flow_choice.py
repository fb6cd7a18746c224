"""Compare flows for the dimer by what counts: ``python -m benchmarks.flow_choice``.

Each contender does all of ``bgfast run dimer`` (simulations, training, drawing, annealing, windows,
estimates) on all cores, with as many training steps as fit into the time that the preset's own flow
needs for the preset's steps, or into ``--training-seconds``: steps are timed first, and both stages
scaled by one factor. What counts is the standard error of
F(closed) - F(open) and of the profile for 0.8 <= d <= 2.2; what the generator says without the
windows tells how good the flow itself is. The machine should be idle.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from bgfast.experiments import dimer
from bgfast.experiments.config import read_table, validated
from bgfast.experiments.dimer_config import DimerConfig
from bgfast.experiments.dimer_data import simulate
from bgfast.experiments.folder import RunFolder
from bgfast.experiments.pipeline import build_flow
from bgfast.experiments.progress import Reporter
from bgfast.training import Trainer, TrainingConfig

FLOWS: dict[str, dict[str, Any]] = {
    "R8, split by particle": {"architecture": "R8", "split": "particle"},
    "R8, even-odd split": {"architecture": "R8", "split": "even-odd"},
    "Q4, split by particle": {"architecture": "Q4", "split": "particle"},
    "Q6, split by particle": {"architecture": "Q6", "split": "particle"},
}
PRESET = "R8, split by particle"
TIMED_STEPS = 20
PROFILE = (0.8, 2.2)


def table_of(name: str) -> dict[str, Any]:
    """Return the preset with the flow called ``name``."""
    table = read_table("dimer")
    table["flow"] |= FLOWS[name]
    return table


def step_seconds(table: dict[str, Any]) -> list[float]:
    """Return the wall-clock time of a training step in each stage."""
    quick = copy.deepcopy(table)
    quick["data"] |= {"n_walkers": 16, "n_frames": 100}
    config = validated(DimerConfig, quick, "dimer")
    energy = config.system.energy()
    data = simulate(energy, config.data, config.analysis.split, 0, Reporter(quiet=True))
    frames = data.frames(held_out=False)
    flow = build_flow(config.flow, energy.dim, 0, frames)
    seconds = []
    for stage in config.training.stages:
        training = TrainingConfig(
            stages=(stage.model_copy(update={"steps": TIMED_STEPS}),),
            rc_bounds=config.training.rc_bounds,
        )
        for _ in range(2):  # the first time also compiles and fills caches
            trainer = Trainer(
                flow, energy, training, frames.float(), reaction_coordinate=energy.dimer_distance
            )
            start = time.perf_counter()
            trainer.run()
            passed = time.perf_counter() - start
        seconds.append(passed / TIMED_STEPS)
    return seconds


def training_seconds(table: dict[str, Any], each: list[float]) -> float:
    return sum(s["steps"] * t for s, t in zip(table["training"]["stages"], each, strict=True))


def run(name: str, each: list[float], budget: float, seed: int, path: Path) -> None:
    """Do all of one contender, whose steps take ``each`` seconds, in the folder ``path``.

    Training takes ``budget`` seconds.
    """
    table = table_of(name)
    table["seed"] = seed
    factor = budget / training_seconds(table, each)
    for stage in table["training"]["stages"]:
        stage["steps"] = max(1, round(stage["steps"] * factor))
    config = validated(DimerConfig, table, name)
    with Reporter(quiet=True) as reporter:
        dimer.run(config, RunFolder.open(path, config, resume=False), reporter)


def reached(name: str, path: Path) -> dict[str, Any]:
    """Return what the run in the folder ``path`` reached."""
    summary = json.loads((path / "summary.json").read_text())
    table = RunFolder(path).table()
    profile = summary["profile"]
    r, stderr = np.array(profile["r"]), np.array(profile["stderr"], dtype=float)
    inside = (r >= PROFILE[0]) & (r <= PROFILE[1])
    last = json.loads((path / "metrics.jsonl").read_text().splitlines()[-1])
    parts, seconds = summary["parts_of_the_pool"], summary["seconds"]
    return {
        "flow": name,
        "seed": table["seed"],
        "steps": [stage["steps"] for stage in table["training"]["stages"]],
        "seconds": seconds,
        # umbrella sampling is what the run is compared with, not a part of it
        "total_seconds": sum(s for part, s in seconds.items() if part != "reference"),
        "delta_f": summary["delta_f"],
        "off_the_reference": summary["agreement"]["delta_f"],
        "profile_stderr": float(np.sqrt(np.mean(stderr[inside] ** 2))),
        "profile_largest": summary["agreement"]["profile_largest"],
        "generator_and_states": parts["generator_and_states"]["delta_f"],
        "generated_share_of_weight": parts["generated_share_of_weight"],
        "ess": summary["ess"],
        "validation_nll": last["validation_nll"],
        "kl": last["kl"],
    }


def folder_name(flow: str) -> str:
    return flow.replace(", ", "-").replace(" ", "-")


def line(row: dict[str, Any]) -> str:
    own, generator = row["delta_f"], row["generator_and_states"]
    return (
        f"{row['flow']:24s} steps {row['steps']}, {row['total_seconds']:.0f} s: "
        f"{own['value']:.3f} +- {own['stderr']:.3f} (off by {row['off_the_reference']:.3f}), "
        f"profile +- {row['profile_stderr']:.3f} (off by {row['profile_largest']:.2f}); without "
        f"windows {generator['value']:.3f} +- {generator['stderr']:.3f}, generated share "
        f"{row['generated_share_of_weight']:.1%}, ESS {row['ess']:.1f}, "
        f"validation -log q {row['validation_nll']:.1f}, KL {row['kl']:.1f}"
    )


def main() -> None:
    """Measure, print, and write JSON if asked to."""
    parser = argparse.ArgumentParser("benchmarks.flow_choice", description=__doc__)
    parser.add_argument("flows", nargs="*", metavar="FLOW", help=", ".join(FLOWS))
    parser.add_argument("--training-seconds", type=float, help="[as long as the preset takes]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--runs", type=Path, help="keep the run folders here; finished ones are read"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    options = parser.parse_args()
    chosen = options.flows or list(FLOWS)
    if unknown := sorted(set(chosen) - set(FLOWS)):
        parser.error(f"no flow {', '.join(unknown)}; there are {', '.join(FLOWS)}")
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        paths = {name: (options.runs or Path(temporary)) / folder_name(name) for name in chosen}
        missing = [name for name in chosen if not (paths[name] / "summary.json").exists()]
        timed = dict.fromkeys([PRESET, *missing] if missing else [])
        each = {name: step_seconds(table_of(name)) for name in timed}
        for name in chosen:
            if name in missing:
                preset = training_seconds(table_of(PRESET), each[PRESET])
                budget = options.training_seconds or preset
                run(name, each[name], budget, options.seed, paths[name])
            rows.append(reached(name, paths[name]))
            print(line(rows[-1]), flush=True)
    found = {"machine": machine.describe(clock="wall-clock time"), "rows": rows}
    print(machine.line(found["machine"]))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
