"""All that has to be shown on a machine with a GPU: ``python -m benchmarks.gpu_checks OUT``.

- ``gpu``: the tests that need a GPU, none skipped.
- ``tests``: all other tests, on a machine that has one.
- ``memcheck``, ``racecheck``: a call of every kernel and mapping under compute-sanitizer.
- ``report``: errors, times and shares of the bound of every kernel, then training and drawing, in
  ``OUT/gpu_report.json``.
- ``dimer``: ``bgfast run dimer --device cuda`` twice with the same seed, at the same time; both
  must say the same and agree with umbrella sampling within 0.10 k_B T and 2.5 standard errors.

Steps named after OUT are done alone: ``python -m benchmarks.gpu_checks OUT gpu report``. A step
that takes longer than ``--limit`` seconds is ended and has failed; what the report had measured by
then is kept. A failure does not stop the other steps. OUT holds the logs, the report and the
summaries of both runs, eight small files in all; the runs themselves go to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bgfast.ops.backend import why_no_cuda

LARGEST_ERROR, STANDARD_ERRORS = 0.10, 2.5
LIMIT = 540
"""Seconds that one step may take, if nothing else is said."""

TESTS = ("-m", "pytest", "--require-gpu")
ALONE = ("-p", "no:xdist", "-o", "addopts=", "-v", "--durations=20")
SANITIZED = (
    "tests/gpu/test_kernels_gpu.py",
    "tests/gpu/test_streams_gpu.py::test_every_mapping_of_the_dimer_agrees_with_float64",
)
SANITIZER = ("--error-exitcode", "1", "--report-api-errors", "no")
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
"""Each tensor is an allocation of its own, so that what lies behind it is out of bounds."""


class CheckError(Exception):
    """A step did not show what it should."""


class Deadline:
    """When a step has to be over.

    Parameters
    ----------
    seconds
        How long it may take.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 at least."""
        return max(0.0, self._end - time.monotonic())


Command = tuple[str, ...]
Step = Callable[[Path, Deadline], None]


def run(
    log: Path, deadline: Deadline, *commands: Command, environment: Mapping[str, str] | None = None
) -> None:
    """Run commands side by side with their output in ``log``.

    Raises
    ------
    CheckError
        If one fails or is not done by the deadline; what still runs is ended then, children too.
    """
    started: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("ab") as file:
            for words in commands:
                file.write(f"+ {' '.join(words)}\n".encode())
                file.flush()
                started.append(_start(words, file, environment or {}))
        for process in started:
            try:
                code = process.wait(deadline.left())
            except subprocess.TimeoutExpired:
                raise CheckError(f"not done after {deadline.seconds:.0f} s, see {log}") from None
            if code:
                raise CheckError(f"exit status {code}, see {log}")
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _start(
    words: Command, log: IO[bytes], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        process_group=0,  # to end it with all that it started
    )


def gpu(out: Path, deadline: Deadline) -> None:
    run(out / "gpu.log", deadline, (sys.executable, *TESTS, *ALONE, "tests/gpu"))


def tests(out: Path, deadline: Deadline) -> None:
    workers = f"--maxprocesses={min(16, os.cpu_count() or 1)}"
    run(out / "tests.log", deadline, (sys.executable, *TESTS, workers, "--ignore=tests/gpu"))


def sanitizer(tool: str) -> Step:
    def check(out: Path, deadline: Deadline) -> None:
        if not shutil.which("compute-sanitizer"):
            raise CheckError("compute-sanitizer is not on the path; it comes with the CUDA toolkit")
        words = ("compute-sanitizer", "--tool", tool, *SANITIZER, sys.executable, *TESTS, *ALONE)
        run(out / "sanitizer.log", deadline, (*words, *SANITIZED), environment=UNCACHED)

    return check


def report(out: Path, deadline: Deadline) -> None:
    words = (sys.executable, "-m", "benchmarks.gpu_report", "--json", str(out / "gpu_report.json"))
    run(out / "report.log", deadline, words)


def dimer(out: Path, deadline: Deadline) -> None:
    bgfast = (sys.executable, "-c", "from bgfast.cli import main; main()")
    words = (*bgfast, "run", "dimer", "--device", "cuda", "--seed", "0", "--out")
    # Each on half of the cores, so that they do not wait for each other's threads.
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / name for name in ("dimer-1", "dimer-2")]
        try:
            run(
                out / "dimer.log",
                deadline,
                *((*words, str(path)) for path in runs),
                environment=dict.fromkeys(names, threads),
            )
        finally:
            for path in runs:
                if (path / "summary.json").exists():
                    shutil.copy(path / "summary.json", out / f"{path.name}-summary.json")
    compare(*(json.loads((out / f"{path.name}-summary.json").read_text()) for path in runs))


def compare(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Compare two runs of the same seed with each other, and with the reference."""
    # As text: NaN is not equal to itself.
    said = [{key: json.dumps(value) for key, value in run.items()} for run in (first, second)]
    keys = (said[0].keys() | said[1].keys()) - {"seconds"}
    if differ := sorted(key for key in keys if said[0].get(key) != said[1].get(key)):
        raise CheckError(f"the same seed gave different {', '.join(differ)}")
    if not first.get("agreement"):
        raise CheckError("the runs say nothing of umbrella sampling")
    off, stderr = (first["agreement"][key] for key in ("delta_f", "stderr"))
    if not abs(off) <= min(LARGEST_ERROR, STANDARD_ERRORS * stderr):
        raise CheckError(f"F(closed) - F(open) is off by {off:.3f} +- {stderr:.3f} k_B T")


STEPS: dict[str, Step] = {
    "gpu": gpu,
    "tests": tests,
    "memcheck": sanitizer("memcheck"),
    "racecheck": sanitizer("racecheck"),
    "report": report,
    "dimer": dimer,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the steps; return 1 if one failed or there is no GPU."""
    parser = argparse.ArgumentParser("benchmarks.gpu_checks", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for logs and results")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for each step")
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
            STEPS[name](options.out, Deadline(options.limit))
        except CheckError as failure:
            outcome, failures = f"FAILED: {failure}", failures + 1
        print(f"{name:10s} {time.perf_counter() - start:7.0f} s  {outcome}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
