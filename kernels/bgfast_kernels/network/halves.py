"""Vectors of float32 to and from words of two bfloat16 numbers each, as numba functions.

Rounding is to nearest, ties to even; what is too small for a normal number becomes zero.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from bgfast_kernels.simd.lanes import Lanes, shuffle_mask
from bgfast_kernels.simd.memory import pointer


class Words(types.Type):  # type: ignore[misc]
    """A vector of 16 words, 32 bfloat16 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Words")


class _BFloat16(ir.types.Type):  # type: ignore[misc]
    """LLVM's type of that name, which llvmlite has not."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self))

    def __hash__(self) -> int:
        return hash(type(self))


_words = Words()
_numbers = Lanes(types.float32)
_WORDS = ir.VectorType(ir.IntType(32), 16)
_HALVES = ir.VectorType(ir.IntType(16), 32)
HALVES = ir.VectorType(_BFloat16(), 32)
_NUMBERS = ir.VectorType(ir.FloatType(), 16)
_UPPER = ir.Constant(_WORDS, [0xFFFF0000] * 16)
_SHIFT = ir.Constant(_WORDS, [16] * 16)


@register_model(Words)
class _WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, words: Words) -> None:
        super().__init__(manager, words, _WORDS)


@intrinsic  # type: ignore[untyped-decorator]
def rounded(typing_context: Any, first: Any, second: Any) -> Any:
    """Return two vectors of float32 as 32 bfloat16 numbers, one vector after the other."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(HALVES, [_NUMBERS, _NUMBERS])
        name = "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.bitcast(builder.call(function, [values[1], values[0]]), _WORDS)

    return _words(first, second), emit


@intrinsic  # type: ignore[untyped-decorator]
def first(typing_context: Any, words: Any) -> Any:
    """Return the first 16 numbers as float32."""
    return _numbers(words), _widened(range(16))


@intrinsic  # type: ignore[untyped-decorator]
def second(typing_context: Any, words: Any) -> Any:
    """Return the last 16 numbers as float32."""
    return _numbers(words), _widened(range(16, 32))


@intrinsic  # type: ignore[untyped-decorator]
def first_paired(typing_context: Any, low: Any, high: Any) -> Any:
    """Return words of the first 16 numbers of two vectors, number by number."""
    return _words(low, high), _paired(range(16))


@intrinsic  # type: ignore[untyped-decorator]
def second_paired(typing_context: Any, low: Any, high: Any) -> Any:
    """Return words of the last 16 numbers of two vectors, number by number."""
    return _words(low, high), _paired(range(16, 32))


@intrinsic  # type: ignore[untyped-decorator]
def first_halves(typing_context: Any, a: Any, b: Any) -> Any:
    """Return the first 16 numbers of two vectors, one after the other."""
    return _words(a, b), _joined(8)


@intrinsic  # type: ignore[untyped-decorator]
def first_quarters(typing_context: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Return the first 8 numbers of four vectors, one after the other."""
    return _words(a, b, c, d), _joined(4)


@intrinsic  # type: ignore[untyped-decorator]
def load(typing_context: Any, address: Any) -> Any:
    """Return the words at an address."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _load(builder, *values)

    return _words(types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def store(typing_context: Any, address: Any, words: Any) -> Any:
    """Write words to an address."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[1], pointer(builder, values[0], _WORDS)).align = 4
        return context.get_dummy_value()

    return types.void(types.intp, words), emit


@intrinsic  # type: ignore[untyped-decorator]
def stream(typing_context: Any, address: Any, words: Any) -> Any:
    """Write words to an address, a multiple of 64, past the caches: what is read much later."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        written = builder.store(values[1], pointer(builder, values[0], _WORDS))
        written.align = 64
        once = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        written.set_metadata("nontemporal", once)
        return context.get_dummy_value()

    return types.void(types.intp, words), emit


@intrinsic  # type: ignore[untyped-decorator]
def low_halves(typing_context: Any, address: Any) -> Any:
    """Return as float32 the first numbers of the words at an address."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = _load(builder, *values)
        return builder.bitcast(builder.shl(bits, _SHIFT), _NUMBERS)

    return _numbers(types.intp), emit


@intrinsic  # type: ignore[untyped-decorator]
def high_halves(typing_context: Any, address: Any) -> Any:
    """Return as float32 the second numbers of the words at an address."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = _load(builder, *values)
        return builder.bitcast(builder.and_(bits, _UPPER), _NUMBERS)

    return _numbers(types.intp), emit


def _widened(numbers: range) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        halves = builder.bitcast(values[0], _HALVES)
        undefined = ir.Constant(_HALVES, ir.Undefined)
        some = builder.shuffle_vector(halves, undefined, shuffle_mask(numbers))
        return builder.bitcast(builder.shl(builder.zext(some, _WORDS), _SHIFT), _NUMBERS)

    return emit


def _joined(n_words: int) -> Any:
    """Emit the first words of all vectors, which fill one, two by two."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        n = n_words
        places = list(range(n))
        while len(values) > 1:
            mask = shuffle_mask([*places, *(values[0].type.count + k for k in places)])
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [builder.shuffle_vector(a, b, mask) for a, b in pairs]
            n *= 2
            places = list(range(n))
        return values[0]

    return emit


def _paired(numbers: range) -> Any:
    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        low, high = (builder.bitcast(value, _HALVES) for value in values)
        mask = shuffle_mask([k for i in numbers for k in (i, 32 + i)])
        return builder.bitcast(builder.shuffle_vector(low, high, mask), _WORDS)

    return emit


def _load(builder: Any, address: Any) -> Any:
    bits = builder.load(pointer(builder, address, _WORDS))
    bits.align = 4
    return bits
