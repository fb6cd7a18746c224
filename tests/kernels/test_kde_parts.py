"""What the parts of a Gauss transform, cut at multiples of fixed sizes, make up together."""

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu
from bgfast_kernels.kde import extremes, few_boxes, moments, sorting, transform
from bgfast_kernels.kde.reflection import Walls
from bgfast_kernels.kde.tables import TERMS
from bgfast_kernels.kde.transform import gauss_transform

from bgfast.ops import kde_log_density


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    cpu.set_threads(request.param)
    yield
    cpu.set_threads(None)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16_383, 16_385, 150_001])
def test_extent_is_that_of_all_parts(n, threads):
    x = np.random.default_rng(n).standard_normal(n)
    assert extremes.extent(x) == (x.min(), x.max())
    for place in {0, n // 2, n - 1}:
        for extreme in (-100.0, 100.0):
            y = x.copy()
            y[place] = extreme
            assert extremes.extent(y) == (y.min(), y.max())
        for bad in (np.nan, np.inf, -np.inf):
            y = x.copy()
            y[place] = bad
            assert np.isnan(extremes.extent(y)).all()


def test_extents_of_several_arrays_are_those_of_each():
    some = [np.arange(5.0), np.array([np.nan, 1.0]), np.empty(0)]
    (lo, hi), poisoned, none = extremes.extents(*some)
    assert (lo, hi, none) == (0.0, 4.0, [0.0, 0.0])
    assert np.isnan(poisoned).all()


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("n_boxes", [1, 37, 2000, 30_000])
def test_points_of_several_parts_are_in_the_order_of_a_stable_sort(n_boxes, parts):
    n = 50_000
    rng = np.random.default_rng(0)
    box = rng.integers(0, n_boxes + 1, n).astype(np.int32)
    t, charges = rng.standard_normal(n), rng.standard_normal(n)
    given = sorting.Given(np.empty(n), charges, box, t)
    counts = np.full((parts, n_boxes + 1), -1, np.int32)
    start, rank = np.empty(n_boxes + 2, np.int32), np.empty(n, np.int32)
    boxed = sorting.Boxed(start, rank, np.empty(n), np.empty(n))
    for part in range(parts + 1):  # a thread more than parts has nothing to do
        sorting.count(given, counts, part)
    sorting.find_places(counts, start)
    for part in range(parts + 1):
        sorting.place(given, counts, boxed, part)
    order = np.argsort(box, kind="stable")
    assert np.array_equal(boxed.rank[order], np.arange(n))
    assert np.array_equal(boxed.t, t[order])
    assert np.array_equal(boxed.charge, charges[order])
    assert np.array_equal(boxed.start, np.searchsorted(box[order], np.arange(n_boxes + 2)))


@pytest.mark.parametrize("n_threads", [1, 2, 3, 5, 16, 40])
@pytest.mark.parametrize("n_parts", [1, 2, 8, 32])
def test_parts_are_added_up_in_one_order_whoever_has_them(n_parts, n_threads):
    parts = np.random.default_rng(0).standard_normal((n_parts, 12))
    expected = parts
    while len(expected) > 1:
        expected = expected[::2] + expected[1::2]
    for thread in range(n_threads):
        few_boxes._add_up(parts, thread, n_threads, 0, 12)
    for first in (0, 8):
        few_boxes._add_up(parts, -1, n_threads, first, first + 4)
    assert np.array_equal(parts[0, :4], expected[0, :4])
    assert np.array_equal(parts[0, 8:], expected[0, 8:])
    assert n_threads == 1 or n_parts == 1 or not np.array_equal(parts[0, 4:8], expected[0, 4:8])


@pytest.mark.parametrize("fold", [0, 1, -1])
def test_moments_of_boxes_that_span_chunks(fold, threads):
    sizes = np.array([3, 0, moments.CHUNK - 3, 2500, 1, 0, 700, 0, 40_000, 5, 0])
    start = np.concatenate([[0], np.cumsum(sizes), [sizes.sum() + 4]]).astype(np.int32)
    rng = np.random.default_rng(1)
    t, charge = rng.uniform(-1, 1, start[-1]), rng.standard_normal(start[-1])
    slot = np.array([0, -1, 1, 2, -1, -1, -1, -1, 3, 4, -1], np.int32)
    found, magnitude = np.full((2, 5 * TERMS), np.nan), np.zeros(len(sizes))
    inside = int(start[-2])
    heads = np.zeros((-(-inside // moments.CHUNK), TERMS + 1))
    arguments = (start, t, charge, slot, fold, found, magnitude, heads)
    cpu.parallel_rows(
        moments.box_moments, inside, *arguments, block=moments.CHUNK, min_rows=moments.CHUNK
    )
    moments.join(start, slot, fold, heads, found, magnitude)
    powers = np.arange(TERMS)
    for b, s in enumerate(slot):
        here = slice(start[b], start[b + 1])
        assert magnitude[b] == pytest.approx(np.abs(charge[here]).sum(), rel=1e-12)
        if s >= 0:
            expected = charge[here] @ t[here, None] ** powers
            row, mirrored = found[:, s * TERMS : (s + 1) * TERMS]
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12 * magnitude[b])
            if fold:
                assert np.array_equal(mirrored, fold * (-1.0) ** powers * row)


@pytest.fixture(params=["few", "many"])
def way(request, monkeypatch):
    """The way sums are taken, as if boxes were few or many."""
    least = {"few": 0, "many": np.inf}[request.param]
    monkeypatch.setattr(transform, "LEAST_POINTS_OF_A_BOX", least)


@pytest.mark.parametrize("walls", [None, Walls(-5.0, 5.0, 1), Walls(-5.0, 5.0, -1)])
@pytest.mark.parametrize("bandwidth", [1e-3, 0.2])
def test_sums_of_many_points_are_direct_sums(bandwidth, walls, threads, way):
    rng = np.random.default_rng(2)
    n = 20_000
    x, c = rng.standard_normal(n).clip(-4.9, 4.9), rng.standard_normal(n)
    x[:2] = -5.0, 5.0  # on the walls
    sums, slopes, _ = gauss_transform(x, x, c, bandwidth, 0, np.zeros(n), True, walls)
    some = np.append(rng.integers(0, n, 48), [0, 1])
    expected, expected_slopes = np.zeros(50), np.zeros(50)
    images = (
        [(x, 1)] if walls is None else [(x, 1), (-10 - x, walls.parity), (10 - x, walls.parity)]
    )
    for image, sign in images:
        u = (x[some, None] - image) / bandwidth
        expected += sign * (np.exp(-0.5 * u**2) @ c)
        expected_slopes += sign * ((-u * np.exp(-0.5 * u**2)) @ c)
    scale = np.abs(c).sum()
    np.testing.assert_allclose(sums[some], expected, rtol=0, atol=1e-12 * scale)
    np.testing.assert_allclose(slopes[some], expected_slopes, rtol=0, atol=1e-12 * scale)


def test_weights_that_are_not_finite_are_named():
    x = np.linspace(0, 1, 4)
    for bad in (np.inf, np.nan, -1.0):
        with pytest.raises(ValueError, match=f"index 2 is {bad}"):
            gauss_transform(x, x, np.array([0.5, 0.5, bad, 0.0]), 0.1)


def test_same_bits_where_threads_part_amid_a_box_of_few_points(way):
    rng = np.random.default_rng(3)
    n = 6000
    c = np.full(n, 1 / n)
    for points_of_a_box in np.append(np.linspace(4, 7, 12), 700.0):
        x, bandwidth = rng.uniform(size=n), points_of_a_box / n / 1.5
        found = []
        try:
            for threads in (1, 2, 3, 5):
                cpu.set_threads(threads)
                found.append(np.stack(gauss_transform(x, x, c, bandwidth)))
        finally:
            cpu.set_threads(None)
        assert all(np.array_equal(f, found[0]) for f in found)


def test_both_ways_doubt_what_is_far_from_all_weight(way):
    rng = np.random.default_rng(4)
    points, query = rng.standard_normal(500), np.append(rng.uniform(-5, 5, 500), [15.0, -40.0])
    share = np.full(500, 1 / 500)
    sums, _, scale = gauss_transform(query, points, share, 0.1)
    exponent = -0.5 * ((query[:, None] - points) / 0.1) ** 2
    largest = exponent.max(1)
    expected = np.log(np.exp(exponent - largest[:, None]).mean(1)) + largest
    np.testing.assert_allclose(np.log(sums) - scale, expected, rtol=1e-11, atol=1e-9)
    assert 0 < (scale > 0).sum() < 300


def test_charges_of_a_box_that_cancel_are_not_nothing(way):
    x, charges = np.array([0.1, 0.3] * 20), np.array([1.0, -1.0] * 20)
    sums, slopes, _ = gauss_transform(x, x, charges, 0.5, 0, np.zeros(40))
    u = (x[:, None] - x) / 0.5
    expected = np.exp(-0.5 * u**2) @ charges
    np.testing.assert_allclose(sums, expected, rtol=1e-11)
    np.testing.assert_allclose(slopes, (-u * np.exp(-0.5 * u**2)) @ charges, rtol=1e-11)


@pytest.mark.parametrize("bandwidth", [0.1, 3.0])
def test_what_is_no_number_is_not_within_bounds(bandwidth):
    for bad in (np.nan, np.inf):
        points = torch.tensor([0.2, bad, 0.3])
        with pytest.raises(ValueError, match="points must lie within the bounds"):
            kde_log_density(points, bandwidth, bounds=(0.0, 1.0))


@pytest.mark.parametrize("bandwidth", [1e-3, 0.3, 3.0])
def test_read_only_and_single_precision_numbers_are_served(bandwidth):
    rng = np.random.default_rng(0)
    x, q = rng.standard_normal(300).astype(np.float32), rng.standard_normal(40)
    c = np.full(300, 1 / 300)
    expected = gauss_transform(q, x.astype(float), c, bandwidth)
    q.flags.writeable = False
    for query, points, charges in ((q, x, c), (q, x.astype(float), c)):
        found = gauss_transform(query, points, charges, bandwidth)
        for ours, wanted in zip(found, expected, strict=True):
            assert np.array_equal(ours, wanted)


def test_numbers_that_are_not_side_by_side_are_those_alone():
    x = np.random.default_rng(0).normal(size=3000)
    x[1::2] = np.nan
    weights = np.full((1500, 2), 1 / 1500)
    found = gauss_transform(x[::2], x[::2], weights[:, 0], 0.3)
    expected = gauss_transform(x[::2].copy(), x[::2].copy(), weights[:, 0].copy(), 0.3)
    for ours, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-12)
    assert extremes.extent(x[::2]) == (x[::2].min(), x[::2].max())
