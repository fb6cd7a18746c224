"""Run the parts of a kernel on the OpenMP threads that the process already has.

After each of its operations torch's OpenMP threads (GNU's libgomp) spin for a while, waiting for
the next one. Threads of our own would share their cores with spinning ones, so the parts of a
kernel go to the same threads, which are awake.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

Run = Callable[[Callable[[int], None], int, int], None]
"""Calls ``part(i)`` for every i in ``range(n)``, each once, on so many threads; waits for all."""

_PART = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_MAPS = Path("/proc/self/maps")
_forked = False


def openmp() -> Run | None:
    """Return what runs parts on the threads of the loaded libgomp; ``None`` if there is none.

    In a forked child there is none: its threads stayed with the parent.
    """
    return None if _forked else _openmp()


@cache
def _openmp() -> Run | None:
    loaded = _loaded_libgomp()
    if loaded is None:
        return None
    parallel = ctypes.CDLL(loaded).GOMP_parallel
    parallel.argtypes = (_PART, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None

    def run(part: Callable[[int], None], n: int, threads: int) -> None:
        remaining, errors = iter(range(n)), list[BaseException]()

        def work(_: object) -> None:
            try:
                for i in remaining:  # the GIL lets one thread at a time take the next part
                    part(i)
            except BaseException as error:  # it cannot pass through C
                errors.append(error)

        # All threads, also for fewer parts: libgomp ends those that a smaller team leaves out, and
        # torch's next operation would have to start them again.
        parallel(_PART(work), None, threads, 0)
        if errors:
            raise errors[0]

    return run


def _loaded_libgomp() -> str | None:
    """Return the path of the libgomp in this process, the one that came with torch if several."""
    if not _MAPS.exists():
        return None
    paths = {line.split()[-1] for line in _MAPS.read_text().splitlines() if "libgomp" in line}
    return min(paths, key=lambda path: ("torch" not in path, path), default=None)


def _in_child() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_in_child)
