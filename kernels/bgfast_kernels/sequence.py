"""Kernels that follow one another, launched together.

A kernel pushes what the interpreter needs out of a core's caches: between two of them some
microseconds of Python become two or three times as many, and all other threads wait. In
:func:`run_together` Python only notes kernels down. Then the threads go through all of them without
Python. They wait for each other before and after a kernel that they share; others are left to the
first thread, so that nothing waits for a core that is busy with something else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from bgfast_kernels import team
from bgfast_kernels.compiling import jit
from bgfast_kernels.launch import (
    MOST_BYTES,
    address_of,
    has_failed,
    let_all_run,
    new_task,
    note,
    stored,
)

T = TypeVar("T")

_CHUNK_BYTES = 16 * MOST_BYTES


class Sequence:
    """Kernels that are to run one after another."""

    _at: int
    _left: int

    def __init__(self) -> None:
        self._clear()

    def add(self, kernel: Any, cuts: NDArray[np.int64], arguments: tuple[Any, ...]) -> None:
        """Note a kernel down, arguments as for :func:`bgfast_kernels.launch.run`.

        Arrays among the arguments are held until it has run.
        """
        if self._left < MOST_BYTES:
            chunk = np.empty(_CHUNK_BYTES, np.uint8)
            self._held.append(chunk)
            self._at, self._left = chunk.ctypes.data, _CHUNK_BYTES
        worker, n_bytes = note(self._at, address_of(kernel, arguments), cuts, *arguments)
        self._stages.append((worker, self._at, len(cuts) > 2))
        self._kernels.append(kernel)
        self._held += cuts, arguments
        self._at += n_bytes
        self._left -= n_bytes

    def hold(self, *objects: Any) -> None:
        """Keep what kernels only know the address of."""
        self._held += objects

    def run(self, of_team: team.Team, threads: int) -> None:
        """Run what was noted down, and forget it.

        Raises
        ------
        MemoryError
            If a kernel could not allocate its buffers: they raise nothing else.
        """
        kernels, held = self._kernels, self._held  # not before they have run
        noted = np.array(self._stages, np.int64).reshape(-1, 3)
        self._clear()
        are_shared = noted[:, 2:].astype(np.bool_)
        waits = are_shared | np.append(are_shared[1:], [[False]], 0)[: len(noted)]
        stages = np.concatenate((noted, waits), 1)
        number, _, barrier = of_team.inside
        if not are_shared.any():
            threads, number, barrier = 1, 0, 0
        failed = _run_all(of_team.parallel, number, barrier, threads, stages)
        del held
        if failed >= 0:
            name = kernels[failed].py_func.__name__
            raise MemoryError(f"no memory for the buffers of the kernel {name}")

    def _clear(self) -> None:
        self._stages: list[tuple[int, int, bool]] = []
        self._kernels: list[Any] = []
        self._held: list[Any] = []
        self._at = self._left = 0


class _Current(threading.local):
    sequence: Sequence | None = None


_current = _Current()


def current() -> Sequence | None:
    """Return where kernels of this thread are noted down, if they are."""
    return _current.sequence


def hold(*objects: Any) -> None:
    """Keep objects until the kernels that are noted down have run, if any are."""
    if _current.sequence is not None:
        _current.sequence.hold(*objects)


def run_together(threads: int, body: Callable[[], T], *, noting: bool = True) -> T:
    """Do what :func:`bgfast_kernels.cpu.run_together` does with so many threads."""
    found, outer = team.openmp(), _current.sequence
    if found is None:  # nobody to go through them: each kernel runs at once
        return body()
    if outer is not None:
        outer.run(found, threads)
    sequence = Sequence() if noting else None
    # No "with": an interrupt between its steps would leave this thread noting kernels down.
    _current.sequence = sequence
    try:
        result = body()
    finally:
        _current.sequence = outer
    if sequence is not None:
        sequence.run(found, threads)
    return result


@jit
def _run_all(
    parallel: int, number: int, barrier: int, threads: int, stages: NDArray[np.int64]
) -> int:
    """Run the stages, of which each is given by four numbers.

    They are addresses of what threads run and of what it takes, whether they share it or the first
    one runs it, and whether they wait for each other after it. Returns which stage was the first to
    fail, -1 if none did.
    """
    _go_through(parallel, number, barrier, threads, stages)
    for i in range(len(stages)):
        if has_failed(stages[i, 1]):
            return i
    return -1


@intrinsic  # type: ignore[untyped-decorator]
def _go_through(
    typing_context: Any, parallel: Any, number: Any, barrier: Any, threads: Any, stages: Any
) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        run, number, barrier, n_threads, array = values
        array = context.make_array(stages)(context, builder, array)
        n_stages = builder.extract_value(array.shape, 0)
        shared, kind = stored(builder, [number, barrier, n_stages, array.data])
        member = _member(builder.module, kind)
        several = builder.icmp_signed(">", n_threads, n_threads.type(1))
        with builder.if_else(several) as (then, otherwise):
            with then:
                let_all_run(builder, run, n_threads, member, shared)
            with otherwise:
                builder.call(member, [builder.bitcast(shared, cgutils.voidptr_t)])
        return context.get_dummy_value()

    return types.void(parallel, number, barrier, threads, stages), emit


def _member(module: Any, kind: Any) -> Any:
    """Emit the function that every thread runs, ``void member(void *shared)``."""
    member, builder, fields = new_task(module, "bgfast_sequence", kind)
    ask, barrier, n_stages, stages = (builder.load(field) for field in fields)
    unsigned = ir.IntType(32)
    of_number = ir.FunctionType(unsigned, []).as_pointer()
    of_worker = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t]).as_pointer()
    of_barrier = ir.FunctionType(ir.VoidType(), []).as_pointer()
    which = cgutils.alloca_once_value(builder, unsigned(0))  # alone, nobody has to be asked
    with builder.if_then(cgutils.is_not_null(builder, ask)):
        builder.store(builder.call(builder.inttoptr(ask, of_number), []), which)
    is_first = builder.icmp_unsigned("==", builder.load(which), unsigned(0))
    with cgutils.for_range(builder, n_stages) as loop:
        first = builder.mul(loop.index, n_stages.type(4))
        worker, given, is_shared, waits = (
            builder.load(builder.gep(stages, [builder.add(first, n_stages.type(i))]))
            for i in range(4)
        )
        with builder.if_then(builder.or_(is_first, cgutils.is_not_null(builder, is_shared))):
            function = builder.inttoptr(worker, of_worker)
            builder.call(function, [builder.inttoptr(given, cgutils.voidptr_t)])
        together = builder.icmp_signed("!=", barrier, barrier.type(0))
        with builder.if_then(builder.and_(together, cgutils.is_not_null(builder, waits))):
            builder.call(builder.inttoptr(barrier, of_barrier), [])
    builder.ret_void()
    return member
