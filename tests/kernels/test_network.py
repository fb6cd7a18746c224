"""The dense network on both units against float64, for ragged sizes and all precisions."""

import ctypes
import mmap
from itertools import pairwise
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from bgfast_kernels import cpu, network, vector_network

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


def expected(widths, n, activation, seed=0):
    """Return the same in float64, by hand."""
    weights, biases, (x, grad) = make(widths, n, seed)
    function, slope = {
        "tanh": (np.tanh, lambda y: 1 - y * y),
        "relu": (lambda v: np.maximum(v, 0), lambda y: (y > 0).astype(float)),
    }[activation]
    inputs = [x[:, : widths[0]].astype(float)]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        inputs.append(function(inputs[-1] @ weight.T.astype(float) + bias))
    out = inputs[-1] @ weights[-1].T.astype(float) + biases[-1]
    g, by_weight, by_bias = grad[:, : widths[-1]].astype(float), [], []
    for i in range(len(weights) - 1, -1, -1):
        by_weight.insert(0, g.T @ inputs[i])
        by_bias.insert(0, g.sum(0))
        g = g @ weights[i]
        if i:
            g = g * slope(inputs[i])
    return [out, g, *by_weight, *by_bias]


def distance(a, b):
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)


@on_units
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("n", [1, 16, 33, 1100])
def test_tanh_networks_and_their_gradients_are_those_of_float64(n, widths, unit):
    pairs = zip(run(widths, n, unit, "tanh"), expected(widths, n, "tanh"), strict=True)
    for i, (ours, exact) in enumerate(pairs):
        assert ours.shape == exact.shape
        assert distance(ours, exact) < unit.tolerance, i


@on_units
def test_relu_networks_are_those_of_float64_but_where_rounding_turns_a_unit_on_or_off(unit):
    widths, n = (17, 33, 31, 48), 700
    pairs = zip(run(widths, n, unit, "relu"), expected(widths, n, "relu"), strict=True)
    assert all(distance(ours, exact) < 4 * unit.tolerance**0.75 for ours, exact in pairs)


@on_rounding_units
def test_the_output_layer_has_all_digits_of_float32_also_in_bfloat16(unit):
    # One hidden unit that is exactly 1: the result is the sum of weights and bias.
    weights = [np.zeros((1, 1), "f"), np.array([[1 / 3], [1e-3], [-7e5]], "f")]
    biases = [np.array([1.0], "f"), np.array([1e-7, -1e-3, 0.1], "f")]
    x = network.Rows(np.zeros(40, "f"), 1, 40)
    out = unit.kernels.forward(pack((1, 1, 3), weights, biases, unit), x, ("relu",))[0]
    exact = weights[1][:, 0].astype(float) + biases[1]
    np.testing.assert_allclose(
        out, np.tile(exact, (40, 1)), rtol=0, atol=1e-7 * np.abs(exact).max()
    )
    assert np.all(np.abs(out[:, 0] - exact[0]) < 6e-8)


@on_rounding_units
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_hidden_layers_round_to_bfloat16_and_nothing_else_does(widths, unit):
    weights, biases, (x, _) = make(widths, 200)
    (out,) = unit.kernels.forward(
        pack(widths, weights, biases, unit), as_rows(x, widths[0]), ("relu",)
    )
    values = bfloat16(x[:, : widths[0]].copy())
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        sums = values.astype(float) @ bfloat16(weight).T.astype(float) + bfloat16(bias)
        values = bfloat16(np.maximum(sums, 0).astype("f"))
    exact = values.astype(float) @ weights[-1].T.astype(float) + biases[-1]
    # Sums in another order may be rounded to the neighbour.
    assert np.median(np.abs(out - exact)) < 1e-6
    assert distance(out, exact) < 1e-3


