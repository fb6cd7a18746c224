"""How a flow is run: with recomputed activations, or with conditioners in reduced precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

import torch

Precision = Literal["full", "high", "bfloat16"]
"""Of the conditioners of a flow: that of their parameters; about 1e-5, where a processor multiplies
bfloat16 much faster than float32 (:mod:`bgfast.flows.dense_tiles`), and float32 elsewhere; bfloat16
products in the hidden layers (:mod:`bgfast.flows.dense_bfloat16`)."""

_recomputed_rows: ContextVar[int | None] = ContextVar("bgfast_recomputed_rows", default=None)
_prepared: ContextVar[dict[Any, Any] | None] = ContextVar("bgfast_prepared", default=None)
_packed: ContextVar[dict[Any, Any] | None] = ContextVar("bgfast_packed", default=None)


def check_precision(precision: str, dtype: torch.dtype) -> None:
    """Raise unless conditioners with parameters of ``dtype`` may have this precision.

    Raises
    ------
    ValueError
        If it is unknown, or not full and ``dtype`` is not float32.
    """
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
    if precision != "full" and dtype != torch.float32:
        raise ValueError(f"precision = {precision!r} needs a float32 flow, this one is {dtype}")


@contextmanager
def recompute_activations(rows: int = 4096) -> Iterator[None]:
    """Let flows called inside the block keep only their input for the backward pass.

    A larger batch is cut into pieces of ``rows`` rows, and the backward pass computes the
    activations of one piece at a time anew: memory stops growing with the batch, a step takes about
    a third longer. Gradients are the same up to rounding.

    Raises
    ------
    ValueError
        If ``rows`` is not a positive integer.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise ValueError(f"rows must be a positive integer, got {rows!r}")
    token = _recomputed_rows.set(rows)
    try:
        yield
    finally:
        _recomputed_rows.reset(token)


def recomputed_rows() -> int | None:
    """Return the ``rows`` of the enclosing :func:`recompute_activations`, if there is one."""
    return _recomputed_rows.get()


@contextmanager
def bfloat16_conditioners() -> Iterator[None]:
    """Let conditioners called inside the block compute in bfloat16, without autograd.

    The hidden layers of float32 networks are rounded to 8 bits; the output layer, the coupling
    arithmetic and the log-determinant stay float32. The map is another one, but an invertible one,
    and value and log-determinant belong together: the weights of samples are exact. Hidden units
    are steps, not smooth functions, of their input: on the way back a rounded number may land on
    the neighbouring step. Most rows come back to float32 accuracy, a few per cent to that of
    bfloat16, and so does their log q. Weights of the network must not change inside the block.

    For a flow that is to be trained this way see ``precision`` of
    :func:`bgfast.flows.architecture`.

    Raises
    ------
    RuntimeError
        If oneDNN has no bfloat16 on this processor and there is no CUDA device. Calling a
        conditioner that this does not serve (silu, float64, autograd) inside the block raises too.
    """
    if not (bfloat16_is_supported() or torch.cuda.is_available()):
        raise RuntimeError(
            "bfloat16 conditioners need oneDNN and a processor with AVX-512, or a CUDA device"
        )
    token = _prepared.set({})
    try:
        yield
    finally:
        _prepared.reset(token)


@contextmanager
def packed_networks() -> Iterator[None]:
    """Let conditioners called inside the block pack their weights once; these must not change."""
    token = _packed.set({})
    try:
        yield
    finally:
        _packed.reset(token)


def packed_weights() -> dict[Any, Any]:
    """Return where packed networks are kept as long as they are needed."""
    kept = _packed.get()
    return {} if kept is None else kept


def bfloat16_is_supported() -> bool:
    """Return whether this build of torch and this processor multiply bfloat16 matrices."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(available and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def prepared_weights() -> dict[Any, Any] | None:
    """Return the store of converted weights if bfloat16 is asked for."""
    return None if torch.compiler.is_compiling() else _prepared.get()
