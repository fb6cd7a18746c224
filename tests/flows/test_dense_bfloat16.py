"""Networks with hidden layers in bfloat16: the map and its gradients; densities stay exact."""

import numpy as np
import pytest
import torch
from bgfast_kernels import network as tiles
from bgfast_kernels import vector_network

from bgfast.energies import DoubleWell
from bgfast.experiments.pipeline import flow_digest, load_flow
from bgfast.flows import (
    RealNVP,
    architecture,
    bfloat16_conditioners,
    from_config,
    log_prob,
    log_q,
)
from bgfast.flows import dense as dense_module
from bgfast.flows.dense import dense
from bgfast.flows.dense_bfloat16 import (
    plain_bfloat16_dense,
    rounded_dense,
    warn_of_slow_bfloat16,
)
from bgfast.flows.dense_plain import ACTIVATIONS, plain_dense
from bgfast.flows.execution import bfloat16_is_supported
from bgfast.sampling.generate import generate
from bgfast.training import Trainer
from bgfast.training.checkpoint import CheckpointError
from bgfast.training.schedule import TrainingConfig
from tests.flows.test_dense import close, flow_and_latent, network

needs_bfloat16 = pytest.mark.skipif(
    not bfloat16_is_supported(), reason="this processor has no bfloat16 products in oneDNN"
)
pytestmark = pytest.mark.filterwarnings("ignore:this processor")


def distance(a, b):
    """Return |a - b| / |b| of two lists of tensors."""
    a, b = (torch.cat([t.detach().flatten() for t in tensors]) for tensors in (a, b))
    return float((a - b).norm() / b.norm())


def value_and_gradients(function, x, weights, biases):
    out = function(x, weights, biases)
    weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
    return out, torch.autograd.grad((weight * out).sum(), (x, *weights, *biases))


@pytest.fixture(params=["_Dense", "TiledDense"])
def unit(request, monkeypatch):
    """Run by oneDNN, or as one kernel."""
    if request.param == "_Dense":
        if not bfloat16_is_supported():
            pytest.skip("this processor has no bfloat16 products in oneDNN")
        monkeypatch.setattr(dense_module, "tiles_pay", lambda *_: False)
    elif not (tiles.is_supported() or vector_network.is_supported(vector_network.ROUNDED)):
        pytest.skip("this processor has no bfloat16 products for a kernel")
    return request.param


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(16,), (33, 40, 17)], ids=str)
def test_fused_layers_give_the_map_of_rounded_numbers_and_its_gradients(
    activation, hidden, unit, monkeypatch
):
    monkeypatch.setattr(dense_module, "_ROWS_PER_THREAD", 16)
    inputs = network(50, hidden, torch.float32)
    fused = value_and_gradients(lambda *i: dense(*i, activation, "bfloat16"), *inputs)
    assert unit in type(fused[0].grad_fn).__name__
    with torch.no_grad():
        assert distance([dense(*inputs, activation, "bfloat16")], [fused[0]]) < 1e-3
    rounded = value_and_gradients(lambda *i: rounded_dense(*i, ACTIVATIONS[activation]), *inputs)
    # Sums in another order may be rounded to the neighbour: few, by a 256th each.
    off = (fused[0] - rounded[0]).abs()
    assert off.median() < 1e-6
    assert off.max() < 0.03
    exact = value_and_gradients(lambda *i: plain_dense(*i, activation), *inputs)
    for ours, expected in zip(fused[1], rounded[1], strict=True):
        assert ours.dtype == torch.float32
        assert distance([ours], [expected]) < 0.03
    assert distance(fused[1], exact[1]) < 0.2


@pytest.mark.parametrize("frozen", [(0,), (1, 2, 3, 4, 5, 6), (0, 2, 3, 5, 6)], ids=str)
def test_gradients_of_some_inputs_alone(frozen, unit):
    x, weights, biases = network(40, (7, 8), torch.float32)
    for i in frozen:
        (x, *weights, *biases)[i].requires_grad_(False)
    wanted = [t for t in (x, *weights, *biases) if t.requires_grad]
    results = [
        torch.autograd.grad(out.square().sum(), wanted)
        for out in (
            dense(x, weights, biases, "tanh", "bfloat16"),
            rounded_dense(x, weights, biases, torch.tanh),
        )
    ]
    assert distance(*results) < 0.02