@on_units
def test_tanh_is_good_over_its_whole_range(unit):
    tolerance = {1: 4.1e-3, 2: 2e-5}.get(unit.parts, 5e-7)
    x = np.concatenate([np.linspace(-12, 12, 4001), [-3e38, 3e38, 1e-3, 1e-20, 0.0]]).astype("f")
    one, none = np.ones((1, 1), "f"), np.zeros(1, "f")
    packed = pack((1, 1, 1), [one, one], [none, none], unit)
    out = unit.kernels.forward(packed, network.Rows(x, 1, len(x)), ("tanh",))[0, :, 0]
    rounded = bfloat16(x) if unit.rounds else x
    exact = np.tanh(rounded.astype(float))
    assert np.all(np.abs(out - exact) <= tolerance * np.abs(exact) + 1e-30)
    assert np.all(np.abs(out) <= 1)


def bfloat16(x):
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


@on_units
@pytest.mark.parametrize("widths", [(17, 33, 31, 20), (5, 9, 3)], ids=str)
@pytest.mark.parametrize("n", [16, 1100])
def test_networks_of_the_same_inputs_are_the_same_together(n, widths, unit):
    activations = "tanh", "relu", "tanh"
    given = [make(widths, n, seed)[:2] for seed in range(3)]
    x, _ = make(widths, n)[2]
    grads = np.random.default_rng(3).normal(size=(3, n, widths[-1])).astype("f")
    start = np.random.default_rng(4).normal(size=(n, widths[0] + 1)).astype("f")

    def run(which, more=True):
        arrays = [(*given[k][0], *given[k][1]) for k in which]
        parameters = np.concatenate([network.addresses(*of_one) for of_one in arrays])
        kinds = tuple(activations[k] for k in which)
        kept = unit.kernels.kept_memory(widths, unit.parts, n, len(which))
        packed = unit.kernels.pack(widths, parameters, unit.parts)
        out = unit.kernels.forward(packed, as_rows(x, widths[0]), kinds, kept)
        grad_x = start.copy() if more else np.full_like(start, np.nan)
        rows = network.Rows(np.ascontiguousarray(grads[which]).reshape(-1), widths[-1], n)
        to = as_rows(grad_x, widths[0])
        found = unit.kernels.backward(
            widths, parameters, kinds, rows, kept, to, True, unit.parts, more=more
        )
        assert not more or np.array_equal(grad_x[:, widths[0] :], start[:, widths[0] :])
        return out, grad_x, found.weights, found.biases

    out, grad_x, *gradients = run([0, 1, 2])
    alone = [run([k]) for k in range(3)]
    assert np.array_equal(out, np.concatenate([of_one[0] for of_one in alone]))
    total = start + sum(of_one[1] - start for of_one in alone)
    np.testing.assert_allclose(grad_x, total, rtol=0, atol=2e-5)
    anew = run([0, 1, 2], more=False)[1][:, : widths[0]]
    np.testing.assert_allclose(anew, (grad_x - start)[:, : widths[0]], rtol=0, atol=2e-5)
    for together, kind in zip(gradients, (2, 3), strict=True):
        apart = [array for of_one in alone for array in of_one[kind]]
        assert all(np.array_equal(a, b) for a, b in zip(together, apart, strict=True))


@on_units
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_bits_depend_neither_on_threads_nor_on_other_rows(activation, unit):
    widths, n = (17, 33, 31, 15), 1100
    try:
        results = []
        for threads in (1, 2, 3):
            cpu.set_threads(threads)
            results.append(run(widths, n, unit, activation))
    finally:
        cpu.set_threads(None)
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))
    weights, biases, (x, _) = make(widths, n)
    packed = pack(widths, weights, biases, unit)
    part = as_rows(np.ascontiguousarray(x[77:90]), widths[0])
    (some,) = unit.kernels.forward(packed, part, (activation,))
    assert np.array_equal(some, results[0][0][77:90])


