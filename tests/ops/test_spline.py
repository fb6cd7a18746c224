"""The rational-quadratic spline: knots, tails, inverse, rows, extremes."""

import numpy as np
import pytest
import torch
from bgfast_kernels.coupling.spline_parameters import MIN_BIN, MIN_SLOPE, SHIFT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import logsumexp, softmax

from bgfast.ops import BackendError, rational_quadratic_spline
from bgfast.ops.spline_reference import reference_spline
from tests.spline_cases import assert_exact_to_rounding, with_gradients

BOUND = 4.0
both_directions = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
both_dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def spline(x, raw, inverse=False, **options):
    return rational_quadratic_spline(x, raw, BOUND, inverse, **options)


def inputs(n, m, n_bins=8, dtype=torch.float64, spread=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 2.0 * torch.randn(n, m, generator=generator, dtype=torch.float64)
    raw = spread * torch.randn(n, 3 * n_bins - 1, m, generator=generator, dtype=torch.float64)
    return x.to(dtype), raw.to(dtype)


def gradients(function, x, raw, inverse):
    x, raw = x.clone().requires_grad_(), raw.clone().requires_grad_()
    value, logdet = function(x, raw, BOUND, inverse)
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(t.shape, generator=generator).to(t) for t in (value, logdet)]
    loss = (value * weights[0]).sum() + (logdet * weights[1]).sum()
    return torch.autograd.grad(loss, (x, raw))


@both_directions
@pytest.mark.parametrize("n_bins", [2, 3, 8, 17])
@pytest.mark.parametrize("m", [1, 2, 7, 8, 16, 19, 38])
def test_value_and_all_gradients_for_any_width_and_number_of_bins(m, n_bins, inverse):
    x, raw = inputs(23, m, n_bins)
    for computed, expected in zip(
        (*spline(x, raw, inverse), *gradients(rational_quadratic_spline, x, raw, inverse)),
        (*reference_spline(x, raw, BOUND, inverse), *gradients(reference_spline, x, raw, inverse)),
        strict=True,
    ):
        assert computed.shape == expected.shape
        scale = expected.abs().max()
        torch.testing.assert_close(computed, expected, rtol=0, atol=1e-11 * scale)


@both_directions
@both_dtypes
@pytest.mark.parametrize(
    ("n", "m", "n_bins", "spread"),
    [(50, 38, 8, 0.05), (50, 38, 8, 0.5), (50, 38, 8, 1.0), (50, 7, 8, 3.0), (50, 5, 100, 1.0)],
)
def test_it_is_as_exact_as_the_rounding_of_its_inputs_allows(n, m, n_bins, spread, dtype, inverse):
    x, raw = inputs(n, m, n_bins, dtype, spread)
    generator = torch.Generator().manual_seed(2)
    outer = [torch.randn(shape, generator=generator).to(dtype) for shape in ((n, m), (n,))]
    found = with_gradients(rational_quadratic_spline, x, raw, *outer, BOUND, inverse)
    assert_exact_to_rounding(found, x, raw, *outer, BOUND, inverse)


@both_directions
def test_large_raw_numbers_lose_no_digits_to_each_other(inverse):
    # Only differences count; adding a power of two to all of them rounds them the same way.
    x, raw = inputs(50, 5, dtype=torch.float32)
    raw[:, :16] = torch.round(raw[:, :16] * 2**10) / 2**10
    far = raw.clone()
    far[:, :8] += 64.0
    far[:, 8:16] -= 2048.0
    eps = torch.finfo(torch.float32).eps
    for a, b in zip(spline(x, far, inverse), spline(x, raw, inverse), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=50 * eps)


@both_dtypes
def test_inverse_undoes_the_spline_with_opposite_logdet(dtype):
    x, raw = inputs(2000, 38, dtype=dtype, spread=0.3)
    y, logdet = spline(x, raw)
    back, inverse_logdet = spline(y, raw, inverse=True)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(back, x, rtol=0, atol=100 * eps)
    torch.testing.assert_close(inverse_logdet, -logdet, rtol=0, atol=1000 * eps)


@both_dtypes
def test_inverse_of_an_extreme_spline_is_as_good_as_rounding_allows(dtype):
    # Where the slope is 1e-5, a number y holds 1e5 times less about x than x itself.
    x, raw = inputs(2000, 38, dtype=dtype, spread=3.0)
    y, _ = spline(x, raw)
    back, _ = spline(y, raw, inverse=True)
    slope = torch.func.vmap(torch.func.jacrev(lambda x, r: spline(x, r)[0]))(x[:50], raw[:50])
    slope = slope.diagonal(dim1=1, dim2=2)
    assert slope.min() < 1e-2
    eps = torch.finfo(dtype).eps
    error = (back - x)[:50].abs() * slope.clamp(max=1.0)
    assert error.max() < 100 * eps
    # And where it is 1e3, rounding x moves y by 1e3 times as much.
    point = back.clone().requires_grad_()
    again, _ = spline(point, raw)
    (steep,) = torch.autograd.grad(again.sum(), point)
    assert steep.max() > 1e2
    assert ((again - y).abs() < (100 + 2 * steep * back.abs()) * eps).all()


