"""The dense network on both units against float64, for ragged sizes and all precisions."""

import numpy as np
import pytest
from bgfast_kernels import cpu, network, vector_network

from tests.network_cases import (
    UNITS,
    VECTOR,
    WHOLE,
    WIDTHS,
    as_rows,
    bfloat16,
    make,
    on,
    on_rounding_units,
    on_units,
    pack,
    run,
)


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


@on_units
def test_results_may_be_written_to_given_memory(unit):
    widths, n = (5, 9, 3), 40
    weights, biases, (x, _) = make(widths, n)
    packed, rows = pack(widths, weights, biases, unit), as_rows(x, widths[0])
    expected = unit.kernels.forward(packed, rows, ("tanh",))
    memory = np.full(n * widths[-1] + 8, np.nan, "f")
    out = unit.kernels.forward(packed, rows, ("tanh",), memory=memory)
    assert np.array_equal(out, expected)
    assert np.shares_memory(out, memory)
    assert np.isnan(memory[-8:]).all()
    for wrong in (memory[:119], memory.astype(float)):
        with pytest.raises(ValueError, match="memory must have room for 120 numbers of float32"):
            unit.kernels.forward(packed, rows, ("tanh",), memory=wrong)


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
def test_no_rows_have_gradients_that_are_zero(unit):
    out, grad_x, *of_parameters = run((38, 20, 7), 0, unit, "tanh")
    assert out.shape == (0, 7)
    assert grad_x.shape == (0, 38)
    assert not any(gradient.any() for gradient in of_parameters)
