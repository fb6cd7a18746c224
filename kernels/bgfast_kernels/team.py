"""Run the parts of a kernel on the OpenMP threads that the process already has.

After each of its operations torch's OpenMP threads (GNU's libgomp) spin for a while, waiting for
the next one. Threads of our own would share their cores with spinning ones, so the parts of a
kernel go to the same threads, which are awake.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Run = Callable[[Callable[[int], None], int, int], None]
"""Calls ``part(i)`` for every i in ``range(n)``, each once, on so many threads; waits for all."""

_PART = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_MAPS = Path("/proc/self/maps")


class Team(NamedTuple):
    """The threads of a libgomp.

    Parameters
    ----------
    run
        Runs parts on them.
    size
        Returns how many torch uses, and so how many there are.
    """

    run: Run
    size: Callable[[], int]


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
        parallel, size = library.GOMP_parallel, library.omp_get_max_threads
    except (OSError, AttributeError):  # its file is gone, or another library bears the name
        return None
    parallel.argtypes = (_PART, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None

    def run(part: Callable[[int], None], n: int, threads: int) -> None:
        remaining, finished, entered = iter(range(n)), list[int](), list[int]()
        errors = list[BaseException]()

        def work(_: object) -> None:
            try:
                entered.append(threading.get_ident())
                for i in remaining:  # the GIL lets one thread at a time take the next part
                    part(i)
                    finished.append(i)
            except BaseException as error:  # it cannot pass through C
                errors.append(error)

        # All threads, also for fewer parts: libgomp ends those that a smaller team leaves out, and
        # torch's next operation would have to start them again.
        parallel(_PART(work), None, threads, 0)
        try:
            if errors:
                raise errors[0]
            if len(finished) < n or threading.get_ident() not in entered:
                raise KeyboardInterrupt  # at the door of `work`, where ctypes lets errors fall
        finally:
            errors.clear()  # an error that is kept keeps this frame, and with it all arrays

    return Team(run, size)


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