def test_values_at_knots_are_those_of_the_definition():
    _, raw = inputs(1, 1, n_bins=5, seed=3)
    numbers = raw[0, :, 0].numpy()
    widths, heights = (
        2 * BOUND * (MIN_BIN + (1 - 5 * MIN_BIN) * softmax(part))
        for part in (numbers[:5], numbers[5:10])
    )
    slopes = MIN_SLOPE + np.logaddexp(0.0, numbers[10:] + SHIFT)
    xs, ys = (torch.tensor(np.cumsum(part) - BOUND)[:-1, None] for part in (widths, heights))
    value, log_slope = spline(xs, raw.expand(4, -1, -1))
    torch.testing.assert_close(value, ys, rtol=0, atol=1e-13)
    torch.testing.assert_close(log_slope, torch.tensor(np.log(slopes)), rtol=0, atol=1e-12)


def test_logdet_integrates_to_the_value():
    _, raw = inputs(1, 1, seed=5)

    def slope(x):
        return spline(torch.tensor([[x]], dtype=torch.float64), raw)[1].exp().item()

    ends = torch.tensor([[-1.0], [1.7]], dtype=torch.float64)
    value, _ = spline(ends, raw.expand(2, -1, -1))
    area, _ = quad(slope, -1.0, 1.7, limit=200, epsabs=1e-10)
    assert area == pytest.approx((value[1] - value[0]).item(), abs=1e-8)


@both_dtypes
@both_directions
def test_raw_zeros_are_the_identity(dtype, inverse):
    x, raw = inputs(200, 38, dtype=dtype)
    value, logdet = spline(x, torch.zeros_like(raw), inverse)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(value, x, rtol=0, atol=10 * eps)
    torch.testing.assert_close(logdet, torch.zeros_like(logdet), rtol=0, atol=200 * eps)


@both_directions
def test_the_identity_goes_on_smoothly_outside(inverse):
    _, raw = inputs(1, 1)
    edge = torch.tensor([[-BOUND], [BOUND]], dtype=torch.float64)
    for x in (edge * (1 + 1e-15), 2 * edge, 1e300 * edge):
        value, log_slope = spline(x, raw.expand(2, -1, -1), inverse)
        assert torch.equal(value, x)
        assert torch.equal(log_slope, torch.zeros_like(log_slope))
    value, log_slope = spline(edge * (1 - 1e-9), raw.expand(2, -1, -1), inverse)
    torch.testing.assert_close(value, edge, rtol=0, atol=1e-8)
    torch.testing.assert_close(log_slope, torch.zeros_like(log_slope), rtol=0, atol=1e-6)


@both_directions
def test_the_spline_rises(inverse):
    _, raw = inputs(1, 1, spread=4.0, seed=2)
    x = torch.linspace(-5, 5, 20_001, dtype=torch.float64)[:, None]
    value, _ = spline(x, raw.expand(len(x), -1, -1), inverse)
    assert (value.diff(dim=0) > 0).all()


@both_dtypes
@both_directions
@pytest.mark.parametrize("m", [1, 5, 38])
def test_a_row_has_the_same_bits_in_any_batch_and_layout(dtype, inverse, m):
    x, raw = inputs(70, m, dtype=dtype)
    whole = (*spline(x, raw, inverse), *gradients(rational_quadratic_spline, x, raw, inverse)[:1])
    for rows in (slice(0, 0), slice(3, 4), slice(5, 66)):
        for part, expected in zip(spline(x[rows], raw[rows], inverse), whole, strict=False):
            assert torch.equal(part, expected[rows])
    shaped = spline(x.reshape(7, 10, m), raw.reshape(7, 10, -1, m), inverse)
    assert all(torch.equal(s.flatten(0, 1), w) for s, w in zip(shaped, whole, strict=False))
    strided = raw.transpose(1, 2).contiguous().transpose(1, 2)
    assert all(torch.equal(s, w) for s, w in zip(spline(x, strided, inverse), whole, strict=False))
    one = torch.func.vmap(lambda x, raw: spline(x, raw, inverse))(x, raw)
    assert all(torch.equal(s, w) for s, w in zip(one, whole, strict=False))
    single = spline(x[0], raw[0], inverse)
    assert all(torch.equal(s, w[0]) for s, w in zip(single, whole, strict=False))


def test_no_coordinates_and_no_rows():
    for n, m in ((0, 3), (2, 0)):
        value, logdet = spline(torch.zeros(n, m), torch.zeros(n, 23, m))
        assert value.shape == (n, m)
        assert torch.equal(logdet, torch.zeros(n))


