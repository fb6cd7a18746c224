"""Networks for tests of kernels, and the units that these run on."""

from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from bgfast_kernels import network, vector_network

MATRIX = pytest.mark.skipif(not network.is_supported(), reason="no matrix unit here")
VECTOR = pytest.mark.skipif(not vector_network.is_supported(), reason="no AVX-512 here")
PAIRS = pytest.mark.skipif(
    not vector_network.is_supported(vector_network.ROUNDED), reason="no bfloat16 in AVX-512 here"
)

# Fewest and most columns of tiles and groups, one more and one less; one hidden layer and several.
WIDTHS = [(1, 1, 1), (16, 32, 16), (17, 33, 15, 31, 48), (38, 200, 200, 38), (41, 75, 10, 150)]
ROUNDED = 2.0**-8


class Unit(NamedTuple):
    """Where products are made of which numbers, and how far results may be from float64."""

    kernels: ModuleType
    parts: int
    tolerance: float

    @property
    def rounds(self):
        return self.parts == 1


HALVES = Unit(vector_network, vector_network.ROUNDED, 8 * ROUNDED)
WHOLE = Unit(vector_network, vector_network.WHOLE, 2e-6)
UNITS = {
    "bfloat16": (Unit(network, 1, 8 * ROUNDED), MATRIX),
    "high": (Unit(network, 2, 8 * ROUNDED**2), MATRIX),
    "full": (Unit(network, 3, 64 * ROUNDED**3), MATRIX),
    "vectors": (WHOLE, VECTOR),
    "vectors in bfloat16": (HALVES, PAIRS),
}


def on(units):
    return pytest.mark.parametrize(
        "unit", [pytest.param(unit, id=name, marks=mark) for name, (unit, mark) in units.items()]
    )


on_units = on(UNITS)
on_rounding_units = on({name: pair for name, pair in UNITS.items() if pair[0].rounds})


def make(widths, n, seed=0):
    rng = np.random.default_rng(seed)
    weights = [(rng.normal(size=(b, a)) / a**0.5).astype("f") for a, b in pairwise(widths)]
    biases = [(0.3 * rng.normal(size=b)).astype("f") for b in widths[1:]]
    return weights, biases, rows(rng, n, widths)


def rows(rng, n, widths):
    """Return inputs and gradients of outputs that lie in wider rows."""
    return [rng.normal(size=(n, width + 3)).astype("f") for width in (widths[0], widths[-1])]


def as_rows(array, width):
    return network.Rows(
        array.reshape(-1)[: array.size - array.shape[1] + width], array.shape[1], len(array)
    )


def pack(widths, weights, biases, unit):
    return unit.kernels.pack(widths, network.addresses(*weights, *biases), unit.parts)


def run(widths, n, unit, activation, seed=0):
    """Return the result and all gradients."""
    weights, biases, (x, grad) = make(widths, n, seed)
    kept = unit.kernels.kept_memory(widths, unit.parts, n)
    packed = pack(widths, weights, biases, unit)
    (out,) = unit.kernels.forward(packed, as_rows(x, widths[0]), (activation,), kept)
    (again,) = unit.kernels.forward(packed, as_rows(x, widths[0]), (activation,))
    assert np.array_equal(out, again)
    grad_x = np.full((n, widths[0] + 2), np.nan, "f")
    found = unit.kernels.backward(
        widths,
        network.addresses(*weights),
        (activation,),
        as_rows(grad, widths[-1]),
        kept,
        as_rows(grad_x, widths[0]),
        True,
        unit.parts,
    )
    assert np.isnan(grad_x[:, widths[0] :]).all()
    return [out, grad_x[:, : widths[0]], *found.weights, *found.biases]


def bfloat16(x):
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