def test_second_derivatives_are_those_of_rounded_numbers():
    x, weights, biases = network(20, (7, 8), torch.float32)
    tensors, results = (x, *weights, *biases), []
    for function in (
        lambda *i: dense(*i, "tanh", "bfloat16"),
        lambda *i: rounded_dense(*i, torch.tanh),
    ):
        value = function(x, weights, biases).square().sum()
        first = torch.autograd.grad(value, tensors, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), tensors))
    assert distance(*results) < 0.03


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_every_batch_and_activation_is_served(n, activation):
    x, weights, biases = network(n, (8, 8), torch.float32)
    out = dense(x, weights, biases, activation, "bfloat16")
    close([out], [plain_dense(x, weights, biases, activation)], torch.float32, 0.03)
    torch.autograd.grad(out.sum(), (x, *weights, *biases))


def test_without_hidden_layers_nothing_is_rounded():
    inputs = network(5, (), torch.float32)
    assert torch.equal(dense(*inputs, "tanh", "bfloat16"), dense(*inputs, "tanh"))


def test_a_processor_without_bfloat16_computes_the_same_map_and_says_so_once(monkeypatch):
    inputs = network(50, (33, 17), torch.float32)
    usual = dense(*inputs, "tanh", "bfloat16")
    monkeypatch.setattr(dense_module, "bfloat16_is_supported", lambda: False)
    monkeypatch.setattr(dense_module, "tiles_pay", lambda *_: False)
    warn_of_slow_bfloat16.cache_clear()
    with pytest.warns(UserWarning, match="no bfloat16 matrix products") as record:
        slow = [dense(*inputs, "tanh", "bfloat16") for _ in range(2)]
    assert len(record) == 1
    assert (slow[0] - usual).abs().median() < 1e-6
    assert torch.equal(*slow)


def test_wrong_precisions_are_refused():
    with pytest.raises(ValueError, match="precision must be one of"):
        architecture("R1", 2, (4,), precision="half")
    with pytest.raises(ValueError, match="needs a float32 flow"):
        architecture("R1", 2, (4,), precision="bfloat16", dtype=torch.float64)
    with pytest.raises(TypeError, match="for float32 flows"):
        architecture("R1", 2, (4,), precision="bfloat16").double()(torch.zeros(1, 2).double())


@pytest.mark.parametrize("letters", ["R4", "N4", "Q2"])
def test_a_flow_in_bfloat16_is_inverted_by_its_inverse(letters, unit):
    flow, z = flow_and_latent(500, letters, precision="bfloat16", hidden=(64, 64))
    with torch.no_grad():
        x, logdet = flow(z)
        back, _ = flow.inverse(x)
        off = (back - z).abs().amax(-1)
        log_q_off = (log_prob(flow, x) - log_q(z, logdet)).abs()
        full, z = flow_and_latent(500, letters, hidden=(64, 64))
        assert (full(z)[0] - x).abs().max() > 1e-3  # another map
    # Rounding may put a number on the neighbouring step on the way back: in few rows, by little.
    assert off.quantile(0.8) < 1e-5
    assert log_q_off.quantile(0.8) < 1e-4
    assert off.max() < 0.1
    assert log_q_off.max() < 0.5


def test_a_training_step_compiles_without_graph_breaks():
    flow, z = flow_and_latent(8, precision="bfloat16")

    def loss(z):
        x, logdet = flow(z)
        return x.square().sum() - logdet.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(z)
    torch.testing.assert_close(compiled, loss(z), rtol=1e-3, atol=0)


def trained_in_bfloat16(folder, precision="bfloat16", resume=False):
    """Return a flow for the double well, trained by example and by energy."""
    stage = {"steps": 120, "w_ml": 1.0, "w_kl": 0.2, "batch_kl": 256, "lr": 3e-3}
    config = TrainingConfig(stages=(stage,), checkpoint_every=120)
    flow = architecture("R4", 2, (32, 32), precision=precision)
    points, boltzmann = quadrature()
    rows = torch.multinomial(boltzmann, 5000, True, generator=torch.Generator().manual_seed(1))
    Trainer(flow, DoubleWell(2), config, data=points[rows].float(), out=folder).run(resume=resume)
    return flow


