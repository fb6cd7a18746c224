"""Memory that is used again: what is fresh from the system comes page by page, by faults.

A step of training keeps a hundred megabytes of activations and more. The allocator returns them to
the system after each step, and to have them back can take a fifth of the next one.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bgfast_kernels.network import memory

Bytes = NDArray[np.uint8]

IDLE_SECONDS = 5.0
"""Memory that nobody has taken for so long is returned to the system, at the next call."""


class Lasting(threading.local):
    """Memory that a thread uses in every call."""

    def __init__(self) -> None:
        self._memory: dict[str, Bytes] = {}

    def take(self, name: str, n_bytes: int) -> Bytes:
        """Return memory that the thread's next call of this name may overwrite."""
        found = self._memory.get(name)
        if found is None or len(found) < n_bytes:
            found = self._memory[name] = memory.scratch(n_bytes)
        return found[:n_bytes]


class _Idle(NamedTuple):
    """Memory that nobody holds, and since when."""

    memory: Bytes
    since: float


class Recycled:
    """Memory that is given out again when the array that was given out before is gone.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._idle: dict[int, list[_Idle]] = {}
        self._next_look = 0.0

    def take(self, n_bytes: int) -> Bytes:
        """Return an array that begins at a cache line.

        It has to be held for as long as the memory is used: a slice of it does not hold it.
        """
        self.forget_idle()
        try:
            found = self._idle[n_bytes].pop().memory
        except (KeyError, IndexError):
            found = memory.scratch(n_bytes)
        given = found[:]
        weakref.finalize(given, self._take_back, found).atexit = False
        return given

    def forget_idle(self) -> None:
        """Forget what has been idle for long."""
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + IDLE_SECONDS
        for n_bytes, idle in list(self._idle.items()):
            # Taken from the end, so that those at the beginning are the ones that nobody needs.
            while idle and idle[0].since < now - IDLE_SECONDS:
                try:
                    idle.pop(0)
                except IndexError:  # another thread took it
                    break
            if not idle:
                self._idle.pop(n_bytes, None)

    def _take_back(self, found: Bytes) -> None:
        self._idle.setdefault(len(found), []).append(_Idle(found, self._clock()))
