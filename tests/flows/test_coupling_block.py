"""A block as one node of autograd: what its parts give, wherever inputs and gradients lie."""

import pytest
import torch
from bgfast_kernels import network, vector_network
from torch.nn.modules.module import register_module_forward_hook

from bgfast.flows import RealNVP
from bgfast.flows.dense_tiles import _LEAST_ROWS as LEAST
from bgfast.flows.dense_tiles import unit
from bgfast.flows.execution import bfloat16_conditioners
from bgfast.ops import affine_coupling

pytestmark = pytest.mark.skipif(
    not (network.is_supported() or vector_network.is_supported()), reason="no AVX-512 here"
)

N = 140  # more than "high" leaves to torch, and no multiple of a block of rows
DIRECTIONS = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
UNIT = pytest.mark.skipif(not network.is_supported(), reason="no matrix unit here")
PAIRS = pytest.mark.skipif(
    not (network.is_supported() or vector_network.is_supported(vector_network.ROUNDED)),
    reason="no bfloat16 products here",
)
PRECISIONS = pytest.mark.parametrize(
    "precision", ["full", pytest.param("high", marks=UNIT), pytest.param("bfloat16", marks=PAIRS)]
)
BEST = "high" if network.is_supported() else "full"


@pytest.fixture(autouse=True)
def no_block_is_too_small(monkeypatch):
    monkeypatch.setattr("bgfast.flows.dense_tiles._LEAST_ROWS", dict.fromkeys(LEAST, 100))
    monkeypatch.setattr("bgfast.flows.dense_tiles._LEAST_WIDTH", 1)


def make(precision, n_first=5, **options):
    generator = torch.Generator().manual_seed(1)
    hidden = options.pop("hidden", (33, 40))
    block = RealNVP(
        12, hidden, n_first=n_first, precision=precision, generator=generator, **options
    )
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return block, torch.randn(N, 12, generator=generator)


def run(block, value, inverse):
    return block._inverse(value) if inverse else block._forward(value)


def in_parts(block, value, inverse):
    """Return the same of conditioners and coupling steps, one by one."""
    halves = list(torch.split(value, [block.n_first, block.dim - block.n_first], -1))
    networks = [(block.scale_1, block.shift_1), (block.scale_2, block.shift_2)]
    logdet = 0
    for step in (1, 0) if inverse else (0, 1):
        raw_s, t = (each(halves[1 - step]) for each in networks[step])
        halves[step], part = affine_coupling(halves[step], raw_s, t, inverse=inverse)
        logdet = logdet + part
    return torch.cat(halves, -1), logdet


def weights_of(y, logdet):
    """Return fixed gradients for the results."""
    return torch.linspace(-1, 1, y.numel()).reshape(y.shape), torch.linspace(1, 2, len(logdet))


def close(a, b, tolerance=1e-5):
    return bool((a - b).detach().norm() <= tolerance * b.detach().norm() + 1e-30)


@DIRECTIONS
@PRECISIONS
@pytest.mark.parametrize("options", [{}, {"activation": "relu", "activation_scale": "tanh"}])
@pytest.mark.parametrize("n_first", [1, 5, 11])
def test_a_block_is_its_parts_in_value_and_all_gradients(n_first, options, precision, inverse):
    block, value = make(precision, n_first, **options)
    value.requires_grad_()
    inputs = [value, *block.parameters()]
    ours, parts = run(block, value, inverse), in_parts(block, value, inverse)
    assert "Chain" in type(ours[0].grad_fn).__name__
    assert torch.equal(ours[0], parts[0])
    assert close(ours[1], parts[1])
    grads = [torch.autograd.grad(out, inputs, weights_of(*out)) for out in (ours, parts)]
    for a, b in zip(*grads, strict=True):
        assert a.shape == b.shape
        assert close(a, b)
    with torch.no_grad():
        again = run(block, value, inverse)
    assert all(torch.equal(a, b) for a, b in zip(again, ours, strict=True))