@on_units
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_what_is_left_in_memory_changes_nothing(widths, unit, monkeypatch):
    expected = run(widths, 70, unit, "tanh")

    def used(*where):
        memory = network.memory.scratch(where[-1])
        memory[:] = 0xFF  # NaN, in float32 as in bfloat16
        return memory

    monkeypatch.setattr(network.packed._lasting, "take", used)
    monkeypatch.setattr(unit.kernels._lasting, "take", used)
    for memory in (network.recycling.of_activations, network.recycling.of_gradients):
        monkeypatch.setattr(memory, "take", used)
    for a, b in zip(run(widths, 70, unit, "tanh"), expected, strict=True):
        assert np.array_equal(a, b)


@VECTOR
def test_a_large_bias_is_added_to_the_whole_sum():
    widths, n = (200, 200, 200), 500
    weights, biases, (x, _) = make(widths, n)
    biases[1] = np.full_like(biases[1], 1e4)
    packed = pack(widths, weights, biases, WHOLE)
    (out,) = vector_network.forward(packed, as_rows(x, 200), ("relu",))
    biases[1] = np.zeros_like(biases[1])
    (sums,) = vector_network.forward(
        pack(widths, weights, biases, WHOLE), as_rows(x, 200), ("relu",)
    )
    assert np.array_equal(out, sums + np.float32(1e4))


@on_units
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_spoils_no_other(bad, unit):
    widths, n = (17, 33, 31, 15), 70
    weights, biases, (x, _) = make(widths, n)
    packed = pack(widths, weights, biases, unit)
    (good,) = unit.kernels.forward(packed, as_rows(x, widths[0]), ("tanh",))
    x[37, 4] = bad
    (out,) = unit.kernels.forward(packed, as_rows(x, widths[0]), ("tanh",))
    assert np.array_equal(np.delete(out, 37, 0), np.delete(good, 37, 0))
    assert not np.array_equal(out[37], good[37])
    if np.isnan(bad):
        assert np.isnan(out[37]).all()


@on({name: UNITS[name] for name in ("vectors", "vectors in bfloat16")})  # the matrix unit says NaN
@pytest.mark.parametrize("widths", [(2, 3, 4, 2), (2, 1, 2, 1), (3, 4, 4, 2)], ids=str)
def test_hidden_units_of_infinite_inputs_are_1_or_minus_1(widths, unit):
    weights, biases, (x, _) = make(widths, 40)
    x[7, 0], x[21, 0] = np.inf, 3.4e38
    (out,) = unit.kernels.forward(
        pack(widths, weights, biases, unit), as_rows(x, widths[0]), ("tanh",)
    )
    values = x[[7, 21], : widths[0]]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        values = np.tanh(values @ weight.T.astype(float) + bias)
    exact = values @ weights[-1].T.astype(float) + biases[-1]
    np.testing.assert_allclose(out[[7, 21]], exact, rtol=0, atol=2 * unit.tolerance)


@on({name: UNITS[name] for name in ("vectors", "vectors in bfloat16")})
def test_rows_that_fill_up_a_block_add_nothing_to_gradients(unit):
    # A row of zeros would overflow; these do not.
    weights = [np.full((1, 1), w, "f") for w in (-1e30, 1e30, 1.0)]
    biases = [np.full(1, b, "f") for b in (1e30, 0.0, 0.0)]
    for n in (31, 32):
        x, grad = np.ones((n, 1), "f"), np.ones((n, 1), "f")
        kept = unit.kernels.kept_memory((1, 1, 1, 1), unit.parts, n)
        packed = pack((1, 1, 1, 1), weights, biases, unit)
        unit.kernels.forward(packed, as_rows(x, 1), ("relu",), kept)
        found = unit.kernels.backward(
            (1, 1, 1, 1),
            network.addresses(*weights),
            ("relu",),
            as_rows(grad, 1),
            kept,
            None,
            True,
            unit.parts,
        )
        assert [float(g[0, 0]) for g in found.weights] == [0.0, 0.0, 0.0]


