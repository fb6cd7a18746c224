"""How a kernel is compiled, and how its rows are shared out among threads.

Kernels are compiled without numba's own ``parallel=True``: a kernel works on a range of rows, and
:func:`parallel_rows` hands ranges to the threads that torch uses (:mod:`bgfast_kernels.team`), or
to a small pool where there are none. This compiles faster, is safe to call from any thread and in a
forked child, and gives the same bits for any number of threads, because rows are always cut at
multiples of the kernel's block. (torch itself hangs in a child whose parent has run on several
threads, be it a kernel or an operation of torch: start workers that use both by "spawn".)
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels import launch, sequence, team
from bgfast_kernels.compiling import jit, source_hash

__all__ = [
    "get_threads",
    "jit",
    "parallel_rows",
    "run_together",
    "set_threads",
    "source_hash",
]

T = TypeVar("T")

_MIN_ROWS_PER_THREAD = 128
_threads: int | None = None
_pool: ThreadPoolExecutor | None = None


def get_threads() -> int:
    """Return the number of threads: :func:`set_threads`, or as many as torch uses.

    Without torch, or another OpenMP: ``OMP_NUM_THREADS``, or all cores.
    """
    if _threads is not None:
        return _threads
    if (found := team.openmp()) is not None:
        return found.size()
    requested = os.environ.get("OMP_NUM_THREADS", "")
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(requested) if requested.isdigit() and int(requested) > 0 else (available or 1)


def set_threads(n: int | None) -> None:
    """Set the number of threads kernels use; ``None`` returns to the default."""
    global _threads
    if n is not None and (not isinstance(n, int) or n < 1):
        raise ValueError(f"n must be a positive integer or None, got {n!r}")
    _threads = n


def run_together(body: Callable[[], T], *, noting: bool = True) -> T:
    """Let kernels that this thread launches in ``body`` run after it, without Python in between.

    They run in their order, and see what those before them wrote. ``body`` cannot: in it nothing
    may be read that they write, and only kernels that go through :func:`parallel_rows` belong
    there, no others and no operations of torch that use them. Arrays among their arguments are
    held, for addresses see :func:`bgfast_kernels.sequence.hold`. If ``body`` raises they do not
    run.

    Parameters
    ----------
    body
        Launches kernels. In a body within, those noted down before run first.
    noting
        If not, each kernel runs at once.

    Returns
    -------
    What ``body`` does.

    Raises
    ------
    MemoryError
        If a kernel could not allocate its buffers.
    """
    return sequence.run_together(get_threads(), body, noting=noting)


def _executor(workers: int) -> ThreadPoolExecutor:
    global _pool
    if _pool is None or _pool._max_workers < workers:
        _pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="bgfast")
    return _pool


def _forget_pool() -> None:
    global _pool
    _pool = None


# The threads of the pool do not exist in a forked child.
os.register_at_fork(after_in_child=_forget_pool)


def _run_in_pool(kernel: Any, cuts: NDArray[np.int64], arguments: tuple[Any, ...]) -> None:
    first, *others = pairwise(cuts.tolist())
    pool = _executor(len(others)) if others else None
    tasks = [pool.submit(kernel, *part, *arguments) for part in others] if pool else []
    kernel(*first, *arguments)
    for task in tasks:
        task.result()


def parallel_rows(
    kernel: Callable[..., None],
    n: int,
    *args: Any,
    block: int = 1,
    min_rows: int = _MIN_ROWS_PER_THREAD,
) -> None:
    """Call ``kernel(start, stop, *args)`` over ``range(n)``, cut among the threads.

    Parameters
    ----------
    kernel
        A jitted function that writes rows ``start <= i < stop`` of its output arguments.
    n
        Number of rows.
    block
        Ranges start at multiples of it, so that a row's arithmetic does not depend on the threads.
    min_rows
        Fewest rows worth a thread of its own.
    """
    threads = 1 if n < 2 * min_rows else min(get_threads(), n // min_rows)
    if (together := sequence.current()) is not None:
        together.add(kernel, _cuts(n, threads, block), args)
        return
    if threads == 1:
        kernel(0, n, *args)
        return
    cuts = _cuts(n, threads, block)
    found = team.openmp()
    if found is None:
        _run_in_pool(kernel, cuts, args)
    else:
        launch.run(found, get_threads(), kernel, cuts, args)


@functools.lru_cache
def _cuts(n: int, parts: int, block: int) -> NDArray[np.int64]:
    """Return where ``parts`` ranges of ``n`` rows begin and end."""
    blocks = -(-n // block)
    return np.unique([min(n, block * (blocks * i // parts)) for i in range(parts + 1)])
