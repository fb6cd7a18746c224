"""The coupling steps' CUDA kernels, run on the CPU by the shim, against float64."""

from functools import partial

import numpy as np
import pytest
import torch

from bgfast.ops import coupling_cuda, spline_cuda
from bgfast.ops.coupling_reference import reference_affine_coupling, reference_affine_grad
from tests.cuda_shim import COMPILER, Guarded, ShimError, launch_in_shim, planted
from tests.spline_cases import assert_exact_to_rounding

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs g++")

DTYPES = [torch.float32, torch.float64]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
both_ways = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
WIDTHS = [1, 2, 4, 7, 38, 100]  # each number of lanes, ragged and full
BOUND = 4.0


@pytest.fixture
def run(monkeypatch):
    """Let launches run in the shim; to be called for another order of threads or sources."""

    for module in (coupling_cuda, spline_cuda):
        monkeypatch.setattr(module, "place", lambda x: {"device": 0, "stream": 0})
    launch_in_shim(monkeypatch)
    return partial(launch_in_shim, monkeypatch)


@pytest.fixture
def guarded(monkeypatch):
    """Let results lie between canaries; ``check`` looks at them all, for rows not written too."""
    made = []

    def new_empty(like, shape):
        made.append(Guarded(tuple(shape), np.dtype(str(like.dtype).removeprefix("torch."))))
        return torch.from_numpy(made[-1].array)

    monkeypatch.setattr(torch.Tensor, "new_empty", new_empty)
    return lambda: [g.check() for g in made]


