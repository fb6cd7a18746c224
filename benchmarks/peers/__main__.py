"""Command line of :mod:`benchmarks.peers`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

QUESTIONS = ("energy", "kde", "flow", "spline", "relabelling", "samplers", "reweight")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.peers", description="bgfast beside other codes")
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="small inputs, few repetitions")
    parser.add_argument("--threads", type=int, help="threads of every code (default: all cores)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of measuring per case")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.questions) - set(QUESTIONS))
    if unknown:
        parser.error(f"no question {', '.join(unknown)}; there are {', '.join(QUESTIONS)}")
    threads = limit_threads(options.threads)

    from benchmarks import machine
    from benchmarks.peers.question import Question, ask, table

    warnings.filterwarnings("ignore")  # peers' deprecations would drown the tables
    repeats, budget = (3, 0.0) if options.quick else (options.repeats, options.budget)
    results = []
    packages: list[str] = []
    for name in options.questions or QUESTIONS:
        question: Question = importlib.import_module(f"benchmarks.peers.{name}").QUESTION
        packages += [p for p in question.peers if p not in packages]
        print(f"\n{question.title}: {question.unit} per item, median [quartiles]", flush=True)
        for note in question.notes:
            print(f"  ({note})")
        for rows in ask(question, options.quick, threads, repeats, budget):
            print(table(rows, question.unit), flush=True)
            kept = [{k: v for k, v in asdict(r).items() if k[0] != "_"} for r in rows]
            results += [{"question": name, **row} for row in kept]
    clock = "CPU time" if threads == 1 else "wall-clock time"
    found = machine.describe(packages, threads=threads, clock=clock)
    print(f"\n{machine.line(found)}")
    if options.json:
        content = kept_beside(options.json, found, results)
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def kept_beside(path: Path, machine: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what to write: rows of other questions stay if the same machine gave them."""
    before = json.loads(path.read_text()) if path.exists() else {"machine": {}, "rows": []}
    shared = before["machine"].keys() & machine.keys()
    if any(before["machine"][key] != machine[key] for key in shared):
        return {"machine": machine, "rows": rows}
    of_question: dict[str, list[dict[str, Any]]] = {}
    for row in before["rows"]:
        of_question.setdefault(row["question"], []).append(row)
    asked = dict.fromkeys(row["question"] for row in rows)
    of_question |= {name: [row for row in rows if row["question"] == name] for name in asked}
    return {
        "machine": before["machine"] | machine,
        "rows": [row for of_one in of_question.values() for row in of_one],
    }


def limit_threads(requested: int | None) -> int:
    """Tell every code how many threads to use; most read the environment when imported."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    n = requested or available or 1
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(n)
    os.environ["OPENMM_CPU_THREADS"] = str(n)
    if n == 1:
        os.environ["XLA_FLAGS"] = (
            "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        )
    return n


if __name__ == "__main__":
    main()
