"""Measure everything README quotes, keep it in ``benchmarks/results``, and write it into README.

``python -m benchmarks`` takes about twenty minutes on two cores, which should be idle;
``python -m benchmarks peers ratios`` does those steps alone, ``python -m benchmarks readme`` only
writes what is kept. ``--folder`` keeps the results of another processor apart. Whole runs of the
dimer, which take an hour, are :mod:`benchmarks.flow_choice` and :mod:`benchmarks.runs`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def steps(results: Path) -> dict[str, list[str]]:
    """Return the module of every step, and its options."""
    files = {name: ["--json", str(results / f"{name}.json")] for name in NAMES}
    figure = ["--figure", str(results / "scaling.png")]
    return {
        "kernel": ["dimer_kernel", *files["dimer_kernel"]],
        "peers": ["peers", *files["peers"]],
        "spline": ["spline", *files["spline"]],
        "limits": ["limits", *files["limits"]],
        "ratios": ["ratios", *files["ratios"]],
        "scaling": ["scaling", *files["scaling"], *figure],
        "flat": ["scaling", "--ten-million", *files["ten_million"]],
        "readme": ["readme"],
    }


NAMES = ("dimer_kernel", "peers", "spline", "limits", "ratios", "scaling", "ten_million")


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(steps(RESULTS)))
    parser.add_argument("--folder", default="", help="of the results, for those of a processor")
    options = parser.parse_args()
    results = RESULTS / options.folder
    known = steps(results)
    chosen = options.steps or list(known)
    if unknown := sorted(set(chosen) - set(known)):
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(known)}")
    results.mkdir(exist_ok=True)
    for step in chosen:
        module, *arguments = known[step]
        print(f"== {step}", flush=True)
        # Each in a process of its own: peers leave threads, settings and memory behind.
        subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *arguments], check=True)


if __name__ == "__main__":
    main()
