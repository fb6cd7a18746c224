"""What is left to gain in float32: ``python -m benchmarks.limits``.

Loss and gradients of R8's KL step, value and gradients of a spline block, as
:mod:`benchmarks.peers` and :mod:`benchmarks.spline` time them, on one thread, beside

- "multiply-adds": as many as the products of matrices take, in registers, without any memory: what
  the vector units need at least. A matrix unit may do with less.
- "networks alone": their kernels, weights packed and all gradients taken, without coupling, energy
  or autograd.

All take turns, so that shares of one another hold whatever speed the processor had. Without gcc the
first is left out, the second where no kernel of whole networks serves.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bgfast_kernels import network
from bgfast_kernels.cpu import run_together
from torch import Tensor, nn

from benchmarks import spline
from benchmarks.flow import rows
from benchmarks.peers import flow as flow_question
from benchmarks.peers import same_weights as same
from benchmarks.timing import run
from bgfast.flows import RealNVP
from bgfast.flows.conditioner import Conditioner
from bgfast.flows.dense_tiles import addresses, pack, parts, tiles_pay, unit, widths

Call = Callable[[], Any]
Group = Sequence[Conditioner]
"""Networks that see the same inputs, and run in one kernel."""

_BATCHES = (1024, 8192)


def multiply_adds(folder: Path) -> Callable[[int], float]:
    """Compile the C file; return what does a number of multiply-adds, and gives their sum."""
    library = folder / "multiply_adds.so"
    source = Path(__file__).with_name("multiply_adds.c")
    flags = ["-O3", "-march=native", "-Wno-psabi", "-fPIC", "-shared"]
    subprocess.run(["gcc", *flags, "-o", str(library), str(source)], check=True)
    function = ctypes.CDLL(str(library)).multiply_adds
    numbers = np.array([1.0, 1.0, 0.0], np.float32)

    def do(n: int) -> float:
        function(ctypes.c_long(n), ctypes.c_void_p(numbers.ctypes.data))
        return float(numbers[2])

    return do


def n_products(groups: Sequence[Group]) -> int:
    """Return the products of numbers a sample takes: forward, and backward by weights and inputs.

    Nobody asks for the gradient by what the first group is given.
    """
    weights = [[w.numel() for w in net.parameter_lists()[0]] for group in groups for net in group]
    return 3 * sum(map(sum, weights)) - sum(first for first, *_ in weights[: len(groups[0])])


def networks_alone(
    groups: Sequence[Group], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> Callable[[], list[network.Gradients]]:
    """Return a call of all networks, forward and, in reverse order, backward.

    Parameters
    ----------
    groups
        Networks, all with tanh.
    inputs
        Of every group, float32, ``[n, n_in]``.
    grads
        Gradients of what every group returns, float32, ``[network, n, n_out]``.

    Returns
    -------
    The call, which returns the gradients of every group's parameters.
    """
    parameters = [
        [[t for kind in net.parameter_lists() for t in kind] for net in g] for g in groups
    ]
    shapes = [widths(of_group[0]) for of_group in parameters]
    by_input = [_rows(torch.empty_like(x)) for x in inputs]

    def body() -> list[network.Gradients]:
        kept = []
        for of_group, x in zip(parameters, inputs, strict=True):
            packed = pack(of_group, "full", passing=True)
            kept.append(unit().kept_memory(packed.widths, packed.parts, len(x), len(of_group)))
            unit().forward(packed, _rows(x), ("tanh",) * len(of_group), kept[-1])
        found = []
        for i in reversed(range(len(groups))):
            gradients = unit().backward(
                shapes[i],
                addresses(parameters[i]),
                ("tanh",) * len(groups[i]),
                _rows(grads[i]),
                kept.pop(),
                by_input[i] if i else None,
                needs_parameters=True,
                parts=parts("full"),
            )
            found.append(gradients)
        return found[::-1]

    return lambda: run_together(body)


def _rows(x: Tensor) -> network.Rows:
    return network.Rows(x.numpy().reshape(-1), x.shape[-1], x.shape[-2])


def kl_step(n: int) -> tuple[list[Group], dict[str, Call]]:
    """Return R8's networks as they follow, and its step in bgfast and torch eager."""
    flow = same.make_flow()
    blocks = [m for m in flow.modules() if isinstance(m, RealNVP)]
    groups: list[Group] = []
    for b in blocks:
        groups += [(b.scale_1, b.shift_1), (b.scale_2, b.shift_2)]
    z = torch.randn(n, same.DIM, generator=torch.Generator().manual_seed(1))
    ours = flow_question.step(flow_question.our_kl(flow))
    theirs = flow_question.step(flow_question.kl)
    eager = same.textbook(same.steps(flow))
    return groups, {
        "bgfast": partial(ours, same.ours(flow), z),
        "torch eager": partial(theirs, eager, z),
    }


def spline_block(n: int) -> tuple[list[Group], dict[str, Call]]:
    """Return the block's networks, and the block in every code that is there."""
    z = torch.randn(n, spline.DIM, generator=torch.Generator().manual_seed(2))
    found = spline.blocks(z)
    ours: Any = found["bgfast"]
    codes = [name for name in found if "," not in name]  # those behind a comma have less precision
    return [(ours.knots_1,), (ours.knots_2,)], {
        spline.title(name): partial(_spline_call, found[name], z) for name in codes
    }


def _spline_call(block: nn.Module, z: Tensor) -> None:
    spline.with_gradient(block, z.detach())


def beside(do: Callable[[int], float] | None, groups: Sequence[Group], n: int) -> dict[str, Call]:
    """Return what networks are compared with, as far as it is there."""
    found: dict[str, Call] = {}
    if do is not None:
        found["multiply-adds"] = partial(do, n * n_products(groups))
    lists = [[net.parameter_lists()[0] for net in group] for group in groups]
    if tiles_pay("full", n, lists[0][0]):
        generator = torch.Generator().manual_seed(4)
        inputs = [torch.randn(n, of[0][0].shape[1], generator=generator) for of in lists]
        grads = [torch.randn(len(of), n, len(of[0][-1]), generator=generator) for of in lists]
        found["networks alone"] = networks_alone(groups, inputs, grads)
    return found


def measure_with(
    do: Callable[[int], float] | None, batches: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
    """Return the rows, ratios to bgfast; ``do`` is what does multiply-adds, if there is one."""
    table = []
    for task, make in (("KL step R8", kl_step), ("spline block", spline_block)):
        for n in batches:
            groups, codes = make(n)
            calls = codes | beside(do, groups, n)  # bgfast is the first
            table += rows(task, n, list(calls), list(calls.values()), repeats)
    return table


def measure(repeats: int) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            do = multiply_adds(Path(folder)) if shutil.which("gcc") else None
            return measure_with(do, _BATCHES, repeats)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    run("Networks in float32 beside the multiply-adds they take, one thread", measure)