def quadrature():
    """Return points of a fine grid and the double well's exp(-u) times their share of the plane."""
    one, two = torch.linspace(-4, 4, 401).double(), torch.linspace(-6, 6, 401).double()
    points = torch.cartesian_prod(one, two)
    return points, torch.exp(-DoubleWell(2).energy(points)) * 0.02 * 0.03


def test_weights_of_a_flow_trained_in_bfloat16_are_exact(tmp_path):
    flow = trained_in_bfloat16(tmp_path)
    points, boltzmann = quadrature()
    expected = float(boltzmann.sum())

    loaded = load_flow(tmp_path, 120)
    assert loaded.config["precision"] == "bfloat16"
    batches = list(generate(loaded, DoubleWell(2), 100_000, seed=5))
    assert torch.equal(batches[0].x, next(generate(flow, DoubleWell(2), 8192, seed=5)).x)
    w = torch.cat([b.log_w for b in batches]).exp().numpy()
    error = w.std() / np.sqrt(len(w))
    assert error < 0.02 * expected
    assert abs(w.mean() - expected) < 3 * error

    # The same weights in float32 are another flow, as exact.
    other = from_config({**flow.config, "precision": "full"})
    other.load_state_dict(flow.state_dict())
    assert flow_digest(other) != flow_digest(flow)
    w = torch.cat([b.log_w for b in generate(other, DoubleWell(2), 100_000, seed=6)]).exp().numpy()
    assert abs(w.mean() - expected) < 3 * w.std() / np.sqrt(len(w))

    # The flow's density, by the way back, is normalised.
    with torch.no_grad():
        q = log_prob(loaded, points.float()).double().exp()
    assert abs(float(q.sum()) * 0.02 * 0.03 - 1) < 2e-3

    with pytest.raises(CheckpointError, match="precision was 'bfloat16', now 'full'"):
        trained_in_bfloat16(tmp_path, "full", resume=True)


@needs_bfloat16
def test_bfloat16_value_and_logdet_belong_together():
    flow, z = flow_and_latent(64)
    block = next(layer for layer in flow.flows if type(layer) is RealNVP)
    with torch.no_grad(), bfloat16_conditioners():
        x, logdet = block(z)
        halves = (z[:, :38], z[:, 38:]), (x[:, :38], x[:, 38:])
        (z1, z2), (x1, x2) = halves
        s1, s2 = (4 * torch.tanh(net / 4) for net in (block.scale_1(z2), block.scale_2(x1)))
        t1, t2 = block.shift_1(z2), block.shift_2(x1)
    with torch.no_grad():
        plain, _ = block(z)
    close([x1, x2], [(z1 - t1) * torch.exp(-s1), (z2 - t2) * torch.exp(-s2)], torch.float32)
    close([logdet], [-s1.sum(-1) - s2.sum(-1)], torch.float32)
    assert 1e-4 < (x - plain).abs().max() < 0.1


@needs_bfloat16
@pytest.mark.parametrize(
    "options", [{"activation": "silu"}, {"dtype": torch.float64}], ids=["silu", "float64"]
)
def test_bfloat16_is_refused_where_it_does_not_serve(options):
    flow, z = flow_and_latent(4, **options)
    with torch.no_grad(), bfloat16_conditioners(), pytest.raises(RuntimeError, match="serve"):
        flow(z)


@needs_bfloat16
def test_bfloat16_is_refused_under_autograd():
    flow, z = flow_and_latent(4)
    with bfloat16_conditioners(), pytest.raises(RuntimeError, match="with autograd"):
        flow(z)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_bfloat16_of_plain_torch_is_the_network_but_for_rounding(activation):
    generator = torch.Generator().manual_seed(0)
    sizes = [(16, 5), (16, 16), (3, 16)]
    weights = [torch.randn(n, m, generator=generator) / m**0.5 for n, m in sizes]
    biases = [0.1 * torch.randn(n, generator=generator) for n, _ in sizes]
    x, store = torch.randn(50, 5, generator=generator), {}
    first, again = (
        plain_bfloat16_dense(x, weights, biases, ACTIVATIONS[activation], store) for _ in range(2)
    )
    assert first.dtype == torch.float32
    assert len(store) == 4  # of the hidden layers, converted once
    assert torch.equal(first, again)
    off = (first - plain_dense(x, weights, biases, activation)).abs().max()
    assert 0 < off < 0.05
