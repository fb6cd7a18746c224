"""All that has to be shown on a machine with a GPU: ``python -m benchmarks.gpu_checks OUT``.

- ``tests``: the whole test suite, no GPU test skipped.
- ``memcheck``, ``racecheck``: the GPU tests of the kernels under compute-sanitizer.
- ``report``: errors, times and shares of the bound of every kernel, in ``OUT/gpu_report.json``.
- ``dimer``: ``bgfast run dimer --device cuda`` twice with the same seed; both must say the same and
  agree with umbrella sampling within 0.10 k_B T and 2.5 standard errors.

Every step leaves ``OUT/STEP.log``; a failure does not stop the others. ``python -m
benchmarks.gpu_checks OUT tests report`` does some of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bgfast.ops.backend import why_no_cuda

LARGEST_ERROR, STANDARD_ERRORS = 0.10, 2.5
_GPU_TESTS = ["-m", "pytest", "--require-gpu", "-p", "no:xdist", "-o", "addopts=", "tests/gpu"]
_OF_KERNELS = ["-k", "mapping or sampling or value"]


class CheckError(Exception):
    """A step did not show what it should."""


def command(log: Path, *words: str) -> None:
    """Run a command with its output in ``log``."""
    with log.open("a") as file:
        file.write(f"+ {' '.join(words)}\n")
        file.flush()
        if code := subprocess.run(words, stdout=file, stderr=subprocess.STDOUT).returncode:
            raise CheckError(f"exit status {code}, see {log}")


def tests(out: Path) -> None:
    command(out / "tests.log", sys.executable, "-m", "pytest", "--require-gpu")


def sanitizer(tool: str) -> Callable[[Path], None]:
    def check(out: Path) -> None:
        if not shutil.which("compute-sanitizer"):
            raise CheckError("compute-sanitizer is not on the path; it comes with the CUDA toolkit")
        words = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "1"]
        command(out / f"{tool}.log", *words, sys.executable, *_GPU_TESTS, *_OF_KERNELS)

    return check


def report(out: Path) -> None:
    words = ["-m", "benchmarks.gpu_report", "--json", str(out / "gpu_report.json")]
    command(out / "report.log", sys.executable, *words)


def dimer(out: Path) -> None:
    bgfast = [sys.executable, "-c", "from bgfast.cli import main; main()"]
    found = []
    for name in ("dimer-1", "dimer-2"):
        words = ["run", "dimer", "--device", "cuda", "--seed", "0", "--out", str(out / name)]
        command(out / "dimer.log", *bgfast, *words)
        found.append(json.loads((out / name / "summary.json").read_text()))
    compare(*found)


def compare(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Compare two runs of the same seed with each other, and with the reference."""
    # As text: NaN is not equal to itself.
    said = [{key: json.dumps(value) for key, value in run.items()} for run in (first, second)]
    differ = [key for key in said[0] if key != "seconds" and said[0][key] != said[1].get(key)]
    if differ:
        raise CheckError(f"the same seed gave different {', '.join(differ)}")
    off, stderr = (first["agreement"][key] for key in ("delta_f", "stderr"))
    if not abs(off) <= min(LARGEST_ERROR, STANDARD_ERRORS * stderr):
        raise CheckError(f"F(closed) - F(open) is off by {off:.3f} +- {stderr:.3f} k_B T")


STEPS: dict[str, Callable[[Path], None]] = {
    "tests": tests,
    "memcheck": sanitizer("memcheck"),
    "racecheck": sanitizer("racecheck"),
    "report": report,
    "dimer": dimer,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the steps; return 1 if one failed or there is no GPU."""
    parser = argparse.ArgumentParser("benchmarks.gpu_checks", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="new folder for logs and results")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.steps) - set(STEPS)):
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(STEPS)}")
    if missing := why_no_cuda():
        print(f"these checks need a GPU: {missing}", file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    failures = 0
    for name in options.steps or STEPS:
        start, outcome = time.perf_counter(), "passed"
        try:
            STEPS[name](options.out)
        except CheckError as failure:
            outcome, failures = f"FAILED: {failure}", failures + 1
        print(f"{name:10s} {time.perf_counter() - start:7.0f} s  {outcome}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
