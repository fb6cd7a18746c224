"""Timing and printing shared by benchmarks."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bgfast_kernels import cpu

from benchmarks import machine


def interleaved(calls: Sequence[Callable[[], Any]], repeats: int) -> list[tuple[float, ...]]:
    """Return CPU seconds of each call as (first quartile, median, third quartile).

    The calls take turns, after one warm-up each, so that a slow spell of the machine meets all.
    """
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for _ in range(repeats):
        for call, seconds in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
    return [tuple(statistics.quantiles(seconds, n=4)) for seconds in times]


def run(title: str, measure: Callable[[int], list[dict[str, Any]]]) -> None:
    """Parse the command line, measure on one thread, print a table and write JSON if asked to.

    ``measure(repeats)`` returns the rows of the table, all with the same keys.
    """
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    options = parser.parse_args()
    found = machine.describe(threads=1)
    print(title)
    print(machine.line(found))
    threads = cpu.get_threads()
    cpu.set_threads(1)
    try:
        rows = measure(options.repeats)
    finally:
        cpu.set_threads(threads)
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": found, "rows": rows}, indent=2) + "\n")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows of the same keys as a table with a head line."""
    cells = [list(rows[0]), *([cell(v) for v in row.values()] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    )


def cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
