"""Pose a case to several codes: who is there, who agrees with the reference, how long each takes.

Nothing here, nor in the files of the questions, imports a peer before its turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_LEAST_SECONDS = 0.02
"""A call shorter than this is repeated within one measurement."""
_PAUSE = 0.03
"""Seconds between contenders, in which idle threads of the one before stop spinning."""
_MOST_WARM_UP = 5.0
"""A call longer than this, in seconds, is not made again before it is measured."""


@dataclass(frozen=True)
class Answer:
    """A contender at work on a case.

    Parameters
    ----------
    call
        What is timed.
    check
        Returns what is compared with :attr:`Case.expected`; ``call`` itself if not given.
    n
        Items one call handles, if not :attr:`Case.n`. For codes too slow to be given all of them.
    tolerance
        Largest deviation, if not :attr:`Case.tolerance`. For codes that round on purpose.
    """

    call: Callable[[], Any]
    check: Callable[[], Any] | None = None
    n: int | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Contender:
    """A code that may answer: ``prepare()`` imports it and returns its :class:`Answer`."""

    name: str
    prepare: Callable[[], Answer]


@dataclass(frozen=True)
class Case:
    """One input to a question.

    Parameters
    ----------
    label
        What tells this case from the others.
    n
        Items (configurations, samples, points) in it; times are per item.
    expected
        The reference: arrays that an answer must match one by one, as far as it has any.
    tolerance
        Largest deviation, relative to the largest magnitude in each array.
    contenders
        Those whose name starts with ``bgfast`` must be there and must agree. Speed-ups are relative
        to the first of them.
    """

    label: str
    n: int
    expected: Sequence[Any]
    tolerance: float
    contenders: Sequence[Contender]


@dataclass(frozen=True)
class Question:
    """What is asked: ``cases(quick)`` makes the inputs, small ones for a quick run."""

    title: str
    unit: str
    cases: Callable[[bool], Iterable[Case]]
    notes: Sequence[str] = ()
    peers: Sequence[str] = ()
    """Distributions whose versions are to be printed."""


UNITS = {"ms": 1e3, "us": 1e6, "ns": 1e9}


@dataclass
class Row:
    """One line of a table; times are seconds per item."""

    case: str
    code: str
    status: str = "timed"
    error: float | None = None
    q1: float | None = None
    median: float | None = None
    q3: float | None = None
    relative: float | None = None
    """Median over that of bgfast: how many times longer this code takes."""
    _answer: Answer | None = field(default=None, repr=False)
    _once: float = 0.0


def ask(
    question: Question, quick: bool, threads: int, repeats: int, budget: float
) -> Iterator[list[Row]]:
    """Yield the rows of each case.

    Parameters
    ----------
    question
        What to ask.
    quick
        Small inputs, to see that everything works.
    threads
        Threads in use: with one, CPU time is taken, which other processes do not disturb.
    repeats
        Measurements of each contender, 3 at least, fewer if they took longer than the budget.
    budget
        Seconds for the measurements of one case.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    for case in question.cases(quick):
        rows = [_ready(case, contender) for contender in case.contenders]
        _measure(case, [row for row in rows if row._answer], clock, repeats, budget)
        yield rows


def _ready(case: Case, contender: Contender) -> Row:
    row = Row(case.label, contender.name)
    ours = contender.name.startswith("bgfast")
    try:
        answer = contender.prepare()
        row.error = deviation((answer.check or answer.call)(), case.expected)
        row._once = _seconds(answer.call, 1, time.perf_counter)
        if row._once < _MOST_WARM_UP:  # the first call may have compiled something
            row._once = _seconds(answer.call, 1, time.perf_counter)
    except ImportError as error:
        if ours:
            raise
        row.status = f"absent: {error}"
        return row
    except Exception as error:  # a peer that breaks must not take the table with it
        if ours:
            raise
        row.status = f"failed: {type(error).__name__}: {str(error).splitlines()[0][:80]}"
        return row
    allowed = answer.tolerance or case.tolerance
    if not row.error <= allowed:
        row.status = f"disagrees: error {row.error:.1e}, allowed {allowed:.0e}"
        if ours:
            raise AssertionError(f"{contender.name} on {case.label!r} {row.status}")
        return row
    row._answer = answer
    return row


def deviation(found: Any, expected: Sequence[Any]) -> float:
    """Return the largest deviation of arrays from the expected, relative to the largest magnitude.

    ``found`` may have fewer arrays than expected (a density without its gradient), and arrays of
    fewer rows.
    """
    found = found if isinstance(found, (tuple, list)) else (found,)
    worst = 0.0
    for value, reference in zip(found, expected, strict=False):
        value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
        if value.ndim:
            reference = reference[: len(value)]
        if value.shape != reference.shape:
            raise ValueError(f"shape {value.shape}, expected {reference.shape}")
        scale = np.abs(reference).max(initial=0.0) or 1.0
        error = np.abs(value - reference).max(initial=0.0) / scale
        worst = error if not error <= worst else worst  # NaN is an error
    return float(worst)


def _measure(
    case: Case, rows: list[Row], clock: Callable[[], float], repeats: int, budget: float
) -> None:
    loops = []
    round_seconds = 0.0
    for row in rows:
        loops.append(max(1, int(_LEAST_SECONDS / max(row._once, 1e-9))))
        round_seconds += loops[-1] * row._once
    repeats = max(3, min(repeats, int(budget / max(round_seconds, 1e-9))))
    samples: list[list[float]] = [[] for _ in rows]
    for _ in range(repeats):
        for row, n_loops, seconds in zip(rows, loops, samples, strict=True):
            time.sleep(_PAUSE)
            if row._once < _PAUSE:
                row._answer.call()  # wakes its threads
            per_call = _seconds(row._answer.call, n_loops, clock)
            seconds.append(per_call / (row._answer.n or case.n))
    for row, seconds in zip(rows, samples, strict=True):
        row.q1, row.median, row.q3 = statistics.quantiles(seconds, n=4, method="inclusive")
    ours = next((row.median for row in rows if row.code.startswith("bgfast")), None)
    for row in rows:
        row.relative = row.median / ours if ours else None


def _seconds(call: Callable[[], Any], loops: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(loops):
        call()
    return (clock() - start) / loops


def table(rows: Sequence[Row], unit: str) -> str:
    """Return the lines of one case."""
    scale = UNITS[unit]
    lines = [f"  {rows[0].case}"]
    for row in rows:
        if row.median is None:
            lines.append(f"    {row.code:44s} {row.status}")
            continue
        quartiles = f"[{row.q1 * scale:,.4g} .. {row.q3 * scale:,.4g}]"
        relative = f"{row.relative:.2f}x" if row.relative else ""
        lines.append(
            f"    {row.code:44s} {row.median * scale:>12,.4g} {quartiles:>24s} "
            f"{relative:>9s}  error {row.error:.0e}"
        )
    return "\n".join(lines)
