import math

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu
from bgfast_kernels.kde.transform import gauss_transform

from bgfast.ops import BackendError, kde_log_density, silverman_bandwidth

F64 = torch.float64


def make_points(kind: str, n: int) -> torch.Tensor:
    x = torch.randn(n, dtype=F64, generator=torch.Generator().manual_seed(n))
    if kind == "uniform":
        return torch.special.ndtr(x)
    if kind == "clustered":  # widths 1e-3 and 1e-1, a gap, and two outliers
        x = torch.where(torch.arange(n) % 2 == 0, 1e-3 * x, 5 + 0.1 * x)
        x[0], x[1] = -30.0, 60.0
    return x


def make_weights(n: int) -> torch.Tensor:
    return torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(1)) + 0.01


def gradients(log_p: torch.Tensor, arguments: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    cotangent = torch.linspace(0.5, 1.5, len(log_p), dtype=log_p.dtype)
    return torch.autograd.grad((log_p * cotangent).sum(), arguments)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= tolerance, f"relative error {error:.1e}"


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("share", [1e-3, 1e-2, 0.1, 1.0, 10.0])
@pytest.mark.parametrize("kind", ["normal", "uniform", "clustered"])
def test_density_and_gradient_are_those_of_direct_sums(
    kind: str, share: float, weighted: bool
) -> None:
    points = make_points(kind, 1500).requires_grad_()
    bandwidth = share * float(points.detach().max() - points.detach().min())
    weights = make_weights(1500).requires_grad_() if weighted else None
    arguments = [points] if weights is None else [points, weights]
    log_p = kde_log_density(points, bandwidth, weights, backend="numba")
    expected = kde_log_density(points, bandwidth, weights, backend="torch")
    assert (log_p - expected).abs().max() < 1e-10  # relative error of p
    for actual, wanted in zip(
        gradients(log_p, arguments), gradients(expected, arguments), strict=True
    ):
        assert_close(actual, wanted, 1e-8)


@pytest.mark.parametrize("bounds", [None, (-4.0, 4.0)])
@pytest.mark.parametrize("bandwidth", [0.05, 0.5, 5.0])
def test_second_derivatives_are_those_of_direct_sums(
    bandwidth: float, bounds: tuple[float, float] | None
) -> None:
    arguments = [make_points("normal", 60).clamp(-4, 4), make_weights(60)]
    arguments.append(torch.linspace(-3.9, 3.9, 50, dtype=F64))
    arguments = [a.requires_grad_() for a in arguments]

    def second(backend: str) -> tuple[torch.Tensor, ...]:
        points, weights, query = arguments
        log_p = kde_log_density(points, bandwidth, weights, query, bounds, backend)
        first = torch.autograd.grad(log_p.sin().sum(), arguments, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), arguments)

    for actual, expected in zip(second("numba"), second("torch"), strict=True):
        assert_close(actual, expected, 1e-8)


