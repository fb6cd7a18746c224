"""Memory of network kernels: what they are given is enough, and what does not fit is refused."""

import ctypes
import mmap

import numpy as np
import pytest
from bgfast_kernels import network, vector_network

from tests.network_cases import (
    MATRIX,
    UNITS,
    WIDTHS,
    as_rows,
    make,
    on_units,
    pack,
    run,
)


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


@MATRIX
def test_memory_amid_a_cache_line_is_refused():
    widths = (5, 16, 3)
    weights, biases, (x, _) = make(widths, 40)
    kept = network.kept_memory(widths, 1, 41)
    packed = pack(widths, weights, biases, UNITS["bfloat16"][0])
    with pytest.raises(ValueError, match="kept must begin at a cache line"):
        network.forward(packed, as_rows(x, widths[0]), ("tanh",), kept[8:])