@DIRECTIONS
@pytest.mark.parametrize("trained", ["scale_1", "shift_2", "layers.1.bias"])
@pytest.mark.parametrize("with_value", [False, True])
def test_no_gradient_is_computed_that_nobody_needs(with_value, trained, inverse, monkeypatch):
    block, value = make(BEST)
    value.requires_grad_(with_value)
    for name, p in block.named_parameters():
        p.requires_grad_(trained in name)
    wanted = [t for t in (value, *block.parameters()) if t.requires_grad]
    asked, kernels = [], unit()
    backward = kernels.backward
    parts = in_parts(block, value, inverse)
    expected = torch.autograd.grad(parts, wanted, weights_of(*parts))

    def recorded(*args, **options):
        asked.append((args[5] is not None, args[6]))
        return backward(*args, **options)

    monkeypatch.setattr(kernels, "backward", recorded)
    ours = run(block, value, inverse)
    found = torch.autograd.grad(ours, wanted, weights_of(*ours))
    assert all(close(a, b) for a, b in zip(found, expected, strict=True))
    order = (1, 0) if inverse else (0, 1)
    halves = {"scale_1": {0}, "shift_2": {1}}.get(trained, {0, 1})
    passed_on = [with_value or order[0] in halves, with_value]  # last step, first step
    needed = [(passed_on[i], order[1 - i] in halves) for i in range(2)]
    assert asked == [each for each in needed if any(each)]


@DIRECTIONS
@PRECISIONS
def test_values_and_gradients_may_lie_anywhere(precision, inverse):
    block, value = make(precision)
    parameters = list(block.parameters())
    results = []
    for lay in (
        lambda t: t.clone(),
        lambda t: torch.cat((t, t), 1)[:, : t.shape[1]],
        lambda t: t.T.contiguous().T,
        lambda t: torch._neg_view(-t),
    ):
        given = lay(value).requires_grad_()
        y, logdet = run(block, given, inverse)
        by_y, by_logdet = weights_of(y, logdet)
        found = torch.autograd.grad((y, logdet), (given, *parameters), (lay(by_y), by_logdet))
        results.append((y, logdet, *found))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    one = torch.ones(())
    for by_logdet in (one.expand(N), torch._neg_view(-one.expand(N).contiguous())):
        y, logdet = run(block, value, inverse)
        expanded = torch.autograd.grad((y, logdet), parameters, (one.expand(y.shape), by_logdet))
        y, logdet = run(block, value, inverse)
        plain = torch.autograd.grad(y.sum() + logdet.sum(), parameters)
        assert all(torch.equal(a, b) for a, b in zip(expanded, plain, strict=True))


@DIRECTIONS
def test_either_result_may_be_left_out_and_a_graph_used_twice(inverse):
    block, value = make(BEST)
    parameters = list(block.parameters())
    both = run(block, value, inverse)
    for i, out in enumerate(both):
        gradients = [
            torch.autograd.grad(result[i].square().sum(), parameters, retain_graph=True)
            for result in (both, both, in_parts(block, value, inverse))
        ]
        assert all(torch.equal(a, b) for a, b in zip(*gradients[:2], strict=True))
        assert all(close(a, b, 1e-5) for a, b in zip(gradients[0], gradients[2], strict=True))
        assert out.requires_grad


@DIRECTIONS
@PRECISIONS
def test_second_derivatives_are_those_of_the_parts(precision, inverse):
    block, value = make(precision, hidden=(9,))
    value.requires_grad_()
    inputs = [value, *block.parameters()]
    results = []
    for function in (run, in_parts):
        out = function(block, value, inverse)
        first = torch.autograd.grad(out, inputs, weights_of(*out), create_graph=True)
        results.append(
            torch.autograd.grad(
                sum(g.square().sum() for g in first), inputs, materialize_grads=True
            )
        )
    tolerance = 3e-2 if precision == "bfloat16" else 1e-3  # roundings that fall otherwise
    assert all(close(a, b, tolerance) for a, b in zip(*results, strict=True))


@PRECISIONS
@DIRECTIONS
@pytest.mark.parametrize("shared", ["networks", "bias", "block twice", "one half"])
def test_first_gradients_with_a_graph_are_those_without(shared, inverse, precision):
    block, value = make(precision, n_first=6, hidden=(9,))
    if shared == "networks":
        block.shift_1 = block.scale_1
        block.scale_2 = block.scale_1
    elif shared == "bias":
        block.scale_1.layers[0].bias = block.shift_1.layers[0].bias
    elif shared == "one half":  # one of the results needs no gradient then
        block.requires_grad_(False)
        (block.shift_1 if inverse else block.shift_2).requires_grad_()
    parameters = [p for p in block.parameters() if p.requires_grad]
    y, logdet = run(block, value, inverse)
    if shared == "block twice":
        y, more = run(block, y, inverse)
        logdet = logdet + more
    loss = y.square().mean() + logdet.mean()
    plain = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    with_graph = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    tolerance = 0.1 if precision == "bfloat16" else 1e-4
    assert all(close(a, b, tolerance) for a, b in zip(with_graph, plain, strict=True))


