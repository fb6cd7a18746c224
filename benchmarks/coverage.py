"""How often stated errors cover the exact value: ``python -m benchmarks.coverage --seeds 300``.

The 2-D double well, see :mod:`tests.coverage_cases`; a normal error covers 68.3 %.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine


def measure(n_seeds: int) -> list[dict[str, Any]]:
    from tests.coverage_cases import ESTIMATORS, in_errors  # asv, which imports this, has no tests

    rows = []
    for estimator in ESTIMATORS:
        difference, bins = in_errors(estimator, range(n_seeds))
        for what, errors in (("delta_f", difference), ("profile", bins)):
            rows.append({"estimator": estimator, "of": what, "seeds": n_seeds, **shares(errors)})
    return rows


def shares(errors: NDArray[np.float64]) -> dict[str, float]:
    """Return the shares within one and two standard errors, and moments of the errors."""
    return {
        "within 1": float(np.mean(np.abs(errors) < 1)),
        "within 2": float(np.mean(np.abs(errors) < 2)),
        "mean": float(errors.mean()),
        "rms": math.sqrt(float(np.mean(errors**2))),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    options = parser.parse_args()
    found = measure(options.seeds)
    for row in found:
        print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else str(v) for k, v in row.items()))
    if options.json:
        versions = machine.describe()
        text = json.dumps({"versions": versions, "rows": found}, indent=2)
        options.json.write_text(text + "\n")