def affine_rows(n, m, dtype, seed=0):
    """Return x, raw log-scales (some far into saturation), shifts and outer derivatives."""
    rng = np.random.default_rng(seed)
    x, raw_s, t, g = rng.normal(size=(4, n, m))
    raw_s *= 3.0
    raw_s[n // 2] *= 20.0
    arrays = (x, raw_s, t, g, rng.normal(size=n))
    return [torch.from_numpy(a).to(dtype) for a in arrays]


def worst(found, expected, size):
    """Largest error relative to what the result is made of, by row."""
    return ((found.double() - expected).abs() / size).max().item()


def check_affine(n, m, dtype, inverse):
    x, raw_s, t, g, g_l = affine_rows(n, m, dtype)
    y, logdet = coupling_cuda.affine_coupling(x, raw_s, t, inverse)
    grads = coupling_cuda.affine_coupling_grad(x, raw_s, t, g, g_l, inverse)
    x, raw_s, t, g, g_l = (a.double() for a in (x, raw_s, t, g, g_l))
    expected, expected_logdet = reference_affine_coupling(x, raw_s, t, inverse=inverse)
    expected_grads = reference_affine_grad(x, raw_s, t, g, g_l, inverse)
    value, gradient = (1e-6, 2e-6) if dtype == torch.float32 else (1e-14, 1e-14)
    scale = expected_grads[0] / g
    parts = x.abs() * scale + (1.0 if inverse else scale) * t.abs()
    assert worst(y, expected, parts) < value
    assert worst(logdet, expected_logdet, 4.0 * m) < value
    moved = x if inverse else x - t
    terms = (expected_grads[0] * moved).abs() + g_l.abs()[:, None]  # the sum may cancel
    sizes = (expected_grads[0].abs(), terms, expected_grads[2].abs())
    for found, right, size in zip(grads, expected_grads, sizes, strict=True):
        assert worst(found, right, size) < gradient


@every_dtype
@both_ways
@pytest.mark.parametrize("m", WIDTHS)
@pytest.mark.parametrize("n", [1, 61])
def test_affine_steps_and_their_gradients_agree_with_float64(run, n, m, dtype, inverse):
    check_affine(n, m, dtype, inverse)


def spline_rows(n, m, n_bins, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = 2.0 * rng.normal(size=(n, m))
    raw = rng.normal(size=(n, 3 * n_bins - 1, m))
    g, g_l = rng.normal(size=(n, m)), rng.normal(size=n)
    return [torch.from_numpy(a).to(dtype) for a in (x, raw, g, g_l)]


def spline_with_gradients(x, raw, g, g_l, inverse):
    value, logdet = spline_cuda.spline(x, raw, BOUND, inverse)
    return value, logdet, *spline_cuda.spline_gradient(x, raw, g, g_l, BOUND, inverse)


def check_spline(n, m, n_bins, dtype, inverse):
    arguments = spline_rows(n, m, n_bins, dtype)
    assert_exact_to_rounding(spline_with_gradients(*arguments, inverse), *arguments, BOUND, inverse)


@every_dtype
@both_ways
@pytest.mark.parametrize(
    ("n", "m", "n_bins"), [(61, 7, 5), (1, 7, 5), (61, 38, 8), (61, 1, 2), (61, 3, 16), (5, 100, 8)]
)
def test_splines_and_their_gradients_agree_with_float64(run, n, m, n_bins, dtype, inverse):
    check_spline(n, m, n_bins, dtype, inverse)


def results(n, m, dtype, inverse):
    x, raw_s, t, g, g_l = affine_rows(n, m, dtype)
    step = coupling_cuda.affine_coupling(x, raw_s, t, inverse)
    grads = coupling_cuda.affine_coupling_grad(x, raw_s, t, g, g_l, inverse)
    return *step, *grads, *spline_with_gradients(*spline_rows(n, m, 5, dtype), inverse)


@every_dtype
@both_ways
def test_every_order_of_threads_and_every_batch_gives_the_same_bits(run, dtype, inverse):
    first = results(61, 7, dtype, inverse)
    for seed in (1, 2):
        run(seed)
        for a, b in zip(first, results(61, 7, dtype, inverse), strict=True):
            assert torch.equal(a, b)
    x, raw_s, t, *_ = affine_rows(61, 7, dtype)
    y, logdet = coupling_cuda.affine_coupling(x[17:18], raw_s[17:18], t[17:18], inverse)
    assert torch.equal(y[0], first[0][17])
    assert torch.equal(logdet[0], first[1][17])


@every_dtype
@both_ways
def test_halves_of_wider_rows_are_read_where_they_are(run, dtype, inverse):
    x, raw_s, t, g, g_l = affine_rows(20, 6, dtype)
    wide = torch.cat((x, raw_s, t, g), 1)
    parts = wide.split(6, 1)
    expected = coupling_cuda.affine_coupling(x, raw_s, t, inverse)
    found = coupling_cuda.affine_coupling(*parts[:3], inverse)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    expected = coupling_cuda.affine_coupling_grad(x, raw_s, t, g, g_l, inverse)
    strided = (*parts, torch.stack((g_l, g_l), 1)[:, 0])
    for a, b in zip(coupling_cuda.affine_coupling_grad(*strided, inverse), expected, strict=True):
        assert torch.equal(a, b)
    transposed = [part.T.contiguous().T for part in parts]
    for a, b in zip(
        coupling_cuda.affine_coupling_grad(*transposed, g_l.clone(), inverse), expected, strict=True
    ):
        assert torch.equal(a, b)


@both_ways
def test_nothing_is_written_outside_and_everything_inside(run, guarded, inverse):
    results(61, 7, torch.float64, inverse)
    assert len(guarded()) == 9


@pytest.mark.parametrize("shape", [(0, 5), (2, 0, 5), (3, 2, 5), (5,)])
def test_any_number_of_leading_dimensions(run, shape):
    rows = torch.linspace(-1, 1, int(np.prod(shape)), dtype=torch.float64).reshape(shape)
    y, logdet = coupling_cuda.affine_coupling(rows, rows, rows, True)
    expected = reference_affine_coupling(rows, rows, rows, inverse=True)
    torch.testing.assert_close((y, logdet), expected)
    raw = torch.zeros(*shape[:-1], 5, 5, dtype=torch.float64)
    value, logdet = spline_cuda.spline(rows, raw, BOUND, False)
    torch.testing.assert_close((value, logdet), (rows, torch.zeros(shape[:-1]).double()))


@every_dtype
@both_ways
def test_a_nan_stays_in_its_row(run, dtype, inverse):
    clean = results(61, 7, dtype, inverse)
    others = torch.arange(61) != 20
    for column, where in ((0, 0), (1, 1), (6, 2)):
        rows = affine_rows(61, 7, dtype)
        rows[where][20, column] = torch.nan
        y, logdet = coupling_cuda.affine_coupling(*rows[:3], inverse)
        assert y[20, column].isnan()
        assert bool(logdet[20].isnan()) == (where == 1)
        assert torch.equal(y[others], clean[0][others])
        assert torch.equal(logdet[others], clean[1][others])
    for where, index in ((0, (20, 3)), (1, (20, 0, 3)), (1, (20, 7, 3))):
        rows = spline_rows(61, 7, 5, dtype)
        rows[where][index] = torch.nan
        found = spline_with_gradients(*rows, inverse)
        if where == 0 or index[1] < 5:
            assert found[0][20, 3].isnan()
            assert found[1][20].isnan()
        for a, b in zip(found, clean[5:], strict=True):
            assert torch.equal(a[others], b[others])


@both_ways
def test_every_finite_input_has_a_finite_spline(run, inverse):
    for dtype in DTYPES:
        most = torch.finfo(dtype).max
        x = torch.tensor([[0.3, -most, most, BOUND, -BOUND]], dtype=dtype).repeat(6, 1)
        raw = torch.zeros(6, 14, 5, dtype=dtype)
        raw[1], raw[2] = most, -most
        raw[3, ::2], raw[4, 1::2] = 100.0, -100.0
        raw[5, ::3] = most / 2
        for found in spline_with_gradients(x, raw, torch.ones_like(x), x[:, 0], inverse)[:2]:
            assert found.isfinite().all()


# A test of kernels is worth what it catches: each defect, planted in the source, has to fail one of
# the checks above.

DEFECTS = {
    "sign of the log-determinant": ("inverse ? total : -total", "total"),
    "lost bounds guard": ("{group < n ? group : n - 1, group < n}", "{group, true}"),
    "early return before a sum": (
        "const Row row = row_of_group<G>(n);\n    x += row.index * m;",
        "const Row row = row_of_group<G>(n); if (!row.own) return;\n    x += row.index * m;",
    ),
    "half of the lanes in a sum": ("group_sum<G>(total)", "group_sum<G / 2>(total)"),
    "forward step with the inverse's scale": ("exp(inverse ? s : -s)", "exp(s)"),
    "derivative of the bound left out": ("(real(1) - b * b) *", ""),
    "neighbouring bin": ("if (!(offset < real(0)))", "if (offset < real(0))"),
    "lost last bin": ("for (int j = 1; j < n_bins; ++j) {\n        sum.add",
                      "for (int j = 1; j < n_bins - 1; ++j) {\n        sum.add"),
    "slope of the wrong knot": ("j == at.k ? g_d1", "j == at.k + 1 ? g_d1"),
    "softmax without its mean": (": to_after;", ": real(0);"),
    "knots without what rounding took": ("low += number - part;", ""),
    "identity outside": ("outside ? value : result", "result"),
    "a row too many": ("if (element >= n * m) return;", "if (element >= n * m + 1) return;"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(run, guarded, defect):
    def check():
        for inverse in (False, True):
            check_affine(61, 7, torch.float64, inverse)
            check_spline(61, 7, 5, torch.float64, inverse)
        guarded()

    with planted(*DEFECTS[defect]) as change:
        run(change=change)
        with pytest.raises((AssertionError, ShimError)):
            check()
