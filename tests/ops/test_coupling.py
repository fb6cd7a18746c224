"""The affine coupling step beyond what every op promises."""

import pytest
import torch
from bgfast_kernels.coupling import S_MAX

from bgfast.ops import affine_coupling
from bgfast.ops.coupling import affine_coupling_
from bgfast.ops.coupling_reference import reference_affine_coupling

every_direction = pytest.mark.parametrize("inverse", [False, True])


def step(n, m, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, raw_s, t = torch.randn(3, n, m, generator=generator, dtype=torch.float64)
    return x.to(dtype), (2 * raw_s).to(dtype), t.to(dtype)


@every_direction
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-6), (torch.float64, 2e-14)])
@pytest.mark.parametrize("m", [1, 2, 7, 8, 15, 16, 17, 38, 64, 65])
def test_value_and_gradients_are_those_of_plain_torch_for_any_width(inverse, dtype, rtol, m):
    inputs = step(33, m, dtype)
    weights = step(33, m, seed=1)
    results = []
    for function, precision in ((affine_coupling, dtype), (reference_affine_coupling, None)):
        args = [v.to(precision or torch.float64).requires_grad_() for v in inputs]
        y, logdet = function(*args, inverse=inverse)
        loss = (weights[0].to(y.dtype) * y).sum() + (weights[1][:, 0].to(y.dtype) * logdet).sum()
        results.append((y, logdet, *torch.autograd.grad(loss, args)))
    for ours, expected in zip(*results, strict=True):
        largest = expected.abs().max().item()
        torch.testing.assert_close(ours.double(), expected, rtol=rtol, atol=rtol * largest)


@every_direction
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_small_and_huge_log_scales_are_exact_to_rounding(inverse, dtype):
    sizes = torch.logspace(-30, 30, 121, dtype=torch.float64)
    raw_s = torch.cat((sizes, -sizes, torch.zeros(1))).to(dtype).unsqueeze(1)
    zero = torch.zeros_like(raw_s)
    _, logdet = affine_coupling(zero + 1, raw_s, zero, inverse=inverse)
    expected = S_MAX * torch.tanh(raw_s[:, 0].double() / S_MAX) * (1 if inverse else -1)
    rtol = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(logdet.double(), expected, rtol=rtol, atol=0)


@every_direction
def test_in_place_on_halves_of_wider_rows(inverse):
    x, raw_s, t = step(40, 9)
    wide, networks = torch.randn(40, 20, dtype=x.dtype), torch.cat((raw_s, t), 1)
    wide[:, 3:12] = x
    outside = wide.clone()
    logdet = torch.ones(40, dtype=x.dtype)
    affine_coupling_(wide[:, 3:12], networks[:, :9], networks[:, 9:], logdet, inverse=inverse)
    y, expected = affine_coupling(x, raw_s, t, inverse=inverse)
    assert torch.equal(wide[:, 3:12], y)
    torch.testing.assert_close(logdet, 1 + expected, rtol=0, atol=1e-13)
    assert torch.equal(wide[:, :3], outside[:, :3])
    assert torch.equal(wide[:, 12:], outside[:, 12:])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.float(), TypeError, "t must be torch.float64"),
        (lambda t: t[:, :3], ValueError, r"t must have the shape .* got \[5, 3\]"),
        (lambda t: t[0], ValueError, "t must have the shape"),
    ],
)
def test_unequal_arguments_are_refused_by_name(change, error, words):
    x, raw_s, t = step(5, 4)
    with pytest.raises(error, match=words):
        affine_coupling(x, raw_s, change(t), inverse=True)


@every_direction
def test_forward_mode_agrees_with_reverse_mode(inverse):
    args, tangents = step(6, 5), step(6, 5, seed=1)

    def function(*args):
        return affine_coupling(*args, inverse=inverse)

    _, (along, along_logdet) = torch.func.jvp(function, args, tangents)
    y, pullback = torch.func.vjp(function, *args)
    gradients = pullback(y)
    products = (y[0] * along).sum() + (y[1] * along_logdet).sum()
    expected = sum((g * v).sum() for g, v in zip(gradients, tangents, strict=True))
    torch.testing.assert_close(products, expected)


LAYOUTS = {
    "halves of wider rows": lambda x: torch.cat((x, x), -1)[..., x.shape[-1] :],
    "columns in memory": lambda x: x.mT.contiguous().mT,
    "every second row": lambda x: x.repeat_interleave(2, -2)[..., ::2, :],
    "one row for all": lambda x: x[..., :1, :].expand(x.shape),
    "three dimensions": lambda x: x.reshape(2, -1, x.shape[-1]),
    "minus a view": lambda x: torch.complex(x, -x).conj().imag,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("m", [1, 5, 38])
def test_numbers_count_and_not_how_they_lie_in_memory(layout, m):
    rng = torch.Generator().manual_seed(0)
    given = [LAYOUTS[layout](torch.randn(6, m, generator=rng)) for _ in range(4)]
    single = given[3][..., 0]  # as far apart as the rows are
    plain = [x.clone(memory_format=torch.contiguous_format).resolve_neg() for x in (*given, single)]
    ops = torch.ops.bgfast
    for inverse in (False, True):
        found = (
            *ops.affine_coupling(*given[:3], inverse),
            *ops.affine_coupling_grad(*given, single, inverse),
        )
        expected = (
            *ops.affine_coupling(*plain[:3], inverse),
            *ops.affine_coupling_grad(*plain, inverse),
        )
        for ours, wanted in zip(found, expected, strict=True):
            assert torch.equal(ours, wanted)


def test_a_step_of_no_numbers_has_no_logdet():
    for shape in ((3, 0), (0, 4), (2, 0, 5)):
        x = torch.ones(shape, requires_grad=True)
        y, logdet = affine_coupling(x, x, x, inverse=True)
        (logdet.sum() + y.sum()).backward()
        assert y.shape == shape
        assert logdet.tolist() == torch.zeros(shape[:-1]).tolist()


def test_what_a_kernel_cannot_read_is_refused_by_the_op_itself():
    x = torch.randn(4, 6)
    op, op_grad = torch.ops.bgfast.affine_coupling, torch.ops.bgfast.affine_coupling_grad
    for wrong in ((x.half(),) * 3, (x.long(),) * 3, (x, x.double(), x), (x, x, x.double())):
        with pytest.raises(TypeError, match="all be float32 or all float64"):
            op(*wrong, True)
    with pytest.raises(TypeError, match="all be float32 or all float64"):
        op_grad(x, x, x, x, x[:, 0].double(), True)
    for wrong in ((x, x[:2], x), (x, x, x[:, :3])):
        with pytest.raises(ValueError, match=r"shape \[..., m\] of x"):
            op(*wrong, True)
    with pytest.raises(ValueError, match="log-determinants"):
        op_grad(x, x, x, x, x[:2, 0], True)


def test_zeros_that_are_not_in_memory_are_zeros():
    x = torch.randn(4, 6, requires_grad=True)
    y, logdet = affine_coupling(x, x, x, inverse=True)
    zeros = torch._efficientzerotensor((4, 6)), torch._efficientzerotensor((4,))
    (gradient,) = torch.autograd.grad((y, logdet), x, zeros)
    assert torch.equal(gradient, torch.zeros(4, 6))


def test_columns_are_not_replaced_where_they_are():
    x = torch.randn(6, 4).mT
    with pytest.raises(ValueError, match="contiguous rows"):
        affine_coupling_(x, x, x, torch.zeros(4), inverse=True)
