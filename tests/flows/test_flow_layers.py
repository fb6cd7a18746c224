"""Every registered layer, split and whitening keeps the contract of a flow."""

import pytest
import torch

from bgfast.flows import LAYERS, SPLITS, Inverse, Permutation, RealNVP, Whitening, architecture
from bgfast.flows.whitening import KINDS

DIM = 6
SPECS = [*LAYERS, *(f"{letter}2S" for letter in LAYERS), "(RN)2"]


def correlated(n=200, dim=DIM, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return (torch.randn(n, dim, generator=generator, dtype=torch.float64) @ mixing + 2.0).to(dtype)


def tame(flow, seed=5, std=0.3):
    """Give every parameter a random value, so that nothing rests on the initial zeros."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in flow.parameters():
            p.copy_(std * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return flow


def make(spec="R2", split="even-odd", kind=None, dtype=torch.float64, dim=DIM, **options):
    whitening = None if kind is None else Whitening.fit(correlated(dim=dim), kind)
    options = {"hidden": (8, 8), "activation_scale": "silu", "seed": 1} | options
    return tame(architecture(spec, dim, split=split, whitening=whitening, dtype=dtype, **options))


def latent(*batch, dim=DIM, dtype=torch.float64):
    generator = torch.Generator().manual_seed(9)
    return torch.randn(*batch, dim, generator=generator, dtype=torch.float64).to(dtype)


every_flow = pytest.mark.parametrize(
    "flow",
    [
        *(pytest.param(make(s, p), id=f"{s}-{p}") for s in SPECS for p in SPLITS),
        *(pytest.param(make("R", kind=k), id=k) for k in KINDS),
        *(pytest.param(make("R", kind=k).flows[-1], id=f"only-{k}") for k in KINDS),
        pytest.param(Permutation(torch.tensor([3, 0, 5, 1, 4, 2])), id="permutation"),
        pytest.param(Inverse(make("RS")), id="inverse"),
        pytest.param(tame(RealNVP(DIM, (8, 8), dtype=torch.float64)), id="one block"),
    ],
)


@every_flow
def test_inverse_undoes_forward_with_opposite_logdet(flow):
    z = latent(50)
    x, logdet = flow.forward(z)
    back, inverse_logdet = flow.inverse(x)
    assert not torch.equal(x, z)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(inverse_logdet, -logdet, rtol=0, atol=1e-12)


@every_flow
def test_logdet_is_that_of_the_full_jacobian(flow):
    points = latent(4)
    for direction in (flow.forward, flow.inverse):
        jacobian = torch.func.vmap(torch.func.jacrev(lambda v, f=direction: f(v)[0]))(points)
        _, expected = torch.linalg.slogdet(jacobian)
        torch.testing.assert_close(direction(points)[1], expected, rtol=0, atol=1e-12)


@every_flow
@pytest.mark.parametrize("batch", [(), (0,), (1,), (3,), (2, 3), (2, 0, 3)])
def test_any_leading_dimensions(flow, batch):
    z = latent(*batch)
    for direction in (flow.forward, flow.inverse):
        value, logdet = direction(z)
        assert value.shape == z.shape
        assert logdet.shape == torch.Size(batch)
        rows = [direction(row)[0] for row in z.reshape(-1, DIM)]
        if rows:
            expected = torch.stack(rows).reshape(z.shape)
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-12)


@every_flow
@pytest.mark.parametrize("tracked", [False, True])
def test_numbers_count_and_not_how_they_lie_in_memory(flow, tracked):
    wide = latent(5, dim=2 * DIM)
    layouts = (
        wide[:, :DIM].mT.contiguous().mT,  # columns
        wide[:, ::2],
        wide[:1, :DIM].expand(5, DIM),
        torch.complex(wide, -wide).conj().imag[:, :DIM],
    )
    for z in layouts:
        plain = z.clone(memory_format=torch.contiguous_format).resolve_neg()
        with torch.set_grad_enabled(tracked):
            for direction in (flow.forward, flow.inverse):
                for found, expected in zip(direction(z), direction(plain), strict=True):
                    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_dtype_is_kept_and_float32_agrees_with_float64(split, kind):
    z = latent(100)
    x, logdet = make("RNS", split, kind)(z)
    x32, logdet32 = make("RNS", split, kind, dtype=torch.float32)(z.float())
    assert (x.dtype, logdet.dtype) == (torch.float64, torch.float64)
    assert (x32.dtype, logdet32.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(x32.double(), x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logdet32.double(), logdet, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
@pytest.mark.parametrize("letter", LAYERS)
def test_gradients_are_right_to_second_order(letter, activation):
    options = {"activation": activation, "activation_scale": None, "spline_bins": 2}
    flow = make(letter, dim=3, hidden=(3,), **options)
    z = latent(2, dim=3).requires_grad_()
    parameters = [p.requires_grad_() for p in flow.parameters()]
    for direction in (flow.forward, flow.inverse):

        def function(z, *parameters, direction=direction):
            return direction(z)

        assert torch.autograd.gradcheck(function, (z, *parameters))
        if activation != "relu":
            assert torch.autograd.gradgradcheck(function, (z, *parameters), fast_mode=True)


def test_without_autograd_large_batches_in_pieces_change_nothing(monkeypatch):
    monkeypatch.setattr("bgfast.flows.base._ROWS_PER_THREAD", 5)
    flow, z = make("R2S"), latent(173)
    with torch.no_grad():
        pieces = (*flow.forward(z), *flow.inverse(z))
    for piece, whole in zip(pieces, (*flow.forward(z), *flow.inverse(z)), strict=True):
        torch.testing.assert_close(piece, whole.detach(), rtol=0, atol=1e-13)


def test_a_nan_row_stays_alone():
    flow, z = make("RNS", "particle", "zca"), latent(5)
    z[2, 1] = torch.nan
    x, logdet = flow.forward(z)
    assert torch.isnan(logdet).tolist() == [False, False, True, False, False]
    assert torch.isnan(x).any(-1).tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("spec", ["R8", "R10"])
def test_finite_latents_stay_finite_in_float32(spec):
    flow = tame(architecture(spec, 8, hidden=(16,), seed=2), std=30.0)
    x, logdet = flow.forward(latent(500, dim=8, dtype=torch.float32))
    assert torch.isfinite(x).all()
    assert torch.isfinite(logdet).all()
    assert x.abs().max() > 1e6  # the weights did stretch


def test_new_flow_is_close_to_the_identity():
    z = latent(1000, dim=76, dtype=torch.float32)
    x, logdet = architecture("R8", 76)(z)
    assert (x - z).abs().max() < 0.2
    assert (x - z).abs().max() > 1e-4
    assert torch.equal(logdet, torch.zeros(1000))


def test_input_is_not_changed():
    flow, z = make("RNS", "particle", "pca"), latent(20)
    copy = z.clone()
    with torch.no_grad():
        flow.forward(z)
        flow.inverse(z)
    assert torch.equal(z, copy)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (latent(3, dim=5), ValueError, r"\[\.\.\., 6\].*\[3, 5\]"),
        (latent(3).float(), TypeError, "z is torch.float32.*parameters are torch.float64"),
        (torch.ones(3, DIM, dtype=torch.int64), TypeError, "floating-point.*int64"),
        ([0.0] * DIM, TypeError, "torch.Tensor, got list"),
        (torch.tensor(1.0, dtype=torch.float64), ValueError, "must have shape"),
    ],
)
def test_bad_input_is_refused_in_words(value, error, words):
    with pytest.raises(error, match=words):
        make().forward(value)


@pytest.mark.parametrize("kind", KINDS)
def test_whitening_whitens_its_data(kind):
    data = correlated()
    z, _ = Whitening.fit(data, kind).inverse(data)
    covariance = torch.cov(z.T, correction=0)
    torch.testing.assert_close(z.mean(0), torch.zeros(DIM, dtype=z.dtype), rtol=0, atol=1e-12)
    expected = torch.eye(DIM, dtype=z.dtype)
    if kind == "standardise":
        covariance = covariance.diagonal().diag()
    torch.testing.assert_close(covariance, expected, rtol=0, atol=1e-11)


def test_zca_is_symmetric_and_pca_is_ordered():
    matrix = Whitening.fit(correlated(), "zca").matrix
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12)
    lengths = Whitening.fit(correlated(), "pca").matrix.norm(dim=1)
    assert (lengths.diff() < 0).all()


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (correlated(n=DIM), "pca", "only 5 of 6 directions"),
        (correlated() * torch.tensor([1, 1, 0, 1, 1, 1]), "standardise", "only 5 of 6 coordinates"),
        (correlated().fill_(1.0), "zca", "only 0 of 6"),
        (correlated() * torch.inf, "pca", "finite"),
        (correlated()[0], "pca", "shape"),
        (correlated(), "cca", "kind must be one of"),
    ],
)
def test_whitening_refuses_unusable_data(data, kind, words):
    with pytest.raises(ValueError, match=words):
        Whitening.fit(data, kind)
