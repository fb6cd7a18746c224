"""Blocks and permutations that kernels run together: what they give one by one."""

from contextlib import nullcontext

import pytest
import torch
from bgfast_kernels import vector_network

from bgfast.flows import (
    Inverse,
    Permutation,
    RealNVP,
    Scaling,
    Sequential,
    architecture,
    coupling_chain,
)
from bgfast.flows.dense_tiles import _LEAST_ROWS as LEAST
from bgfast.flows.dense_tiles import tiles_pay
from bgfast.flows.execution import packed_networks, recompute_activations
from bgfast.ops.backend import use_backend

N, DIM = 130, 12
DIRECTIONS = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
FLOWS = {
    "even-odd": lambda: architecture("R3", DIM, (40, 33)),
    "particle": lambda: architecture("R3", DIM, (40, 33), split="particle", n_dim=2),
    "scaled between": lambda: architecture("R2SR2", DIM, (40, 33), split="particle", n_dim=2),
    "one too small": lambda: Sequential(RealNVP(DIM, (40,)), RealNVP(DIM, ()), RealNVP(DIM, (40,))),
    "permutations alone": lambda: Sequential(*(Permutation(torch.randperm(DIM)) for _ in range(2))),
}


@pytest.fixture(autouse=True)
def no_block_is_too_small(monkeypatch):
    monkeypatch.setattr("bgfast.flows.dense_tiles._LEAST_ROWS", dict.fromkeys(LEAST, 30))
    monkeypatch.setattr("bgfast.flows.dense_tiles._LEAST_WIDTH", 1)


@pytest.fixture(params=FLOWS)
def flow(request):
    generator = torch.Generator().manual_seed(2)
    made = FLOWS[request.param]()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return made


@pytest.fixture
def value():
    return torch.randn(N, DIM, generator=torch.Generator().manual_seed(3))


def run(flow, value, inverse):
    return flow.inverse(value) if inverse else flow.forward(value)


def one_by_one(flow, value, inverse):
    logdet = 0
    for layer in reversed(flow.flows) if inverse else flow.flows:
        value, step = run(layer, value, inverse)
        logdet = logdet + step
    return value, logdet


def gradients(flow, value, inverse, function, wanted):
    y, logdet = function(flow, value, inverse)
    loss = (y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum() + (logdet**2).sum()
    return torch.autograd.grad(loss, wanted)


def close(a, b, tolerance=1e-5):
    return bool((a - b).norm() <= tolerance * b.norm() + 1e-30)


@DIRECTIONS
def test_values_are_those_of_the_layers_one_by_one(flow, value, inverse):
    for given in (value, value.T.contiguous().T, torch._neg_view(-value)):
        before = given.clone()
        for has_gradients in (False, True):
            with torch.set_grad_enabled(has_gradients):
                together, apart = (f(flow, given, inverse) for f in (run, one_by_one))
            assert torch.equal(together[0], apart[0])
            assert close(together[1].detach(), apart[1].detach())
        assert torch.equal(given, before)


@DIRECTIONS
@pytest.mark.parametrize("recomputed", [False, True])
def test_gradients_are_those_of_the_layers_one_by_one(flow, value, inverse, recomputed):
    wanted = [value.requires_grad_(), *flow.parameters()]
    apart = gradients(flow, value, inverse, one_by_one, wanted)
    with recompute_activations(50) if recomputed else nullcontext():
        together = gradients(flow, value, inverse, run, wanted)
    tolerance = 1e-4 if recomputed else 1e-5  # sums over rows in another order
    assert all(close(a, b, tolerance) for a, b in zip(together, apart, strict=True))


@DIRECTIONS
@pytest.mark.parametrize("name", ["even-odd", "particle"])
@pytest.mark.parametrize("first_trained", [1, 7, 12])
def test_gradients_of_some_parameters_are_those_of_all(name, inverse, first_trained, value):
    flow = FLOWS[name]()
    parameters = list(flow.parameters())
    complete = gradients(flow, value, inverse, run, parameters)
    for trained in (slice(first_trained, None), slice(None, first_trained)):
        flow.requires_grad_(False)
        for p in parameters[trained]:
            p.requires_grad_()
        some = gradients(flow, value, inverse, run, parameters[trained])
        assert all(torch.equal(a, b) for a, b in zip(some, complete[trained], strict=True))


def test_second_derivatives_are_those_of_the_layers(value):
    flow = FLOWS["particle"]()
    wanted = list(flow.parameters())
    found = []
    for function in (run, one_by_one):
        y, logdet = function(flow, value, False)
        first = torch.autograd.grad(y.square().sum() + logdet.sum(), wanted, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), wanted))
    assert all(close(a, b, 1e-4) for a, b in zip(*found, strict=True))


