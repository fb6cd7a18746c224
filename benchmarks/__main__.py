"""Measure everything README quotes, keep it in ``benchmarks/results``, and write it into README.

``python -m benchmarks`` takes about twenty minutes on two cores, which should be idle;
``python -m benchmarks peers ratios`` does those steps alone, ``python -m benchmarks readme`` only
writes what is kept. Whole runs of the dimer, which take an hour, are :mod:`benchmarks.flow_choice`
and :mod:`benchmarks.runs`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
STEPS = {
    "kernel": ["dimer_kernel", "--json", str(RESULTS / "dimer_kernel.json")],
    "peers": ["peers", "--json", str(RESULTS / "peers.json")],
    "spline": ["spline", "--json", str(RESULTS / "spline.json")],
    "ratios": ["ratios", "--json", str(RESULTS / "ratios.json")],
    "scaling": [
        "scaling",
        *("--json", str(RESULTS / "scaling.json"), "--figure", str(RESULTS / "scaling.png")),
    ],
    "flat": ["scaling", "--ten-million", "--json", str(RESULTS / "ten_million.json")],
    "readme": ["readme"],
}


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help=", ".join(STEPS))
    chosen = parser.parse_args().steps or list(STEPS)
    if unknown := sorted(set(chosen) - set(STEPS)):
        parser.error(f"no step {', '.join(unknown)}; there are {', '.join(STEPS)}")
    for step in chosen:
        module, *options = STEPS[step]
        print(f"== {step}", flush=True)
        # Each in a process of its own: peers leave threads, settings and memory behind.
        subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options], check=True)


if __name__ == "__main__":
    main()
