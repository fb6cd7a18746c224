"""Whether the host may look at a number in the middle of a step.

Looking at a CPU tensor costs nothing. Looking at a tensor on a device makes the host wait for all
that is enqueued, and a step could not be captured in a CUDA graph: there a step decides by masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_forbidden: ContextVar[bool] = ContextVar("bgfast_forbid_waiting", default=False)


def host_may_look(x: Tensor) -> bool:
    """Return whether code that works on ``x`` may branch on its values."""
    return x.device.type == "cpu" and not _forbidden.get()


@contextmanager
def as_on_a_device() -> Iterator[None]:
    """Let CPU tensors take the path of a device inside the block; tests prove it free of waits."""
    token = _forbidden.set(True)
    try:
        yield
    finally:
        _forbidden.reset(token)
