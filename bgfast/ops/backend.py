"""Which implementation of an op serves a tensor.

Order: the ``backend=`` argument, ``with use_backend(...)``, the variable ``BGFAST_BACKEND``, then
the tensor itself: a CUDA tensor goes to ``"cuda"``, every other to ``"numba"``. An explicit request
that cannot be served raises and lists every reason. Nothing is moved, cast or silently replaced.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from bgfast_kernels import cuda, get
from torch.autograd import forward_ad

BACKENDS = ("torch", "numba", "cuda")
_KERNEL_DTYPES = (torch.float32, torch.float64)

_requested: ContextVar[str | None] = ContextVar("bgfast_backend", default=None)
_warned: set[tuple[str, str]] = set()


class BackendError(RuntimeError):
    """An explicitly requested backend cannot serve this op and tensor."""


@contextmanager
def use_backend(backend: str) -> Iterator[None]:
    """Use ``backend`` for every op called inside the ``with`` block.

    Raises
    ------
    ValueError
        If there is no backend of this name.
    """
    token = _requested.set(_known(backend, "backend"))
    try:
        yield
    finally:
        _requested.reset(token)


def select_backend(op: str, x: torch.Tensor, backend: str | None = None) -> str:
    """Return the backend that serves the op named ``op`` on tensor ``x``.

    Raises
    ------
    ValueError
        If a backend of an unknown name is asked for.
    BackendError
        If the backend asked for cannot serve ``x``; the message lists every reason.
    """
    explicit = requested_backend(backend)
    if explicit is not None:
        reasons = why_not(op, x, explicit)
        if reasons:
            raise BackendError(
                f"backend {explicit!r} cannot serve op {op!r} here: " + "; ".join(reasons)
            )
        return explicit
    natural = "cuda" if x.is_cuda else "numba"
    reasons = why_not(op, x, natural)
    if not reasons:
        return natural
    if (op, natural) not in _warned:
        _warned.add((op, natural))
        warnings.warn(
            f"op {op!r} falls back to the torch reference, backend {natural!r} cannot serve it: "
            + "; ".join(reasons),
            RuntimeWarning,
            stacklevel=3,
        )
    return "torch"


def requested_backend(backend: str | None = None) -> str | None:
    """Return the backend asked for by argument, context or environment, or ``None``."""
    if backend is not None:
        return _known(backend, "backend")
    if (from_context := _from_context()) is not None:
        return from_context
    if from_environment := os.environ.get("BGFAST_BACKEND"):
        return _known(from_environment, "BGFAST_BACKEND")
    return None


def _from_context() -> str | None:
    return _requested.get()


# torch.compile cannot trace a ContextVar: it keeps what it finds when it traces the caller. This is
# what torch.compiler.assume_constant_result sets, without importing the compiler.
_from_context._dynamo_marked_constant = True  # type: ignore[attr-defined]


def why_not(op: str, x: torch.Tensor, backend: str) -> list[str]:
    """List every reason why ``backend`` cannot serve op ``op`` on ``x``; empty if it can."""
    if backend == "torch":
        return []
    reasons = []
    if backend not in get(op).implementations:
        reasons.append(f"the op has no {backend} implementation")
    if x.dtype not in _KERNEL_DTYPES:
        reasons.append(f"dtype {x.dtype} is not float32 or float64")
    wanted = "cuda" if backend == "cuda" else "cpu"
    if x.device.type != wanted:
        reasons.append(f"the tensor is on {x.device}, not on a {wanted} device")
    if backend == "cuda" and (missing := why_no_cuda()):
        reasons.append(missing)
    return reasons


def why_no_cuda() -> str:
    """Return what the CUDA kernels lack on this machine, whatever the op; empty if nothing."""
    reasons = []
    if not torch.cuda.is_available():
        build = "is a CPU build" if torch.version.cuda is None else "sees no CUDA device"
        reasons.append(f"torch {torch.__version__} {build}")
    if missing := cuda.why_unavailable():
        reasons.append(missing)
    return "; ".join(reasons)


why_no_cuda._dynamo_marked_constant = True  # type: ignore[attr-defined]


def eager_cpu(x: torch.Tensor) -> bool:
    """Return whether ``x`` is an ordinary CPU tensor that nothing is tracing or transforming.

    Autograd is allowed; torch.compile, torch.func, forward mode, autocast, dispatch modes and
    subclasses of tensors need operations they know.
    """
    return (
        not torch.compiler.is_compiling()
        and type(x) in (torch.Tensor, torch.nn.Parameter)
        and x.device.type == "cpu"
        and x.dtype in _KERNEL_DTYPES
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.maybe_current_level() is None
        and forward_ad._current_level < 0
        and not torch.is_autocast_enabled("cpu")
    )


def kernels_serve(x: torch.Tensor) -> bool:
    """Return whether :func:`eager_cpu` holds, and nobody asked for another backend than numba."""
    return eager_cpu(x) and requested_backend() in (None, "numba")


def _known(backend: str, source: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"{source} must be one of {', '.join(BACKENDS)}, got {backend!r}")
    return backend