@both_dtypes
@both_directions
@pytest.mark.parametrize("where", ["x", "raw"])
def test_a_nan_stays_in_its_coordinate_and_its_rows_logdet(dtype, inverse, where):
    x, raw = inputs(40, 5, dtype=dtype)
    x = x.clamp(-3, 3)
    clean = spline(x, raw, inverse)
    if where == "x":
        x[17, 2] = torch.nan
    else:
        raw[17, 1, 2] = torch.nan
    value, logdet = spline(x, raw, inverse)
    broken = value.isnan()
    assert broken.nonzero().tolist() == [[17, 2]]
    assert logdet.isnan().nonzero().flatten().tolist() == [17]
    assert torch.equal(value[~broken], clean[0][~broken])


@both_dtypes
@both_directions
def test_finite_input_has_finite_value_logdet_and_gradients(dtype, inverse):
    width = 32 if dtype == torch.float32 else 64
    largest = float(torch.finfo(dtype).max)
    number = st.floats(width=width, allow_nan=False, allow_infinity=False) | st.sampled_from(
        [0.0, 30.0, -30.0, 1000.0, -1000.0, largest, -largest, BOUND, -BOUND]
    )

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(
        x=st.lists(number, min_size=3, max_size=3), raw=st.lists(number, min_size=33, max_size=33)
    )
    def check(x, raw):
        x = torch.tensor([x], dtype=dtype)
        raw = torch.tensor(raw, dtype=dtype).reshape(1, 11, 3)
        for inputs in (x, x.clamp(-BOUND, BOUND)):
            a, b = inputs.clone().requires_grad_(), raw.clone().requires_grad_()
            value, logdet = spline(a, b, inverse)
            tame = value.clamp(-9, 9).sum() + logdet.sum()
            found = (value, logdet, *torch.autograd.grad(tame, (a, b)))
            assert all(t.isfinite().all() for t in found)

    check()


@both_directions
def test_first_and_second_derivatives_pass_gradcheck(inverse):
    x, raw = inputs(2, 2, n_bins=3)
    arguments = (x.requires_grad_(), raw.requires_grad_(), BOUND, inverse)
    assert torch.autograd.gradcheck(rational_quadratic_spline, arguments)
    assert torch.autograd.gradgradcheck(rational_quadratic_spline, arguments)


def test_torch_compile_traces_the_inverse_whole():
    x, raw = inputs(6, 5, dtype=torch.float32)
    compiled = torch.compile(spline, fullgraph=True, backend="aot_eager")
    expected = gradients(rational_quadratic_spline, x, raw, True)
    found = gradients(lambda x, raw, _, inverse: compiled(x, raw, inverse), x, raw, True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_a_flattened_gaussian_keeps_its_normalisation():
    # q(x) = N(z(x)) |dz/dx| integrates to 1 whatever the spline.
    _, raw = inputs(1, 1, seed=8)
    x = torch.linspace(-9, 9, 200_001, dtype=torch.float64)[:, None]
    z, logdet = spline(x, raw.expand(len(x), -1, -1), inverse=True)
    log_q = logdet - z[:, 0] ** 2 / 2 - np.log(2 * np.pi) / 2
    assert logsumexp(log_q.numpy()) + np.log(18 / 200_000) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("x", "raw", "bound", "error", "words"),
    [
        ([0.0], torch.zeros(23, 1), 4.0, TypeError, "x must be a torch tensor, got list"),
        (torch.zeros(1).long(), torch.zeros(23, 1), 4.0, TypeError, "floating-point.*int64"),
        (torch.zeros(1), torch.zeros(23, 1).double(), 4.0, TypeError, "float32.*float64"),
        (torch.zeros(2), torch.zeros(23, 1), 4.0, ValueError, r"\[2\] and \[23, 1\]"),
        (torch.zeros(5, 1), torch.zeros(4, 23, 1), 4.0, ValueError, r"\[5, 1\]"),
        (torch.zeros(1), torch.zeros(22, 1), 4.0, ValueError, "3 K - 1.*got 22"),
        (torch.zeros(1), torch.zeros(2, 1), 4.0, ValueError, "2 <= K"),
        (torch.zeros(1), torch.zeros(23, 1), 0.0, ValueError, "bound must be.*got 0.0"),
        (torch.zeros(1), torch.zeros(23, 1), float("nan"), ValueError, "bound must be"),
    ],
)
def test_bad_input_is_refused_in_words(x, raw, bound, error, words):
    with pytest.raises(error, match=words):
        rational_quadratic_spline(x, raw, bound)


def test_a_dtype_without_kernel_is_refused_or_served_by_torch():
    x, raw = inputs(3, 2, dtype=torch.bfloat16)
    with pytest.raises(BackendError, match="bfloat16"):
        spline(x, raw, backend="numba")
    assert spline(x, raw, backend="torch")[0].dtype == torch.bfloat16
