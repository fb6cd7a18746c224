"""Vectors: exponential, logarithm, masked memory."""

import llvmlite.binding
import numpy as np
import pytest
from bgfast_kernels import cpu
from bgfast_kernels.simd import (
    exp,
    fill,
    lane_sums,
    lanes_in,
    load,
    load_between,
    log_one_plus,
    logarithm,
    numbers_at,
    store,
    store_between,
    tanh,
    where_at_most,
    where_bit,
    where_less,
)
from bgfast_kernels.simd.memory import pointer
from llvmlite import ir

DTYPES = [np.float32, np.float64]


@cpu.jit(key="test_simd")
def apply(x, out):
    for i in range(0, len(x), lanes_in(x)):
        store(out[0], i, exp(-load(x, i)))
        store(out[1], i, logarithm(load(x, i)))
        store(out[2], i, log_one_plus(load(out[0], i)))


@cpu.jit(key="test_simd")
def copy_part(x, out, first, last):
    store_between(out, 0, first, last, load_between(x, 0, first, last, fill(x, 7)))


@cpu.jit(key="test_simd")
def sums_of_eight(x, out):
    some = (load(x, 0), load(x, 8), load(x, 16), load(x, 24))
    rest = (load(x, 32), load(x, 40), load(x, 48), load(x, 56))
    store(out, 0, lane_sums(some + rest))


def test_sums_of_vectors_are_side_by_side():
    x, out = np.random.default_rng(0).standard_normal((8, 8)), np.empty(8)
    sums_of_eight(x.reshape(-1), out)
    pairs = x[:, ::2] + x[:, 1::2]  # added in this order, for every vector
    pairs = pairs[:, ::2] + pairs[:, 1::2]
    assert np.array_equal(out, pairs[:, 0] + pairs[:, 1])


@cpu.jit(key="test_simd")
def double(address, like, n):
    numbers = numbers_at(address, like)
    for i in range(n):
        numbers[i] *= 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_at_an_address_are_those_of_the_array_there(dtype):
    x = np.arange(9, dtype=dtype)
    double(x[2:].ctypes.data, np.empty(0, dtype), 5)
    assert x.tolist() == [0, 1, 4, 6, 8, 10, 12, 7, 8]


@cpu.jit(key="test_simd")
def where_bits(x, out):
    store(out[0], 0, where_bit(1, load(x, 0), fill(x, 7)))
    store(out[1], 0, where_bit(4, load(x, 0), fill(x, 7)))


def test_llvm_leaves_no_access_out_whose_address_it_might_take_for_null():
    module, word = ir.Module(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(word, [word]), "read")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.load(pointer(builder, function.args[0], word)))
    assert "null_pointer_is_valid" in str(llvmlite.binding.parse_assembly(str(module)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_are_chosen_by_a_bit_of_their_number(dtype):
    x = np.arange(64 // np.dtype(dtype).itemsize, dtype=dtype)
    out = np.empty_like(x), np.empty_like(x)
    where_bits(x, out)
    for found, bit in zip(out, (1, 4), strict=True):
        assert np.array_equal(found, np.where(x.astype(int) & bit, x, 7))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_and_logarithms_to_two_units_in_the_last_place(dtype):
    x = np.concatenate([np.logspace(-6, 1.9, 160_000), np.linspace(0.5, 2, 160_000)]).astype(dtype)
    out = tuple(np.empty_like(x) for _ in range(3))
    apply(x, out)
    exact = x.astype(np.longdouble)
    expected = np.exp(-exact), np.log(exact), np.log1p(out[0].astype(np.longdouble))
    eps = np.finfo(dtype).eps
    for value, wanted in zip(out, expected, strict=True):
        nonzero = wanted != 0
        assert np.abs(value[nonzero] / wanted[nonzero] - 1).max() < 2 * eps
        assert (value[~nonzero] == 0).all()


@cpu.jit(key="test_simd")
def apply_exponentials(x, out):
    for i in range(0, len(x), lanes_in(x)):
        store(out[0], i, exp(load(x, i)))
        store(out[1], i, tanh(load(x, i)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials_of_either_sign(dtype):
    parts = np.linspace(-86, 86, 160_000), np.linspace(-1, 1, 160_000)
    x = np.concatenate([*parts, np.logspace(-30, 0, 3200), [0.0] * 16]).astype(dtype)
    out = tuple(np.empty_like(x) for _ in range(2))
    apply_exponentials(x, out)
    exact = x.astype(np.longdouble)
    for value, wanted in zip(out, (np.exp(exact), np.tanh(exact)), strict=True):
        error = np.abs(value - wanted)
        unit = np.spacing(np.abs(wanted).astype(dtype))
        assert (error <= (1.0 if value is out[0] else 5.0) * unit).all()
    assert (np.abs(out[1]) <= 1).all()
    assert (np.abs(out[1]) >= 1 - np.finfo(dtype).epsneg)[np.abs(x) > 20].all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_arguments_and_nan(dtype):
    x = np.full(16, np.nan, dtype)
    x[1:3] = np.finfo(dtype).max, np.inf
    out = tuple(np.empty_like(x) for _ in range(3))
    apply(x, out)
    assert all(np.isnan(values[0]) and np.isnan(values[3:]).all() for values in out)
    assert (out[0][1:3] > 0).all()
    assert (out[0][1:3] < 4 * np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 8), (2, 5), (7, 8)])
def test_masked_memory_touches_its_lanes_alone(dtype, first, last):
    x, out = np.arange(16, dtype=dtype), np.full(16, -1, dtype)
    copy_part(x, out, first, last)
    expected = np.full(16, -1, dtype)
    expected[first:last] = x[first:last]
    assert np.array_equal(out, expected)


@cpu.jit(key="test_simd")
def compare(x, limit, out):
    for i in range(0, len(x), lanes_in(x)):
        a, b, yes, no = load(x, i), load(limit, i), fill(x, 1), fill(x, 0)
        store(out[0], i, where_less(a, b, yes, no))
        store(out[1], i, where_at_most(a, b, yes, no))


@pytest.mark.parametrize("dtype", DTYPES)
def test_comparisons_at_equality_and_with_nan(dtype):
    some = np.array([-np.inf, -1, -0.0, 0, np.nextafter(dtype(1), dtype(0)), 1, np.inf, np.nan])
    x, limit = (a.ravel().astype(dtype) for a in np.meshgrid(some, some))
    out = tuple(np.empty_like(x) for _ in range(2))
    compare(x, limit, out)
    assert np.array_equal(out[0], x < limit)
    assert np.array_equal(out[1], x <= limit)
