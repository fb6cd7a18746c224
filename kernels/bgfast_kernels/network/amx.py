"""The processor's matrix unit (Intel AMX): eight registers that hold tiles, as numba functions.

A tile has 16 rows of 64 bytes: 16 float32, or 16 pairs of bfloat16. ``multiply(c, a, b)`` adds to
the float32 tile c the product of two bfloat16 tiles,

    c[m, n] += sum_k a[m, k, 0] b[k, n, 0] + a[m, k, 1] b[k, n, 1],    m, n, k = 0 .. 15,

in 16 cycles. Registers are numbered 0 to 7, by literal integers, and belong to the thread:
``configure`` has to come first and ``release`` last. Memory is given by its address.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Sequence
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from bgfast_kernels.simd.memory import pointer

TILE = 1024
"""Bytes of a tile."""

ROW = 64
"""Bytes of one of its rows."""

_FEATURES = ("+amx-tile", "+amx-bf16", "+avx512f", "+avx512bf16")
_LEAST_LLVM = 16  # before, the rounding instruction returned integers
_SYSCALL_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@functools.cache
def is_supported() -> bool:
    """Return whether this processor has the unit, numba compiles for it and Linux lets us use it.

    To be asked before a kernel runs: asking gives this process Linux's permission, which all of its
    threads then have.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    if llvmlite.binding.llvm_version_info[0] < _LEAST_LLVM:
        return False
    features = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
    if not set(_FEATURES) <= set(features):
        return False
    answer: int = ctypes.CDLL(None).syscall(_SYSCALL_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA)
    return answer == 0


def configuration() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return what ``configure`` takes: eight tiles of full size (palette 1)."""
    bytes_ = np.zeros(64, np.uint8)
    bytes_[0] = 1
    bytes_[16:32:2] = 64
    bytes_[48:56] = 16
    return bytes_


@intrinsic  # type: ignore[untyped-decorator]
def configure(typing_context: Any, address: Any) -> Any:
    """Shape the calling thread's tiles as the :func:`configuration` at an address says."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call(builder, "llvm.x86.ldtilecfg", [pointer(builder, values[0], ir.IntType(8))])
        return context.get_dummy_value()

    return types.void(types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def release(typing_context: Any) -> Any:
    """Give the calling thread's tiles back."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call(builder, "llvm.x86.tilerelease", [])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def load(typing_context: Any, tile: Any, address: Any, stride: Any) -> Any:
    """Fill a tile with rows that begin ``stride`` bytes after each other."""
    return types.void(tile, types.intp, types.intp), _transfer("tileloadd64", tile)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def stream(typing_context: Any, tile: Any, address: Any, stride: Any) -> Any:
    """Fill a tile as :func:`load` does with what need not stay in the first cache."""
    return types.void(tile, types.intp, types.intp), _transfer("tileloaddt164", tile)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def store(typing_context: Any, tile: Any, address: Any, stride: Any) -> Any:
    """Write the rows of a tile ``stride`` bytes after each other."""
    return types.void(tile, types.intp, types.intp), _transfer("tilestored64", tile)


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def zero(typing_context: Any, tile: Any) -> Any:
    """Set a tile to zero."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call(builder, "llvm.x86.tilezero", [_number(tile)])
        return context.get_dummy_value()

    return types.void(tile), emit


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def multiply(typing_context: Any, c: Any, a: Any, b: Any) -> Any:
    """Add the product of the bfloat16 tiles a and b to the float32 tile c."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _call(builder, "llvm.x86.tdpbf16ps", [_number(tile) for tile in (c, a, b)])
        return context.get_dummy_value()

    return types.void(c, a, b), emit


def _transfer(name: str, tile: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address = pointer(builder, values[1], ir.IntType(8))
        _call(builder, f"llvm.x86.{name}", [_number(tile), address, values[2]])
        return context.get_dummy_value()

    return emit


def _number(tile: Any) -> Any:
    return ir.Constant(ir.IntType(8), tile.literal_value)


def _call(builder: Any, name: str, values: Sequence[Any]) -> None:
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
