"""One table of what this machine's GPU does: kernels, then training and drawing as a whole.

    python -m benchmarks.gpu_report [--quick] [--compiled] [--only PART] [--json FILE]

Times of kernels are medians over CUDA events, the calls rotating over buffers larger than the
cache; ``graph`` is the time of one call replayed in a CUDA graph, ``eager`` and, if asked for (it
takes minutes), ``compiled`` how many times faster the kernel is than the same formula in torch and
in torch.compile on the same card. ``bound`` is the share of ``limit``: the memory time (at the
measured copy bandwidth) or the issue time, whichever is longer; where instructions were not counted
or the clock of the card is not known, it is that of memory alone. Rows are printed, and the file
written anew, as they are measured. See :mod:`benchmarks.gpu_end_to_end` for the second table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bgfast_kernels.dimer import DimerParameters, cuda_kernels, lattice
from bgfast_kernels.dimer.cuda_kernels import Mapping
from bgfast_kernels.kde.tables import TERMS
from torch import Tensor

from benchmarks import gpu_case, gpu_end_to_end, gpu_timing, machine
from benchmarks.gpu_case import Case
from benchmarks.gpu_record import Record
from benchmarks.gpu_timing import Call, Card, CudaClock, buffer_sets
from bgfast.ops import dimer_energy_grad, dimer_hvp, kde_log_density
from bgfast.ops.backend import why_no_cuda
from bgfast.ops.cuda import dtype_name, place
from bgfast.ops.dimer_reference import reference_energy_grad, reference_hvp

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
MAPPINGS = (
    *(Mapping("symmetric", lanes) for lanes in (2, 4, 8, 16)),
    *(Mapping("gather", lanes) for lanes in (4, 8)),
)
PARAMETERS = DimerParameters()
KERNELS = "kernels"
PARTS = (KERNELS, gpu_end_to_end.TABLE)
_BANDWIDTH = 0.1
_PAIRS = PARAMETERS.n_particles * (PARAMETERS.n_particles - 1) // 2 - 1
_OF_THEIR_OWN = ("dimer", "kde")  # ops with more to tell than their own case
_MOST_EAGER = {"kde": 10_000}  # rows plain torch has memory for, or 100,000
_CHECKED = 61  # rows compared with float64


def cases(device: torch.device) -> Iterator[Case]:
    """Yield every kernel and mapping, of what has no case of its own value and gradients."""
    yield from gpu_case.of_ops([n for n in gpu_case.names() if n not in _OF_THEIR_OWN], device)
    for dtype in (torch.float32, torch.float64):
        size = dtype.itemsize
        usual = cuda_kernels.mapping(PARAMETERS.n_particles, str(dtype).removeprefix("torch."))
        for mapping in MAPPINGS:
            yield Case(
                kernel="dimer energy+gradient",
                variant=f"{mapping.kind}-{mapping.lanes}" + " *" * (mapping == usual),
                dtype=dtype,
                inputs=lambda n, dtype=dtype: (_configurations(n, dtype, device),),
                call=lambda x, mapping=mapping: _mapped_energy_grad(x, mapping),
                reference=lambda x: reference_energy_grad(x, PARAMETERS),
                bytes=(2 * PARAMETERS.dim + 1) * size,
                flops=15.0 * _PAIRS,
                instructions=13.0 * _PAIRS,
                compare=mapping == usual,
            )
        yield Case(
            kernel="dimer Hessian product",
            variant=f"{usual.kind}-{usual.lanes} *",
            dtype=dtype,
            inputs=lambda n, dtype=dtype: tuple(
                _configurations(n, dtype, device, seed) for seed in (0, 1)
            ),
            call=lambda x, v: (dimer_hvp(x, v, PARAMETERS, backend="cuda"),),
            reference=lambda x, v: (reference_hvp(x, v, PARAMETERS),),
            bytes=3 * PARAMETERS.dim * size,
            flops=29.0 * _PAIRS,
            instructions=26.0 * _PAIRS,
            compare=True,
        )
    for dtype in (torch.float32, torch.float64):
        yield Case(
            kernel="kde density+gradient",
            variant="float64 sums *",
            dtype=dtype,
            inputs=lambda n, dtype=dtype: (_points(n, dtype, device),),
            call=lambda x: _density_grad(x, "cuda"),
            reference=lambda x: _density_grad(x, "torch"),
            bytes=3 * dtype.itemsize,
            flops=16.0 * TERMS,
            instructions=16.0 * TERMS,
            compare=True,
        )


def _points(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=n)).to(device, dtype)


def _density_grad(points: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    x = points.detach().requires_grad_()
    value = kde_log_density(x, _BANDWIDTH, backend=backend)
    return value.detach(), torch.autograd.grad(value.sum(), x)[0]


def _configurations(n: int, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensor:
    rows = lattice(np.random.default_rng(seed), min(n, 1000), np.float64, PARAMETERS)
    x = torch.from_numpy(rows).to(device, dtype)
    return x.repeat(-(-n // len(x)), 1)[:n].contiguous()


def _mapped_energy_grad(x: Tensor, mapping: Mapping) -> tuple[Tensor, Tensor]:
    u, grad = x.new_empty(len(x)), torch.empty_like(x)
    addresses = (x.data_ptr(), len(x), PARAMETERS, dtype_name(x), u.data_ptr(), grad.data_ptr())
    cuda_kernels.dimer_energy_grad(*addresses, **place(x), chosen=mapping)
    return u, grad


def measure(
    chosen: Sequence[Case],
    sizes: Sequence[int],
    repeats: int,
    clock: Any,
    card: Card,
    record: Record,
    *,
    compiled: bool = False,
) -> int:
    """Put the rows of the table into ``record``; return how many cases failed.

    A case that fails is named and leaves the others their turn.
    """
    failed = 0
    for case in chosen:
        for n in sizes:
            try:
                record.row(KERNELS, _row(case, n, repeats, clock, card, compiled))
            except RuntimeError as error:
                failed += 1
                why = str(error).partition("\n")[0]
                print(f"{case.kernel} {case.variant}, B = {n}: {why}", file=sys.stderr, flush=True)
    return failed


def _row(
    case: Case, n: int, repeats: int, clock: Any, card: Card, compile_too: bool
) -> dict[str, Any]:
    first = case.inputs(n)
    n_sets = buffer_sets(int(case.bytes * n), card)
    sets = [first, *(tuple(t.clone() for t in first) for _ in range(n_sets - 1))]
    calls: list[Call] = [lambda s=s: case.call(*s) for s in sets]  # type: ignore[misc]
    seconds = clock.per_call(calls, repeats)
    graph = _replay_seconds(case, calls, clock, repeats)
    best = seconds if graph is None else min(seconds, graph)
    eager = compiled = None
    if case.compare and n <= _MOST_EAGER.get(case.kernel.split()[0], 100_000):
        eager = clock.per_call([lambda: case.reference(*first)], max(3, repeats // 5)) / seconds
        if compile_too:
            compiled = _compiled_seconds(case, first, clock, max(3, repeats // 5))
            compiled = None if compiled is None else compiled / seconds
    bound, limit = card.bound(case.bytes * n, case.instructions * n)
    return {
        "kernel": case.kernel,
        "mapping": case.variant,
        "dtype": str(case.dtype).removeprefix("torch."),
        "B": n,
        "error": _error(case, first),
        "us": 1e6 * seconds,
        "graph us": _number(None if graph is None else 1e6 * graph),
        "rows/s": n / best,
        "GB/s": 1e-9 * case.bytes * n / best,
        "GFLOP/s": _number(1e-9 * case.flops * n / best if case.flops else None),
        "bound": bound / best,
        "limit": limit,
        "eager": _number(eager),
        "compiled": _number(compiled),
    }


def _number(value: float | None) -> float | str:
    return "-" if value is None else value


def _error(case: Case, inputs: tuple[Tensor, ...]) -> float:
    """Return the largest error of some rows, relative to the largest number of the row.

    Points of a density are one row.
    """
    some = tuple(t[:_CHECKED] for t in inputs)
    worst = 0.0
    exact = case.reference(*(t.double().cpu() for t in some))
    for found, expected in zip(case.call(*some), exact, strict=True):
        rows = expected.reshape(1 if some[0].ndim == 1 else len(expected), -1)
        off = (found.double().cpu().reshape(rows.shape) - rows).abs().amax(1)
        worst = max(worst, float((off / rows.abs().amax(1)).max()))
    return worst


def _replay_seconds(case: Case, calls: Sequence[Call], clock: Any, repeats: int) -> float | None:
    try:
        seconds: float = clock.per_replay(calls, repeats)
    except RuntimeError as error:  # say so and go on: the other columns stand by themselves
        print(f"CUDA graph of {case.kernel}: {error}", file=sys.stderr)
        return None
    return seconds


def _compiled_seconds(
    case: Case, inputs: tuple[Tensor, ...], clock: Any, repeats: int
) -> float | None:
    try:
        from torch._dynamo import reset
        from torch._dynamo.utils import counters

        reset()  # else the formulas, which share their code, would soon run uncompiled
        counters.clear()
        function = torch.compile(case.reference)
        seconds: float = clock.per_call([lambda: function(*inputs)], repeats)
    except Exception as error:  # a formula torch.compile cannot take is no reason to stop
        print(f"torch.compile of {case.kernel}: {type(error).__name__}", file=sys.stderr)
        return None
    if not counters["stats"]["unique_graphs"]:
        print(f"torch.compile of {case.kernel}: nothing was compiled", file=sys.stderr)
        return None
    return seconds


def overheads(device: torch.device, clock: Any, repeats: int) -> dict[str, float]:
    """Return microseconds for which the host is busy with one call at B = 1, through torch."""
    x = _configurations(1, torch.float32, device)
    points = torch.linspace(0, 1, 1000, device=device)
    calls: dict[str, Call] = {
        "dimer_energy_grad": lambda: dimer_energy_grad(x, PARAMETERS, backend="cuda"),
        "kde_log_density of 1000 points": lambda: kde_log_density(points, _BANDWIDTH),
        "an empty torch op": lambda: torch.empty_like(x),
    }
    return {name: 1e6 * clock.host_seconds(call, repeats) for name, call in calls.items()}


def arguments(command: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_report", description=__doc__)
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="batch sizes, 1e3,1e5")
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--quick", action="store_true", help="the usual mapping in float32 alone")
    parser.add_argument("--compiled", action="store_true", help="time torch.compile, too")
    parser.add_argument("--only", choices=PARTS, help="one of the tables alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    options = parser.parse_args(command)
    try:
        options.sizes = [int(float(size)) for size in options.sizes.split(",")]
        if min(options.sizes) < 1 or options.repeats < 1:
            raise ValueError
    except ValueError:
        parser.error("--sizes must be positive numbers with commas, --repeats positive")
    return options


def main(command: Sequence[str] | None = None) -> int:
    """Print the tables; return 1 where there is no GPU or a row could not be measured."""
    options = arguments(command)
    if missing := why_no_cuda():
        print(f"this report needs a GPU: {missing}", file=sys.stderr)
        return 1
    device, clock = torch.device("cuda", torch.cuda.current_device()), CudaClock()
    card, record, failed = clock.card(), Record(options.json), 0
    found = {**machine.describe(), **gpu_timing.versions()}
    clock_known = "" if card.issue_rate else "; its clock is not known: bounds are of memory alone"
    print(f"{card.name}, copy {1e-9 * card.copy_bandwidth:.0f} GB/s{clock_known}")
    print(", ".join(f"{name} {version}" for name, version in found.items()), flush=True)
    record.note("card", vars(card))
    record.note("versions", found)
    if options.only in (None, KERNELS):
        chosen = sorted(cases(device), key=lambda case: case.dtype.itemsize)
        if options.quick:
            chosen = [c for c in chosen if c.dtype == torch.float32 and "*" in c.variant]
        several = (options.sizes, options.repeats, clock, card, record)
        failed += measure(chosen, *several, compiled=options.compiled)
        for row in gpu_case.goals(record.found.get(KERNELS, [])):
            record.row("goals", row)
        host = overheads(device, clock, options.repeats)
        print("\nhost, B = 1:", ", ".join(f"{name} {us:.1f} us" for name, us in host.items()))
        record.note("host us", host)
    if options.only in (None, gpu_end_to_end.TABLE):
        scale = gpu_end_to_end.QUICK if options.quick else gpu_end_to_end.FULL
        failed += gpu_end_to_end.measure(device, scale, record)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
