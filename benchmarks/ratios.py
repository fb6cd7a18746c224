"""The ratios bgfast aims at, measured: ``python -m benchmarks.ratios``.

Two-thread speed-up of the torch ops of every registered op (those of its gradient included) and of
the end-to-end runs, the Hessian-vector product against the gradient, and relabelling of 1e5 frames
on all cores. Contenders take turns of many calls; wall-clock medians of the calls of a turn, so
that those which the host interrupts do not count, and of the turns. Everything is measured in
several rounds: where the machine is shared, a core can be gone for seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bgfast_kernels import cpu, get, names
from bgfast_kernels.dimer import DimerParameters, lattice

from benchmarks import machine, scaling
from benchmarks.end_to_end import draw_and_reweight, training_step
from benchmarks.peers import same_weights
from bgfast.ops import TORCH_OPS, dimer_energy_grad, dimer_hvp
from bgfast.ops.registry import as_tensors

Call = Callable[[], Any]


class Times(NamedTuple):
    """Seconds of two contenders, turn by turn, and what their ratio aims at."""

    what: str
    above: list[float]
    below: list[float]
    goal: str


_LEAST_SECONDS = 0.05
_WORTH_A_THREAD = 2e-4
"""Seconds of a call below which a second thread is not worth waking."""


def seconds(calls: Sequence[Call], repeats: int, warm: bool = True) -> list[list[float]]:
    """Return the wall-clock times of calls that take turns, after a call or two of each.

    A turn lasts some hundredths of a second; its time is the median of its calls.
    """
    loops = []
    for call in calls:
        if warm:
            call()
        loops.append(max(1, int(_LEAST_SECONDS / max(_seconds(call), 1e-6))))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, n, found in zip(calls, loops, times, strict=True):
            found.append(statistics.median(_seconds(call) for _ in range(n)))
    return times


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def with_threads(n: int, call: Call) -> Call:
    def run() -> None:
        cpu.set_threads(n)
        torch.set_num_threads(n)
        call()

    return run


def row(times: Sequence[Times]) -> dict[str, Any]:
    """Return the ratio of two contenders: its median and quartiles over the turns of all rounds."""
    above = [a for found in times for a in found.above]
    below = [b for found in times for b in found.below]
    pairs = [a / b for a, b in zip(above, below, strict=True)]
    q1, median, q3 = statistics.quantiles(pairs, n=4, method="inclusive")
    return {
        "what": times[0].what,
        "ratio": median,
        "q1": q1,
        "q3": q3,
        "goal": times[0].goal,
        "seconds": [statistics.median(above), statistics.median(below)],
    }


def kernels(name: str, n: int) -> Call:
    """Return a call of each torch op of ``name``, those of the gradient included, on float32."""
    sample = get(name).sample(np.random.default_rng(0), n, np.dtype("float32"))
    calls = TORCH_OPS[name].raw_calls(**as_tensors(sample))
    return lambda: [op(*arguments) for op, arguments in calls]


def thread_times(quick: bool, repeats: int) -> Iterator[Times]:
    for n in (256,) if quick else (10_000, 100_000):
        for name in names():
            call = kernels(name, n)
            one, two = seconds([with_threads(k, call) for k in (1, 2)], repeats)
            goal = ">= 1.7" if statistics.median(one) > _WORTH_A_THREAD else ""
            yield Times(f"{name}, B = {n:,}: one thread / two", one, two, goal)
    flow = same_weights.make_flow((32, 32)) if quick else same_weights.make_flow()
    n = 256 if quick else 10_000
    runs = {
        "draw + reweight": lambda: draw_and_reweight(flow, n),
        "KL step": training_step(flow, n),
    }
    for name, run in runs.items():
        one, two = seconds([with_threads(k, run) for k in (1, 2)], min(3, repeats), warm=quick)
        yield Times(f"{name} R8, B = {n:,}: one thread / two", one, two, "")


def hvp_times(quick: bool, repeats: int) -> Iterator[Times]:
    parameters = DimerParameters()
    for dtype in (torch.float32, torch.float64):
        n = 64 if quick else 10_000
        x = torch.from_numpy(lattice(np.random.default_rng(0), n, np.float64, parameters)).to(dtype)
        v = torch.randn_like(x)
        calls = [partial(dimer_hvp, x, v, parameters), partial(dimer_energy_grad, x, parameters)]
        product, gradient = seconds([with_threads(1, c) for c in calls], repeats)
        what = f"Hessian-vector product / gradient, {str(dtype)[6:]}, B = {n:,}"
        yield Times(what, product, gradient, "<= 3")


def relabelling_times(quick: bool, repeats: int) -> Times:
    n = 500 if quick else 100_000
    call = scaling.relabelling(n)
    (found,) = seconds([with_threads(machine.cores(), call)], repeats)
    one = [1.0] * len(found)
    what = f"seconds to relabel {n:,} frames of 36 particles, {machine.cores()} threads"
    return Times(what, found, one, "<= 0.15 at 100,000")


def measure(quick: bool, repeats: int) -> Iterator[Times]:
    before = torch.get_num_threads()
    try:
        yield from hvp_times(quick, repeats)
        yield relabelling_times(quick, repeats)
        yield from thread_times(quick, repeats)
    finally:
        cpu.set_threads(None)
        torch.set_num_threads(before)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.ratios", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small inputs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=9, help="turns in a round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    options = parser.parse_args(arguments)
    n_rounds, n_repeats = options.rounds, options.repeats
    if min(n_rounds, n_repeats) < 1 or n_rounds * n_repeats < 2:  # quartiles need two turns
        parser.error(
            "--rounds and --repeats must be at least 1, and their product at least 2, "
            f"got {n_rounds} and {n_repeats}"
        )
    rounds, repeats = (1, 3) if options.quick else (n_rounds, n_repeats)
    each = [list(measure(options.quick, repeats)) for _ in range(rounds)]
    rows = [row(times) for times in zip(*each, strict=True)]
    for r in rows:
        spread = f"[{r['q1']:.3f} .. {r['q3']:.3f}]"
        print(f"{r['what']:62s} {r['ratio']:8.3f} {spread}  {r['goal']}")
    found = machine.describe(clock="wall-clock time", rounds=rounds, turns=repeats)
    print(machine.line(found))
    if options.json:
        options.json.write_text(json.dumps({"machine": found, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
