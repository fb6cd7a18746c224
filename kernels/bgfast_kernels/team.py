"""Find the OpenMP threads that the process already has.

After each of its operations torch's OpenMP threads (GNU's libgomp) spin for a while, waiting for
the next one. Threads of our own would share their cores with spinning ones, so the parts of a
kernel go to the same threads, which are awake (:mod:`bgfast_kernels.launch`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_MAPS = Path("/proc/self/maps")


class Team(NamedTuple):
    """The threads of a libgomp.

    Parameters
    ----------
    parallel
        Address of its function GOMP_parallel, which lets so many of them run a function.
    size
        Returns how many torch uses, and so how many there are.
    processors
        Returns how many processors they may use together. (``OMP_PROC_BIND`` leaves one to each
        thread, and so to the main one, whose affinity says nothing of the others'.)
    binding
        Returns how they are bound to processors, 0 if they are not.
    inside
        Addresses of what threads that run such a function call: which of them one is, how many
        there are, and the barrier where they wait for each other.
    """

    parallel: int
    size: Callable[[], int]
    processors: Callable[[], int]
    binding: Callable[[], int]
    inside: tuple[int, int, int]


_found: Team | None = None
_forked = False


def openmp() -> Team | None:
    """Return the threads of the loaded libgomp; ``None`` if there is none.

    In a forked child there is none: its threads stayed with the parent.
    """
    global _found
    if _found is None and not _forked:
        _found = _team()  # torch may yet be imported if there is none
    return None if _forked else _found


def _team() -> Team | None:
    path = _loaded_libgomp()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(path)
        size, processors = library.omp_get_max_threads, library.omp_get_num_procs
        binding = library.omp_get_proc_bind
        inside = (library.omp_get_thread_num, library.omp_get_num_threads, library.GOMP_barrier)
        parallel, number, count, barrier = map(_address, (library.GOMP_parallel, *inside))
    except (OSError, AttributeError):  # its file is gone, or another library bears the name
        return None
    return Team(parallel, size, processors, binding, (number, count, barrier))


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _loaded_libgomp() -> str | None:
    """Return the path of the libgomp in this process, the one that came with torch if several."""
    if not _MAPS.exists():
        return None
    lines = (line.split(maxsplit=5) for line in _MAPS.read_text().splitlines())
    paths = {Path(fields[5]) for fields in lines if len(fields) == 6}
    found = [p for p in paths if p.name.startswith("libgomp") and p.is_file()]
    found = [p for p in found if "plugin" not in p.name]  # libgomp-plugin-nvptx
    best = min(found, key=lambda p: (p.parts[-3:-1] != ("torch", "lib"), str(p)), default=None)
    return None if best is None else str(best)


def _in_child() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_in_child)