@pytest.mark.parametrize("frozen", ["scale_1", ""])
def test_parameters_may_be_frozen_before_the_backward_pass(frozen):
    block, value = make("full")
    y, logdet = run(block, value, inverse=False)
    for name, p in block.named_parameters():
        p.requires_grad_(not name.startswith(frozen))
    (y.sum() + logdet.sum()).backward(create_graph=True)
    assert all((p.grad is None) or p.requires_grad for p in block.parameters())


def test_gradients_that_somebody_keeps_are_not_written_over():
    block, value = make(BEST)
    parameters = list(block.parameters())

    def gradients(scale):
        y, logdet = run(block, scale * value, inverse=False)
        return torch.autograd.grad(y.sum() + logdet.sum(), parameters)

    kept = [gradient[:1] for gradient in gradients(1.0)]
    before = [gradient.clone() for gradient in kept]
    for scale in (2.0, 3.0):
        gradients(scale)
    assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))


def test_a_value_changed_before_the_backward_pass_is_noticed():
    block, value = make(BEST)
    y, _ = run(block, value, inverse=False)
    value.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@PRECISIONS
def test_parts_serve_where_the_unit_does_not(precision):
    block, value = make(precision, activation="silu", hidden=(8,))
    assert "Chain" not in type(run(block, value, inverse=False)[0].grad_fn).__name__
    block, value = make(precision, hidden=())
    assert "Chain" not in type(run(block, value, inverse=False)[0].grad_fn).__name__
    block, value = make(BEST)
    few = run(block, value[:3], inverse=False)
    assert "Chain" not in type(few[0].grad_fn).__name__


@PRECISIONS
@DIRECTIONS
def test_values_of_another_type_are_refused_as_by_the_parts(precision, inverse):
    block, value = make(precision)
    with torch.no_grad(), pytest.raises((RuntimeError, TypeError), match="dtype|float32"):
        run(block, value.double(), inverse)


@DIRECTIONS
def test_networks_that_were_changed_are_called(inverse):
    block, value = make(BEST)
    calls = []
    block.shift_1.register_forward_hook(lambda *_: calls.append(1))
    run(block, value, inverse)
    assert calls == [1]
    hook = register_module_forward_hook(lambda *_: calls.append(2))
    block, value = make(BEST)
    run(block, value, inverse)
    hook.remove()
    assert calls == [1, 2, 2, 2, 2]
    block.scale_2.forward = lambda x: torch.zeros(len(x), 7)
    ours, parts = run(block, value, inverse), in_parts(block, value, inverse)
    assert all(torch.equal(a, b) for a, b in zip(ours, parts, strict=True))
    for change in (
        lambda block: setattr(block, "scale_2", torch.nn.Sequential(block.scale_2)),
        lambda block: setattr(block.shift_2, "activation", "relu"),
        lambda block: setattr(block.shift_1, "precision", "bfloat16"),
    ):
        block, value = make(BEST)
        change(block)
        ours, parts = run(block, value, inverse), in_parts(block, value, inverse)
        assert all(torch.equal(a, b) for a, b in zip(ours, parts, strict=True))


def test_numbers_are_float32_whatever_the_default_is():
    block, value = make(BEST)
    value.requires_grad_()
    results = []
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        try:
            for function in (run, in_parts):
                out = function(block, value, inverse=False)
                results.append((*out, *torch.autograd.grad(out[0].sum(), value)))
        finally:
            torch.set_default_dtype(torch.float32)
    for i in (0, 1):
        assert all(torch.equal(a, b) for a, b in zip(results[i], results[i + 2], strict=True))


def test_drawing_in_bfloat16_asks_for_no_gradient():
    block, value = make("full")
    with bfloat16_conditioners():
        with torch.no_grad():
            y, logdet = run(block, value, inverse=False)
        with pytest.raises(RuntimeError, match="without autograd"):
            run(block, value, inverse=False)
    other, _ = make("bfloat16")
    other.load_state_dict(block.state_dict())
    with torch.no_grad():
        assert torch.equal(y, run(other, value, inverse=False)[0])
    assert torch.isfinite(logdet).all()
