"""The two products of a dense network, as loops whose sums stay in registers.

Lanes are samples in both. LLVM keeps the sums in registers as they are values of the loop, not
memory.

A lane is a float32, or a pair of bfloat16 numbers: of two columns in the product with weights, of
two rows in sums over rows. Products of pairs are added up, both at once, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from bgfast_kernels.compiling import jit
from bgfast_kernels.network.halves import HALVES
from bgfast_kernels.network.memory import masked_load, masked_store
from bgfast_kernels.simd.arithmetic import _call, sums_of_lanes
from bgfast_kernels.simd.lanes import shuffle_mask
from bgfast_kernels.simd.memory import _load, _prefetch, _store, pointer
from bgfast_kernels.vector_network.layout import COLUMN, PANEL, SQUARE, TOGETHER

Add = Callable[[Any, Any, Any, Any], Any]

_NUMBERS = ir.VectorType(ir.FloatType(), 16)
_VECTOR = 64  # bytes
_ROWS_IN_A_VECTOR = 16 // SQUARE
_IN_A_HALF_VECTOR = 72  # products that are added up one after the other


@jit
def multiply(left: int, right: int, n: int, offsets: int, target: int) -> None:
    """Write eight columns of a product of ``n`` columns and weights, for the rows of a block.

    Few products are added up in a row, and the offset, which may be large, to the sum of all: so
    they round less.

    Parameters
    ----------
    left
        Address of the columns.
    right
        Address of the first eight weights; the next come a panel later.
    n
        How many, more than none.
    offsets
        Address of eight numbers to be added to the columns.
    target
        Address of the result.
    """
    pieces = -(-n // _IN_A_HALF_VECTOR)
    size = -(-n // pieces)
    for first in range(0, n, size):
        count = min(size, n - first)
        left_at, right_at = left + first * COLUMN, right + first * 4 * PANEL
        more, end = first > 0, first + count == n
        _multiply_some(left_at, right_at, count, more, end, offsets, target)


@jit
def multiply_pairs(left: int, right: int, n: int, offsets: int, target: int) -> None:
    """Write the same for ``n`` pairs of columns and of weights; the result is float32.

    All are added up in one row: rounding the factors costs more than the order of the sum.
    """
    _multiply_some_pairs(left, right, n, False, True, offsets, target)


def _fma(builder: Any, a: Any, b: Any, total: Any) -> Any:
    return _call(builder, "llvm.fma", [a, b, total])


def _add_pairs(builder: Any, a: Any, b: Any, total: Any) -> Any:
    """Emit ``total + a[0] * b[0] + a[1] * b[1]`` of lanes that are pairs."""
    kind = ir.FunctionType(_NUMBERS, [_NUMBERS, HALVES, HALVES])
    name = "llvm.x86.avx512bf16.dpbf16ps.512"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [total, builder.bitcast(a, HALVES), builder.bitcast(b, HALVES)])


def _multiplication(add: Add) -> Any:
    """Return the function that writes the sum of some products."""

    @intrinsic  # type: ignore[untyped-decorator]
    def some(
        typing_context: Any,
        left: Any,
        right: Any,
        n: Any,
        more: Any,
        end: Any,
        offsets: Any,
        target: Any,
    ) -> Any:
        """Write the sum; ``more``: add it to the result, ``end``: add the offsets."""

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            left, right, n, more, end, offsets, target = values

            def step(at: Any, sums: list[Any]) -> list[Any]:
                place = builder.add(left, builder.mul(at, _bytes(COLUMN)))
                columns = _vectors(builder, place, 2)
                weights = builder.add(right, builder.mul(at, _bytes(4 * PANEL)))
                new = []
                for j in range(TOGETHER):
                    weight = _everywhere(builder, builder.add(weights, _bytes(4 * j)))
                    new += [
                        add(builder, column, weight, total)
                        for column, total in zip(columns, sums[2 * j : 2 * j + 2], strict=True)
                    ]
                return new

            sums = _summed(builder, n, [_zero()] * 2 * TOGETHER, step)
            for i, total in enumerate(sums):
                offset = _everywhere(builder, builder.add(offsets, _bytes(4 * (i // 2))))
                offset = builder.select(end, offset, _zero())
                place = pointer(builder, builder.add(target, _bytes(_VECTOR * i)), _NUMBERS)
                before = builder.select(more, _load(builder, place), _zero())
                total = builder.fadd(builder.fadd(total, before), offset)
                _store(builder, total, place)
            return context.get_dummy_value()

        flags = types.boolean, types.boolean
        return types.void(*3 * [types.intp], *flags, types.intp, types.intp), emit

    return some


def _square(add: Add, n_vectors: int) -> Any:
    """Return the function that sums over rows, of which a column of a block has some vectors."""

    @intrinsic  # type: ignore[untyped-decorator]
    def square(
        typing_context: Any,
        left: Any,
        left_step: Any,
        right: Any,
        right_step: Any,
        n: Any,
        ahead: Any,
        target: Any,
        row: Any,
        tall: Any,
        wide: Any,
        more: Any,
    ) -> Any:
        """Write the sums over rows of products of five columns and five, ``[left, right]``.

        Parameters
        ----------
        left, right
            Addresses of the columns in the first block.
        left_step, right_step
            Bytes to those of the next block.
        n
            Number of blocks, more than none.
        ahead
            Address of a cache line to be fetched meanwhile, in every block, as far apart as
            ``right``.
        target, row
            Address of the first sum, and bytes from those of a left column to the next.
        tall, wide
            How many left and right columns there are sums of: up to five.
        more
            Whether to add to what is at ``target``.
        """

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            left, left_step, right, right_step, n, ahead, target, row, tall, wide, more = values
            places = [builder.add(target, builder.mul(row, _bytes(j))) for j in range(SQUARE)]
            # The next square with these left columns will write here.
            for place in places:
                soon = pointer(builder, builder.add(place, _bytes(8 * SQUARE - 4)), ir.IntType(8))
                _prefetch(builder, soon, writes=True)

            def step(at: Any, sums: list[Any]) -> list[Any]:
                left_at = builder.add(left, builder.mul(at, left_step))
                right_at = builder.add(right, builder.mul(at, right_step))
                line = builder.add(ahead, builder.mul(at, right_step))
                _prefetch(builder, pointer(builder, line, ir.IntType(8)))
                for i in range(n_vectors):
                    ours, theirs = (
                        [
                            _vectors(builder, builder.add(start, _bytes(_VECTOR * k)), 1)[0]
                            for k in range(i, n_vectors * SQUARE, n_vectors)
                        ]
                        for start in (left_at, right_at)
                    )
                    pairs = [(a, b) for a in ours for b in theirs]
                    sums = [
                        add(builder, a, b, total) for (a, b), total in zip(pairs, sums, strict=True)
                    ]
                return sums

            sums = _summed(builder, n, [_zero()] * (SQUARE * SQUARE), step)
            for first in range(0, SQUARE, _ROWS_IN_A_VECTOR):
                here = sums[first * SQUARE : (first + _ROWS_IN_A_VECTOR) * SQUARE]
                totals = sums_of_lanes(builder, here + [None] * (16 - len(here)))
                for j, place in enumerate(places[first : first + _ROWS_IN_A_VECTOR]):
                    exists = builder.icmp_signed("<", _bytes(first + j), tall)
                    count = builder.select(exists, wide, _bytes(0))
                    _write_lanes(builder, totals, SQUARE * j, count, place, more)
            return context.get_dummy_value()

        return types.void(*10 * [types.intp], types.boolean), emit

    return square


def _write_lanes(
    builder: Any, vector: Any, first: int, count: Any, address: Any, more: Any
) -> None:
    """Emit that ``count`` lanes of a vector, of up to eight from ``first`` on, go to an address."""
    lanes, flag = ir.IntType(8), ir.IntType(1)
    mask = builder.not_(builder.shl(lanes(-1), builder.trunc(count, lanes)))
    old = builder.select(more, mask, lanes(0))
    mask, old = (builder.bitcast(each, ir.VectorType(flag, 8)) for each in (mask, old))
    places = shuffle_mask([min(first + k, 15) for k in range(8)])
    these = builder.shuffle_vector(vector, ir.Constant(_NUMBERS, ir.Undefined), places)
    place = pointer(builder, address, these.type)
    these = builder.fadd(these, masked_load(builder, place, old))
    masked_store(builder, these, place, mask)


_multiply_some, _multiply_some_pairs = _multiplication(_fma), _multiplication(_add_pairs)
square, square_of_pairs = _square(_fma, 2), _square(_add_pairs, 1)


def _summed(
    builder: Any, n: Any, sums: list[Any], step: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Emit ``for at in range(n): sums = step(at, sums)``, n > 0, and return the sums."""
    before = builder.block
    body = builder.append_basic_block("sum")
    after = builder.append_basic_block("summed")
    builder.branch(body)
    builder.position_at_end(body)
    at = builder.phi(n.type)
    at.add_incoming(n.type(0), before)
    loops = []
    for start in sums:
        total = builder.phi(start.type)
        total.add_incoming(start, before)
        loops.append(total)
    new = step(at, loops)
    for total, value in zip(loops, new, strict=True):
        total.add_incoming(value, body)
    following = builder.add(at, n.type(1))
    at.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, n), body, after)
    builder.position_at_end(after)
    return new


def _vectors(builder: Any, address: Any, count: int) -> list[Any]:
    places = (builder.add(address, _bytes(_VECTOR * i)) for i in range(count))
    return [_load(builder, pointer(builder, place, _NUMBERS)) for place in places]


def _everywhere(builder: Any, address: Any) -> Any:
    """Emit a vector whose every lane is the number at an address."""
    number = builder.load(pointer(builder, address, ir.FloatType()))
    undefined = ir.Constant(_NUMBERS, ir.Undefined)
    single = builder.insert_element(undefined, number, ir.IntType(32)(0))
    return builder.shuffle_vector(single, undefined, shuffle_mask([0] * 16))


def _zero() -> Any:
    return ir.Constant(_NUMBERS, [0.0] * 16)


def _bytes(n: int) -> Any:
    return ir.IntType(64)(n)
