"""Vectors of one SIMD register as a numba type, for kernels whose lanes are samples.

LLVM vectorises an inner loop over samples only behind run-time checks that no two rows of a buffer
overlap, and keeps accumulators in memory. Here a kernel says what it means: a :class:`Lanes` value
holds one number for each of ``WIDTH_BYTES / itemsize`` samples, arithmetic on it is one
instruction, and LLVM keeps it in a register. Machines with narrower registers split it.

The arithmetic keeps NaN: nothing here assumes finite numbers.

Vectors are loaded from and stored to flat contiguous arrays at an element offset; bounds are not
checked.
"""

from bgfast_kernels.simd.arithmetic import (
    any_less,
    fma,
    lane_sums,
    larger,
    reciprocal,
    root,
    smaller,
    where_at_most,
    where_bit,
    where_less,
)
from bgfast_kernels.simd.lanes import WIDTH_BYTES, Lanes, lanes_in
from bgfast_kernels.simd.memory import (
    fill,
    load,
    load_between,
    numbers_at,
    prefetch,
    spread,
    store,
    store_between,
    transpose_tile,
)
from bgfast_kernels.simd.transcendental import exp, log_one_plus, logarithm, tanh

__all__ = [
    "WIDTH_BYTES",
    "Lanes",
    "any_less",
    "exp",
    "fill",
    "fma",
    "lane_sums",
    "lanes_in",
    "larger",
    "load",
    "load_between",
    "log_one_plus",
    "logarithm",
    "numbers_at",
    "prefetch",
    "reciprocal",
    "root",
    "smaller",
    "spread",
    "store",
    "store_between",
    "tanh",
    "transpose_tile",
    "where_at_most",
    "where_bit",
    "where_less",
]
