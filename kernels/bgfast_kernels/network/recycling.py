"""Memory that is used again: what is fresh from the system comes page by page, by faults.

A step of training keeps three kilobytes of activations for each row and network of three layers of
200. The allocator may return them to the system after each step, for the next one to ask for again.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
            found = self._memory[name] = lasting_memory(n_bytes)
        return found[:n_bytes]


class _Idle(NamedTuple):
    """Memory that nobody holds, and since when."""

    memory: Bytes
    since: float


class Recycled:
    """Memory that is given out again when the array that was given out before is gone.

    All of it together is never more than what was in use at once.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # Arrays go at any time, also while the lock is held: what they leave is looked at later.
        self._returned: deque[_Idle] = deque()
        self._idle: dict[int, list[_Idle]] = {}
        self._held = self._most_held = 0
        self._next_look = 0.0

    def take(self, n_bytes: int) -> Bytes:
        """Return an array of bytes that begins at a cache line.

        Whoever uses the memory has to hold it, or an array or tensor made of it.
        """
        size = _size_class(n_bytes)
        with self._lock:
            self._look()
            # Up to twice as large: two flows of different precision take turns without faults.
            fitting = [other for other in self._idle if size <= other <= 2 * size]
            found = self._pop(min(fitting), -1) if fitting else None
            self._held += size if found is None else len(found)
            self._most_held = max(self._most_held, self._held)
            self._make_room()
        if found is None:
            found = lasting_memory(size)
        # Slices of a slice would hold the array alone: NumPy looks for it up to what is none.
        given = np.asarray(memoryview(found)[:n_bytes])  # type: ignore[arg-type]
        weakref.finalize(given, self._take_back, found).atexit = False
        return given

    def forget_idle(self) -> None:
        """Forget what has been idle for long."""
        if self._idle or self._returned:
            with self._lock:
                self._look()

    def forget_all(self) -> None:
        """Forget all that is idle."""
        with self._lock:
            self._look()
            self._idle.clear()
            self._most_held = self._held

    @property
    def n_bytes(self) -> int:
        """All memory there is, in use or not."""
        with self._lock:
            self._look()
            return self._held + self._idle_bytes()

    def _take_back(self, found: Bytes) -> None:
        self._returned.append(_Idle(found, self._clock()))

    def _look(self) -> None:
        """Put what was returned with the idle, and forget what has been idle for long."""
        while self._returned:
            idle = self._returned.popleft()
            self._held -= len(idle.memory)
            self._idle.setdefault(len(idle.memory), []).append(idle)
        now = self._clock()
        if now < self._next_look:
            return
        self._next_look = now + IDLE_SECONDS
        # Taken from the end, so that those at the beginning are the ones that nobody needs.
        for size, idle_ones in list(self._idle.items()):
            kept = [idle for idle in idle_ones if idle.since >= now - IDLE_SECONDS]
            self._idle[size] = kept
            if not kept:
                del self._idle[size]
        if not self._idle:
            self._most_held = self._held

    def _make_room(self) -> None:
        """Forget the oldest idle memory until all is no more than was in use at once."""
        while self._idle and self._held + self._idle_bytes() > self._most_held:
            self._pop(min(self._idle, key=lambda size: self._idle[size][0].since), 0)

    def _pop(self, size: int, place: int) -> Bytes:
        """Return the oldest (place 0) or newest (-1) idle memory of a size: it is idle no more."""
        idle = self._idle[size].pop(place)
        if not self._idle[size]:
            del self._idle[size]
        return idle.memory

    def _idle_bytes(self) -> int:
        return sum(size * len(idle) for size, idle in self._idle.items())


# Two, as neither keeps more than was in use at once, and they are not in use at the same time.
of_activations, of_gradients = Recycled(), Recycled()


def forget_idle_memory() -> None:
    """Forget what networks have not used for long."""
    of_activations.forget_idle()
    of_gradients.forget_idle()


def forget_memory() -> None:
    """Return to the system what is kept for the next step of training: none has to follow."""
    of_activations.forget_all()
    of_gradients.forget_all()


def lasting_memory(n_bytes: int) -> Bytes:
    """Return memory that begins at a cache line, of huge pages where the system has them.

    NumPy asks for these for arrays of 4 MB and more.
    """
    memory = np.empty(n_bytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes]


def _size_class(n_bytes: int) -> int:
    """Return a size not much larger, one of eight between two powers of two.

    So batches that differ a little use the same memory.
    """
    step = 1 << max(12, n_bytes.bit_length() - 4)
    return -(-n_bytes // step) * step
