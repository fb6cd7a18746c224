"""The one place for numba flags, threads and the compile cache.

Kernels are compiled without numba's own ``parallel=True``: a kernel works on a range of rows,
releases the GIL, and :func:`parallel_rows` hands ranges to the threads that torch uses
(:mod:`bgfast_kernels.team`), or to a small pool where there are none. This compiles faster, is safe
to call from any thread and in a forked child, and gives the same bits for any number of threads,
because rows are always cut at multiples of the kernel's block. (torch itself hangs in a child whose
parent has run on several threads, be it a kernel or an operation of torch: start workers that use
both by "spawn".)
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

from bgfast_kernels import team

F = TypeVar("F", bound=Callable[..., Any])


@functools.cache
def source_hash() -> str:
    """Return a hash over every source file of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    def __init__(self, py_func: Callable[..., Any], key: str) -> None:
        super().__init__(py_func)
        if key:
            self._filename_base: str = f"{self.filename_base}.{key}"

    def check_cachable(self, cres: Any) -> bool:
        # A kernel lifted from a closure is cachable here: `key` names what it closes over.
        return True


class _SourceKeyedCache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache, keyed on the hash of the whole package.

    numba looks at the file of the jitted function alone: an edited callee in another file would be
    served stale, and a kernel made by a factory would never be found again.
    """

    def __init__(self, py_func: Callable[..., Any], key: str) -> None:
        self._key = key
        self._impl_class = functools.partial(_CacheImpl, key=key)
        super().__init__(py_func)

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (sig, codegen.magic_tuple(), (source_hash(), self._key))


def jit(
    function: F | None = None,
    *,
    key: str = "",
    fastmath: bool | set[str] = False,
    inline: str = "never",
    error_model: str = "numpy",
) -> Any:
    """Compile ``function`` with the package's flags at its first call.

    Parameters
    ----------
    function
        A function numba can compile.
    key
        Name of what a factory-made function closes over (for example the energy); it tells cached
        kernels of one factory apart and must be given for them.
    fastmath
        LLVM fast-math flags. Leave NaN and infinity alone unless the caller has excluded them.
    inline
        ``"always"`` lets numba inline a small callee before type inference.
    error_model
        ``"numpy"`` makes a division by zero an infinity instead of an exception.
    """
    if function is None:
        return lambda f: jit(f, key=key, fastmath=fastmath, inline=inline, error_model=error_model)
    dispatcher = numba.njit(
        nogil=True, fastmath=fastmath, inline=inline, error_model=error_model, boundscheck=False
    )(function)
    dispatcher._cache = _SourceKeyedCache(function, key)
    return cast(F, dispatcher)


_MIN_ROWS_PER_THREAD = 256
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


def _run_in_pool(part: Callable[[int], None], n: int, _: int) -> None:
    tasks = [_executor(n - 1).submit(part, i) for i in range(1, n)]
    part(0)
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
    if threads == 1:
        kernel(0, n, *args)
        return
    blocks = -(-n // block)
    cuts = [min(n, block * (blocks * i // threads)) for i in range(threads + 1)]
    ranges = [(low, high) for low, high in pairwise(cuts) if high > low]
    found = team.openmp()
    run = _run_in_pool if found is None else found.run
    run(lambda i: kernel(*ranges[i], *args), len(ranges), get_threads())