@pytest.mark.skipif(not vector_network.is_supported(), reason="no AVX-512 here")
def test_as_many_as_kernels_serve_are_one_node(value):
    def nodes(flow):
        y, _ = flow.forward(value.requires_grad_())
        names, node = [], y.grad_fn
        while node is not None:
            names.append(type(node).__name__)
            node = node.next_functions[0][0] if node.next_functions else None
        return names

    assert tiles_pay("full", N, [torch.ones(40, 6), torch.ones(6, 40)])
    assert [name for name in nodes(FLOWS["particle"]()) if "Chain" in name] == ["_ChainBackward"]
    assert sum("Chain" in name for name in nodes(FLOWS["scaled between"]())) == 2
    assert not any("Chain" in name for name in nodes(FLOWS["permutations alone"]()))
    with use_backend("torch"):
        assert not any("Chain" in name for name in nodes(FLOWS["particle"]()))


def test_a_subclass_does_what_it_does(value):
    class Doubling(RealNVP):
        def _forward(self, z):
            x, logdet = super()._forward(z)
            return 2 * x, logdet

    class Nothing(Permutation):
        def _forward(self, z):
            return z, z.new_zeros(len(z))

    generator = torch.Generator().manual_seed(4)
    layers = (Doubling(DIM, (40,)), RealNVP(DIM, (40,)), Nothing(torch.arange(DIM).flip(0)))
    flow = Sequential(*layers)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
        together, apart = (f(flow, value, False) for f in (run, one_by_one))
    assert torch.equal(together[0], apart[0])


def test_a_map_replaced_on_an_instance_is_called(value):
    flow = FLOWS["particle"]()
    replaced = [m for m in flow.modules() if isinstance(m, (RealNVP, Permutation))][2:4]
    for layer in replaced:
        layer._forward = lambda z: (z, z.new_zeros(len(z)))
    together, apart = (f(flow, value, False) for f in (run, one_by_one))
    assert torch.equal(together[0], apart[0])


def test_a_layer_of_another_dtype_in_between_is_refused_as_by_the_layers(value):
    flow = Sequential(RealNVP(DIM, (40,)), Scaling(DIM, dtype=torch.float64), RealNVP(DIM, (40,)))
    with pytest.raises(RuntimeError, match="dtype"):
        flow.forward(value)


def test_networks_of_a_call_that_was_cut_short_are_packed_again(value, monkeypatch):
    flow = FLOWS["particle"]()
    last = max(i for i, layer in enumerate(flow.flows) if isinstance(layer, RealNVP))
    step = coupling_chain.coupling_step.forward

    def until_the_last_block(of_step, *arguments, **options):
        if of_step.block.parameters[0] is next(flow.flows[last].parameters()):
            raise KeyboardInterrupt
        return step(of_step, *arguments, **options)

    with torch.no_grad():
        expected, _ = one_by_one(flow, value, False)
        with packed_networks():
            with monkeypatch.context() as cut_short:
                cut_short.setattr(coupling_chain.coupling_step, "forward", until_the_last_block)
                with pytest.raises(KeyboardInterrupt):
                    flow.forward(value)
            found, _ = flow.forward(value)
    assert torch.equal(found, expected)


@DIRECTIONS
def test_parameters_may_lie_anywhere(value, inverse):
    flow = FLOWS["even-odd"]()
    wanted = list(flow.parameters())
    before = gradients(flow, value, inverse, run, wanted)
    for p in wanted:
        p.data = torch.stack((p.data, torch.full_like(p.data, torch.nan)), -1)[..., 0]
    assert not any(p.is_contiguous() for p in wanted)
    after = gradients(flow, value, inverse, run, wanted)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@DIRECTIONS
def test_one_block_may_serve_twice(value, inverse):
    block, turn = RealNVP(DIM, (40,)), Permutation(torch.arange(DIM).roll(5))
    flow = Sequential(block, turn, block, Inverse(block), Sequential(turn, block))
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5)))
    wanted = [value.requires_grad_(), *flow.parameters()]
    found = [gradients(flow, value, inverse, f, wanted) for f in (run, one_by_one)]
    assert all(close(a, b) for a, b in zip(*found, strict=True))


def test_gradients_are_those_of_the_order_that_was_used(value):
    flow = FLOWS["particle"]()
    for m in flow.modules():
        if isinstance(m, Permutation):
            m.inverse_index.copy_(torch.arange(DIM))  # as from a damaged file
    wanted = [value.requires_grad_(), *flow.parameters()]
    found = [gradients(flow, value, False, f, wanted) for f in (run, one_by_one)]
    assert all(close(a, b) for a, b in zip(*found, strict=True))


def test_an_order_changed_before_the_backward_pass_is_noticed(value):
    flow = FLOWS["particle"]()
    y, _ = flow.forward(value)
    next(m for m in flow.modules() if isinstance(m, Permutation)).index.copy_(torch.arange(DIM))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_an_order_from_a_damaged_file_is_refused(value):
    flow = FLOWS["particle"]()
    next(m for m in flow.modules() if isinstance(m, Permutation)).index[0] = DIM
    with pytest.raises((IndexError, RuntimeError), match="out of"):
        flow.forward(value)


def test_an_order_that_is_no_integers_is_refused(value):
    flow = FLOWS["particle"]()
    layer = next(m for m in flow.modules() if isinstance(m, Permutation))
    layer.index = layer.index + 0.5
    with pytest.raises(RuntimeError, match="int32 or int64"):
        flow.forward(value)
