"""The fast conditioner gives what plain torch gives, in value and every derivative."""

from itertools import pairwise

import pytest
import torch

from bgfast.energies import ParticleDimer
from bgfast.flows import architecture, recompute_activations
from bgfast.flows import dense as dense_module
from bgfast.flows.dense import dense
from bgfast.flows.dense_plain import plain_dense

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


@pytest.fixture
def small_pieces(monkeypatch):
    """The products of torch serve any batch, some rows at a time."""
    monkeypatch.setattr(dense_module, "tiles_pay", lambda *_: False)
    monkeypatch.setattr(dense_module, "_ROWS_PER_THREAD", 16)
    monkeypatch.setattr(dense_module, "_LEAST_NUMBERS", 0)


def network(n, hidden, dtype, n_in=6, n_out=5, seed=2):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    sizes = [n_in, *hidden, n_out]
    pairs = list(pairwise(sizes))
    weights = [normal(b, a).div_(a**0.5).requires_grad_() for a, b in pairs]
    biases = [normal(b).mul_(0.3).requires_grad_() for _, b in pairs]
    return normal(n, n_in).requires_grad_(), weights, biases


def close(ours, expected, dtype, tolerance=None):
    for a, b in zip(ours, expected, strict=True):
        size = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        atol = (tolerance or TOLERANCE[dtype]) * size
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=atol)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
@pytest.mark.parametrize("hidden", [(), (9,), (33, 40, 17)], ids=str)
@pytest.mark.parametrize("n", [0, 1, 50])
def test_value_and_gradients_are_those_of_plain_torch(n, hidden, activation, dtype):
    x, weights, biases = network(n, hidden, dtype)
    out = dense(x, weights, biases, activation)
    assert ("_Dense" in type(out.grad_fn).__name__) == (activation != "silu")
    with torch.no_grad():
        close([dense(x, weights, biases, activation)], [out], dtype)

    double = [t.detach().double().requires_grad_() for t in (x, *weights, *biases)]
    layers = len(weights)
    expected = plain_dense(double[0], double[1 : 1 + layers], double[1 + layers :], activation)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
    ours = torch.autograd.grad((weight.to(dtype) * out).sum(), (x, *weights, *biases))
    close([out, *ours], [expected, *torch.autograd.grad((weight * expected).sum(), double)], dtype)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("frozen", [(0,), (1,), (0, 1, 4), (1, 2, 3, 4, 5, 6), (0, 2, 3, 5, 6)])
def test_gradients_of_some_inputs_alone(frozen):
    x, weights, biases = network(40, (7, 8), torch.float64)
    tensors = [x, *weights, *biases]
    for i in frozen:
        tensors[i].requires_grad_(False)
    wanted = [t for t in tensors if t.requires_grad]
    results = [
        torch.autograd.grad(function(x, weights, biases, "tanh").square().sum(), wanted)
        for function in (dense, plain_dense)
    ]
    close(*results, torch.float64)


@pytest.mark.usefixtures("small_pieces")
def test_second_derivatives_are_those_of_plain_torch():
    x, weights, biases = network(20, (7, 8), torch.float64)
    tensors = (x, *weights, *biases)
    results = []
    for function in (dense, plain_dense):
        value = function(x, weights, biases, "tanh").square().sum()
        first = torch.autograd.grad(value, tensors, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), tensors))
    close(*results, torch.float64)


def flow_and_latent(n, spec="R2", dtype=torch.float32, **options):
    generator = torch.Generator().manual_seed(4)
    flow = architecture(spec, 76, **{"hidden": (24, 24), "dtype": dtype} | options)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    z = torch.randn(n, 76, generator=generator, dtype=torch.float64)
    return flow, z.to(dtype)


def kl(flow, z, energy):
    x, logdet = flow(z)
    return (energy.energy(x).clamp(max=1e6) - logdet).mean()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_without_autograd_a_flow_gives_the_same(dtype):
    flow, z = flow_and_latent(30, dtype=dtype)
    for direction in (flow.forward, flow.inverse):
        with torch.no_grad():
            ours = direction(z)
        close(ours, [v.detach() for v in direction(z)], dtype)


def test_forward_mode_of_a_flow_agrees_with_reverse_mode():
    flow, z = flow_and_latent(3, dtype=torch.float64)
    tangent = z.roll(1, 0)
    _, (along, along_logdet) = torch.func.jvp(flow, (z,), (tangent,))
    (x, logdet), pullback = torch.func.vjp(flow, z)
    (gradient,) = pullback((x, logdet))
    found = (x * along).sum() + (logdet * along_logdet).sum()
    torch.testing.assert_close(found, (gradient * tangent).sum())


def test_a_training_step_compiles_without_graph_breaks():
    flow, z = flow_and_latent(8)
    energy = ParticleDimer()
    compiled = torch.compile(lambda z: kl(flow, z, energy), fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, lambda z: kl(flow, z, energy)):
        loss = function(z)
        results.append((loss, *torch.autograd.grad(loss, list(flow.parameters()))))
    close(*results, torch.float32)


def test_a_draw_compiles_without_graph_breaks():
    flow, z = flow_and_latent(8)
    with torch.no_grad():
        compiled = torch.compile(flow, fullgraph=True, backend="aot_eager")(z)
        close(compiled, flow(z), torch.float32)


def saved_bytes(flow, z):
    """Return the bytes that autograd keeps, apart from parameters, and the gradients."""
    own = {p.data_ptr() for p in flow.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        x, logdet = flow(z)
    loss = x.square().sum() - logdet.sum()
    return sum(kept.values()), torch.autograd.grad(loss, list(flow.parameters()))


def test_recomputed_activations_are_not_kept_and_change_no_gradient():
    flow, z = flow_and_latent(200, dtype=torch.float64)
    usual_bytes, expected = saved_bytes(flow, z)
    with recompute_activations(rows=64):
        few_bytes, ours = saved_bytes(flow, z)
    assert few_bytes < 0.2 * usual_bytes
    close(ours, expected, torch.float64)


@pytest.mark.parametrize("rows", [0, True, 2.5])
def test_wrong_piece_sizes_are_refused(rows):
    with (
        pytest.raises(ValueError, match="rows must be a positive integer"),
        recompute_activations(rows),
    ):
        pass