@pytest.mark.parametrize("bounds", [None, (-3.0, 3.0)])
def test_gradcheck_and_gradgradcheck(bounds: tuple[float, float] | None) -> None:
    points = make_points("normal", 7).clamp(-2.9, 2.9).requires_grad_()
    weights = make_weights(7).requires_grad_()
    query = torch.tensor([-2.0, 0.3, 2.9], dtype=F64, requires_grad=True)

    def function(p: torch.Tensor, w: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return kde_log_density(p, 0.4, w, q, bounds)

    assert torch.autograd.gradcheck(function, (points, weights, query))
    assert torch.autograd.gradgradcheck(function, (points, weights, query))


@pytest.mark.parametrize("bandwidth", [0.02, 0.2, 1.0, 30.0])
def test_reflected_density_integrates_to_one_and_is_even_at_the_bounds(bandwidth: float) -> None:
    lo, hi = -1.0, 2.0
    points = lo + (hi - lo) * make_points("uniform", 400) ** 2
    # Midpoints: reflected on and on, p is smooth and periodic, where this rule is exact.
    query = lo + (hi - lo) * (torch.arange(1000, dtype=F64) + 0.5) / 1000
    p = kde_log_density(points, bandwidth, query=query, bounds=(lo, hi)).exp()
    assert abs(float(p.mean()) * (hi - lo) - 1) < 1e-10
    ends = torch.tensor([lo, hi], dtype=F64, requires_grad=True)
    (slope,) = gradients(kde_log_density(points, bandwidth, query=ends, bounds=(lo, hi)), [ends])
    assert slope.abs().max() < 1e-9 / bandwidth


def test_reflected_density_of_an_even_grid_is_flat() -> None:
    points = (torch.arange(200, dtype=F64) + 0.5) / 200
    log_p = kde_log_density(points, 0.02, bounds=(0.0, 1.0))
    assert log_p.abs().max() < 1e-10
    assert kde_log_density(points, 0.02)[0] < -0.3  # biased without


@pytest.mark.parametrize("ratio", [2.1, 1.9])
def test_images_and_cosine_series_give_the_same_reflected_density(ratio: float) -> None:
    lo, hi = 0.0, 1.0
    points, bandwidth = make_points("uniform", 30), (hi - lo) / ratio
    log_p = kde_log_density(points, bandwidth, bounds=(lo, hi))
    images = torch.cat([sign * points + 2 * k for k in range(-6, 7) for sign in (1, -1)])
    expected = kde_log_density(images, bandwidth, query=points) + math.log(26)
    assert (log_p - expected).abs().max() < 1e-11


def test_density_of_normal_quantiles_is_the_normal_density() -> None:
    n, bandwidth = 20_000, 0.3
    points = torch.special.ndtri((torch.arange(n, dtype=F64) + 0.5) / n)
    query = torch.linspace(-2.5, 2.5, 41, dtype=F64)
    variance = 1 + bandwidth**2
    expected = -0.5 * query**2 / variance - 0.5 * math.log(2 * math.pi * variance)
    assert (kde_log_density(points, bandwidth, query=query) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("weighted", [False, True])
def test_far_queries_have_the_log_density_of_their_nearest_points(weighted: bool) -> None:
    points = make_points("normal", 500).requires_grad_()
    weights = make_weights(500).requires_grad_() if weighted else None
    query = torch.tensor([3.5, 4.2, 5.0, -6.0, 40.0, 40.0, -1e3, 1e6, 1e30], dtype=F64)
    query.requires_grad_()
    arguments = [points, query] if weights is None else [points, query, weights]
    results = [kde_log_density(points, 0.1, weights, query, None, b) for b in ("numba", "torch")]
    assert torch.isfinite(results[0]).all()
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-9)
    moderate = [log_p[:7] for log_p in results]  # beyond, rounding of u^2 / 2 is all there is
    for actual, expected in zip(*(gradients(p, arguments) for p in moderate), strict=True):
        assert_close(actual, expected, 1e-8)


def test_weights_of_any_spread_give_accurate_densities() -> None:
    points = make_points("uniform", 800)
    weights = torch.exp(60 * make_points("normal", 800))
    weights[::7] = 0.0
    for bandwidth in (1e-4, 1e-2, 0.1):
        log_p = kde_log_density(points, bandwidth, weights)
        expected = kde_log_density(points, bandwidth, weights, backend="torch")
        torch.testing.assert_close(log_p, expected, rtol=1e-12, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("bandwidth", [1e-30, 1e-3, 1.0, 1e30])
def test_any_finite_points_have_a_finite_log_density(bandwidth: float, dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    extremes = torch.tensor([0.0, 1e-38, -1.0, 1.0, 1e10, 3e38, -3e38, largest, -largest])
    extremes = extremes.to(dtype).nan_to_num()
    for points in (extremes, torch.zeros(50, dtype=dtype), torch.ones(1, dtype=dtype)):
        log_p = kde_log_density(points, bandwidth)
        assert log_p.dtype == dtype
        assert torch.isfinite(log_p).all()
        assert torch.isfinite(kde_log_density(points, bandwidth, query=extremes)).all()


def test_memory_and_boxes_stay_linear_when_the_range_is_huge() -> None:
    points = make_points("normal", 3000)
    points[::3] *= 1e12
    points[1::3] *= 1e6
    log_p = kde_log_density(points, 1e-3)
    assert (log_p - kde_log_density(points, 1e-3, backend="torch")).abs().max() < 1e-10


def test_float32_differs_from_float64_by_rounding_of_the_result_alone() -> None:
    points = make_points("normal", 2000).float()
    expected = kde_log_density(points.double(), 0.05)
    assert torch.equal(kde_log_density(points, 0.05), expected.float())


@pytest.mark.parametrize("share", [1e-3, 0.1])
def test_same_bits_for_any_number_of_threads_and_shared_or_copied_query(share: float) -> None:
    x = make_points("normal", 40_000).numpy()
    charges = np.full(len(x), 1 / len(x))
    bandwidth = share * float(np.ptp(x))
    expected = gauss_transform(x, x, charges, bandwidth)
    try:
        for threads in (1, 2, 3):
            cpu.set_threads(threads)
            for query in (x, x.copy()):
                for a, b in zip(
                    gauss_transform(query, x, charges, bandwidth), expected, strict=True
                ):
                    assert np.array_equal(a, b)
    finally:
        cpu.set_threads(None)


def test_vmap_agrees_with_a_loop() -> None:
    points = make_points("normal", 60).reshape(3, 20)
    query = torch.linspace(-1, 1, 5, dtype=F64)

    def function(p: torch.Tensor) -> torch.Tensor:
        return kde_log_density(p, 0.3, query=query, bounds=(-9.0, 9.0))

    expected = torch.stack([function(p) for p in points])
    assert torch.equal(torch.vmap(function)(points), expected)
    slopes = torch.vmap(torch.func.grad(lambda p: function(p).sum()))(points)
    assert torch.equal(slopes[1], torch.func.grad(lambda p: function(p).sum())(points[1]))


@pytest.mark.parametrize("bounds", [None, (-5.0, 5.0)])
def test_compiles_to_one_graph_forward_and_backward(bounds: tuple[float, float] | None) -> None:
    points = make_points("normal", 300).requires_grad_()
    weights = make_weights(300)

    def loss(p: torch.Tensor) -> torch.Tensor:
        return kde_log_density(p, 0.1, weights, bounds=bounds).mean()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (expected,) = torch.autograd.grad(loss(points), points)
    (actual,) = torch.autograd.grad(compiled(points), points)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)
    if bounds is not None:
        with pytest.raises(ValueError, match="points must lie within the bounds"):
            compiled(points.detach() * 10)


def test_inputs_stay_untouched_and_need_not_be_contiguous() -> None:
    points = make_points("normal", 400)
    before = points.clone()
    log_p = kde_log_density(points[::2], 0.1, query=points[::3])
    assert torch.equal(points, before)
    assert torch.equal(log_p, kde_log_density(points[::2].clone(), 0.1, query=points[::3].clone()))


def test_no_query_gives_an_empty_result() -> None:
    empty = torch.empty(0, dtype=F64)
    assert kde_log_density(make_points("normal", 5), 0.1, query=empty).shape == (0,)


def test_silverman_bandwidth_of_normal_points() -> None:
    points = make_points("normal", 5000)
    expected = 0.9 * 5000**-0.2
    assert silverman_bandwidth(3 * points) == pytest.approx(3 * expected, rel=0.05)
    doubled = torch.cat([points, points])
    weights = torch.cat([torch.ones(5000, dtype=F64), torch.zeros(5000, dtype=F64)])
    assert silverman_bandwidth(doubled, weights) == pytest.approx(
        silverman_bandwidth(points), rel=1e-12
    )
    with pytest.raises(ValueError, match="all be equal"):
        silverman_bandwidth(torch.ones(9))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"points": [1.0]}, TypeError, "points must be a float32 or float64 tensor, got list"),
        ({"points": torch.arange(4)}, TypeError, "got torch.int64"),
        ({"points": torch.zeros(2, 2)}, ValueError, "points must have one dimension"),
        ({"points": torch.zeros(0)}, ValueError, "at least one point"),
        ({"points": torch.tensor([0.0, math.nan])}, ValueError, "points must be finite"),
        ({"query": torch.tensor([math.inf])}, ValueError, "query must be finite"),
        ({"query": torch.zeros(3, dtype=F64)}, TypeError, "query must be like points"),
        ({"weights": torch.ones(3)}, ValueError, "weights must have the shape of points"),
        ({"weights": torch.tensor([1.0, -1.0, 1.0, 1.0])}, ValueError, "weights must be"),
        ({"weights": torch.zeros(4)}, ValueError, "weights must be"),
        ({"weights": torch.full((4,), math.nan)}, ValueError, "weights must be"),
        ({"bandwidth": 0.0}, ValueError, "bandwidth must be positive"),
        ({"bandwidth": math.nan}, ValueError, "bandwidth must be positive"),
        ({"bandwidth": "auto"}, TypeError, "bandwidth must be a number"),
        ({"bounds": (1.0, 0.0)}, ValueError, "lo < hi"),
        ({"bounds": (0.5, 2.0)}, ValueError, "points must lie within the bounds"),
        ({"bounds": (0.0, 2.0), "query": torch.ones(1) * 3}, ValueError, "query must lie within"),
        ({"backend": "fft"}, ValueError, "backend must be one of"),
        ({"backend": "cuda"}, BackendError, "not on a cuda device"),
    ],
)
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_bad_input_is_named(
    change: dict[str, object], error: type[Exception], message: str, backend: str
) -> None:
    arguments = {"points": torch.linspace(0, 1, 4), "bandwidth": 0.1, "backend": backend} | change
    with pytest.raises(error, match=message):
        kde_log_density(**arguments)  # type: ignore[arg-type]