@on_units
def test_gradients_of_biases_are_sums_of_what_is_not_rounded(unit):
    widths, n = (4, 8, 3), 1000
    weights, biases, (x, _) = make(widths, n)
    kept = unit.kernels.kept_memory(widths, unit.parts, n)
    unit.kernels.forward(
        pack(widths, weights, biases, unit), as_rows(x, widths[0]), ("tanh",), kept
    )
    grad = np.full((n, 3), 1.0039, "f")  # rounded to bfloat16 it is 1
    found = unit.kernels.backward(
        widths,
        network.addresses(*weights),
        ("tanh",),
        as_rows(grad, 3),
        kept,
        None,
        True,
        unit.parts,
    )
    np.testing.assert_allclose(found.biases[-1], grad.sum(0, dtype=float), rtol=1e-5)


@on_units
@pytest.mark.parametrize("widths", [*WIDTHS, (5, 16, 8)], ids=str)
def test_kernels_stay_within_the_memory_they_are_given(widths, unit, monkeypatch):
    expected = run(widths, 70, unit, "tanh")
    monkeypatch.setattr(unit.kernels._lasting, "take", lambda _, n_bytes: guarded(n_bytes))
    for memory in (network.recycling.of_activations, network.recycling.of_gradients):
        monkeypatch.setattr(memory, "take", guarded)
    for a, b in zip(run(widths, 70, unit, "tanh"), expected, strict=True):
        assert np.array_equal(a, b)


def guarded(n_bytes):
    """Return memory with a page behind it that must not be touched."""
    page = mmap.PAGESIZE
    size = -(-n_bytes // page) * page
    pages = mmap.mmap(-1, size + page)
    whole = np.frombuffer(pages, np.uint8)
    forbidden = ctypes.c_void_p(whole.ctypes.data + size)
    assert ctypes.CDLL(None).mprotect(forbidden, page, 0) == 0
    start = (size - n_bytes) // 64 * 64  # it begins at a cache line
    return whole[start : start + n_bytes]


@on_units
def test_what_does_not_fit_the_networks_is_refused(unit):
    widths, kernels = (5, 16, 3), unit.kernels
    weights, biases, (x, grad) = make(widths, 40)
    parameters = network.addresses(*weights, *biases)
    packed, given = pack(widths, weights, biases, unit), as_rows(x, widths[0])
    with pytest.raises(ValueError, match="activations must be one for each of 1 networks"):
        kernels.forward(packed, given, ("tanh", "relu"))
    little = kernels.kept_memory(widths, unit.parts, 32)[:-32]
    with pytest.raises(ValueError, match="kept must be kept_memory for 40 rows of 1 networks"):
        kernels.forward(packed, given, ("tanh",), little)
    if kernels is vector_network:
        with pytest.raises(ValueError, match="parts must be 0 .* or 1 .*, got 2"):
            kernels.kept_memory(widths, 2, 40)
    grads = as_rows(grad, widths[-1])
    with pytest.raises(ValueError, match="kept must be"):
        kernels.backward(widths, parameters, ("tanh",), grads, little, None, True, unit.parts)


@on_units
def test_no_rows_have_gradients_that_are_zero(unit):
    out, grad_x, *of_parameters = run((38, 20, 7), 0, unit, "tanh")
    assert out.shape == (0, 7)
    assert grad_x.shape == (0, 38)
    assert not any(gradient.any() for gradient in of_parameters)


@MATRIX
def test_memory_amid_a_cache_line_is_refused():
    widths = (5, 16, 3)
    weights, biases, (x, _) = make(widths, 40)
    kept = network.kept_memory(widths, 1, 41)
    packed = pack(widths, weights, biases, UNITS["bfloat16"][0])
    with pytest.raises(ValueError, match="kept must begin at a cache line"):
        network.forward(packed, as_rows(x, widths[0]), ("tanh",), kept[8:])
