"""Networks as one kernel: "full" is float32, "high" to about 1e-5, densities are exact."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding
import pytest
import torch
from bgfast_kernels import network as tiles
from bgfast_kernels import vector_network

from bgfast.flows import RealNVP, architecture, from_config, log_prob, log_q
from bgfast.flows.dense import dense
from bgfast.flows.dense_plain import plain_dense
from bgfast.flows.dense_tiles import tiles_pay, unit
from bgfast.flows.execution import packed_networks
from bgfast.ops import use_backend
from tests.flows.test_dense import flow_and_latent, network

needs_unit = pytest.mark.skipif(not tiles.is_supported(), reason="no matrix unit here")
needs_bfloat16 = pytest.mark.skipif(
    not (tiles.is_supported() or vector_network.is_supported(vector_network.ROUNDED)),
    reason="no bfloat16 products here",
)
needs_kernels = pytest.mark.skipif(
    not (tiles.is_supported() or vector_network.is_supported()), reason="no AVX-512 here"
)
# On a matrix unit small networks are torch's in full.
small_in_full = pytest.mark.skipif(
    tiles.is_supported() or not vector_network.is_supported(), reason="no vector units, or better"
)
SERVED = [
    pytest.param("full", marks=small_in_full),
    pytest.param("high", marks=needs_unit),
    pytest.param("bfloat16", marks=needs_bfloat16),
]


def distance(a, b):
    """Return |a - b| / |b| of two lists of tensors."""
    a, b = (torch.cat([t.detach().flatten() for t in tensors]) for tensors in (a, b))
    return float((a - b).norm() / b.norm())


@needs_unit
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("frozen", [(), (0,), (1, 2, 3, 4, 5, 6), (0, 2, 3, 5, 6)], ids=str)
def test_value_and_gradients_are_those_of_float32_to_1e_4(frozen, activation):
    inputs = network(140, (33, 40), torch.float32)
    x, weights, biases = inputs
    for i in frozen:
        (x, *weights, *biases)[i].requires_grad_(False)
    wanted = [t for t in (x, *weights, *biases) if t.requires_grad]
    ours, plain = dense(*inputs, activation, "high"), plain_dense(*inputs, activation)
    assert "TiledDense" in type(ours.grad_fn).__name__
    assert 0 < distance([ours], [plain]) < 3e-5
    weight = torch.linspace(-1, 1, ours.numel()).reshape(ours.shape)
    results = [torch.autograd.grad((weight * out).sum(), wanted) for out in (ours, plain)]
    for a, b in zip(*results, strict=True):
        assert distance([a], [b]) < (1e-4 if activation == "tanh" else 1e-3)
    with torch.no_grad():
        assert torch.equal(dense(*inputs, activation, "high"), ours)


@needs_kernels
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_full_precision_is_as_close_to_float64_as_plain_float32(activation):
    x, weights, biases = inputs = network(600, (150, 130), torch.float32)
    wanted = [x, *weights, *biases]
    exact = [t.detach().double().requires_grad_() for t in wanted]
    outs = [
        dense(*inputs, activation, "full"),
        plain_dense(*inputs, activation),
        plain_dense(exact[0], exact[1:4], exact[4:], activation),
    ]
    assert "TiledDense" in type(outs[0].grad_fn).__name__
    weight = torch.linspace(-1, 1, outs[0].numel()).reshape(outs[0].shape)
    ours, plain, true = (
        [out, *torch.autograd.grad((weight * out).sum(), tensors)]
        for out, tensors in zip(outs, (wanted, wanted, exact), strict=True)
    )
    for a, b, c in zip(ours, plain, true, strict=True):
        assert distance([a], [c]) < 1.2 * distance([b], [c]) + 1e-7


@needs_kernels
def test_in_full_precision_another_backend_is_respected():
    inputs = network(600, (150, 130), torch.float32)
    with use_backend("torch"):
        assert "TiledDense" not in type(dense(*inputs, "tanh", "full").grad_fn).__name__


def test_inputs_of_another_type_are_refused_as_torch_does():
    x, weights, biases = network(600, (150, 130), torch.float32)
    with torch.no_grad(), pytest.raises(RuntimeError, match="dtype"):
        dense(x.double(), weights, biases, "tanh", "full")


@pytest.mark.parametrize(
    ("precision", "n", "widths", "pays"),
    [
        ("bfloat16", 1, (8,), True),
        ("high", 127, (8,), False),
        ("high", 128, (8,), True),
        ("full", 511, (128, 200), False),
        ("full", 512, (128, 200), True),
        ("full", 512, (127, 200), False),
        ("full", 512, (128, 600), False),
        ("full", 600, (600, 128), True),
    ],
)
def test_the_matrix_unit_serves_where_it_is_faster(precision, n, widths, pays, monkeypatch):
    monkeypatch.setattr(tiles, "is_supported", lambda: True)
    weights = [torch.empty(width, 3) for width in (*widths, 5)]
    assert tiles_pay(precision, n, weights) == pays


@pytest.mark.parametrize(
    ("precision", "n", "widths", "pays"),
    [
        ("full", 7, (8,), False),
        ("full", 8, (8, 32), True),
        ("full", 49, (100, 200), False),
        ("full", 50, (200, 100), True),
        ("bfloat16", 1, (200,), True),
        ("bfloat16", 0, (200,), False),
    ],
)
def test_vector_units_serve_float32_from_a_few_rows_on(precision, n, widths, pays, monkeypatch):
    monkeypatch.setattr(tiles, "is_supported", lambda: False)
    monkeypatch.setattr(vector_network, "is_supported", lambda parts: True)
    weights = [torch.empty(width, 3) for width in (*widths, 5)]
    assert tiles_pay(precision, n, weights) == pays
    without = vector_network.ROUNDED if precision == "bfloat16" else vector_network.WHOLE
    monkeypatch.setattr(vector_network, "is_supported", lambda parts: parts != without)
    assert not tiles_pay(precision, n, weights)


@pytest.mark.parametrize("precision", SERVED)
def test_inputs_weights_and_gradients_may_lie_anywhere(precision):
    x, weights, biases = network(140, (7, 8), torch.float32)
    results = []
    for lay in (
        lambda t: t,
        lambda t: torch.cat((t, t), 1)[:, : t.shape[1]],
        lambda t: t.T.contiguous().T,
    ):
        given = lay(x.detach()).requires_grad_()
        out = dense(given, weights, biases, "tanh", precision)
        grad = lay(torch.linspace(-1, 1, out.numel()).reshape(out.shape))
        results.append((out, *torch.autograd.grad(out, (given, *weights, *biases), grad)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    out = dense(x, weights, biases, "tanh", precision)
    everywhere = torch.ones(()).expand(out.shape)
    for grad in (everywhere, torch._neg_view(-everywhere.contiguous())):
        found = torch.autograd.grad(out, (x, *weights), grad, retain_graph=True)
        one = torch.autograd.grad(out, (x, *weights), everywhere.clone(), retain_graph=True)
        assert all(torch.equal(a, b) for a, b in zip(found, one, strict=True))
    turned = [w.detach().T.contiguous().T for w in weights]
    assert torch.equal(dense(x, turned, biases, "tanh", precision), out)
    again = dense(x, [w.requires_grad_() for w in turned], biases, "tanh", precision)
    for a, b in zip(torch.autograd.grad(again, turned, everywhere), one[1:], strict=True):
        assert torch.equal(a, b)
    negative = torch._neg_view(-weights[0].detach())
    assert distance([dense(x, [negative, *weights[1:]], biases, "tanh", precision)], [out]) < 0.02


@pytest.mark.parametrize("precision", SERVED[:2])
def test_second_derivatives_are_those_of_float32(precision):
    x, weights, biases = network(140, (7, 8), torch.float32)
    tensors, results = (x, *weights, *biases), []
    for function in (lambda *i: dense(*i, "tanh", precision), lambda *i: plain_dense(*i, "tanh")):
        value = function(x, weights, biases).square().sum()
        first = torch.autograd.grad(value, tensors, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), tensors))
    assert distance(*results) < 1e-4


@pytest.mark.parametrize("tracked", [False, True])
def test_without_the_unit_high_is_full(tracked, monkeypatch):
    monkeypatch.setattr(tiles, "is_supported", lambda: False)
    inputs = network(140, (33, 17), torch.float32)
    with torch.set_grad_enabled(tracked):
        assert torch.equal(dense(*inputs, "tanh", "high"), dense(*inputs, "tanh"))


@pytest.mark.parametrize(("n", "activation"), [(0, "tanh"), (100, "tanh"), (140, "silu")])
def test_what_the_unit_does_not_serve_is_float32(n, activation):
    inputs = network(n, (8, 8), torch.float32)
    assert torch.equal(dense(*inputs, activation, "high"), dense(*inputs, activation))


@pytest.mark.parametrize("letters", ["R4", "N4", "Q2"])
def test_a_flow_in_high_precision_is_inverted_by_its_inverse(letters):
    flow, z = flow_and_latent(500, letters, precision="high", hidden=(64, 64))
    with torch.no_grad():
        x, logdet = flow(z)
        back, _ = flow.inverse(x)
        full = from_config({**flow.config, "precision": "full"})
        full.load_state_dict(flow.state_dict())
        off = (full(z)[0] - x).abs().max()
        assert off < 1e-3
        assert not tiles.is_supported() or off > 0
    assert (back - z).abs().max() < 1e-3
    assert (log_prob(flow, x) - log_q(z, logdet)).abs().max() < 2e-3


def test_high_precision_is_kept_with_the_flow_and_needs_float32():
    flow = architecture("R1", 2, (4,), precision="high")
    assert from_config(flow.config).config["precision"] == "high"
    with pytest.raises(ValueError, match="'high' needs a float32 flow"):
        architecture("R1", 2, (4,), precision="high", dtype=torch.float64)
    with pytest.raises(TypeError, match="in 'high' are for float32 flows"):
        flow.double()(torch.zeros(1, 2).double())


@needs_unit
def test_the_kernel_and_onednn_leave_each_others_unit_alone():
    x, weights, biases = network(600, (64, 64), torch.float32, 64, 64)
    a, b = torch.randn(600, 300).bfloat16(), torch.randn(300, 200).bfloat16()
    with torch.no_grad():
        kernel, product = dense(x, weights, biases, "tanh", "bfloat16"), a @ b
        for _ in range(20):
            assert torch.equal(a @ b, product)
            assert torch.equal(dense(x, weights, biases, "tanh", "bfloat16"), kernel)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("precision", [SERVED[0], SERVED[2]])
def test_a_batch_in_pieces_packs_each_network_once(precision, tied, monkeypatch):
    flow, z = flow_and_latent(64, "R1", precision=precision)
    if tied:
        block = next(layer for layer in flow.flows if type(layer) is RealNVP)
        block.shift_1.layers[0].weight = block.scale_1.layers[0].weight
    calls, kernels = [], unit()
    pack = kernels.pack
    monkeypatch.setattr(kernels, "pack", lambda *a, **k: calls.append(1) or pack(*a, **k))
    with torch.no_grad():
        whole = flow(z)[0]
        assert len(calls) == 2  # scale and shift at once
        monkeypatch.setattr("bgfast.flows.base._ROWS_PER_THREAD", 16)
        pieces = flow(z)[0]
    assert len(calls) == 4
    assert torch.equal(pieces, whole)


@needs_bfloat16
def test_precisions_in_turn_do_not_get_each_others_network():
    inputs = network(140, (33, 40), torch.float32)
    block = RealNVP(12, (33, 40))
    other = "high" if tiles.is_supported() else "full"

    def results():
        found = []
        for precision in ("bfloat16", other):
            for each in (block.scale_1, block.shift_1, block.scale_2, block.shift_2):
                each.precision = precision
            found += [dense(*inputs, "tanh", precision), block._forward(value)[0]]
        return found

    value = torch.randn(140, 12)
    with torch.no_grad():
        alone = results()
        with packed_networks():
            together = results()
    assert not torch.equal(alone[0], alone[2])
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("precision", SERVED)
def test_networks_that_are_kept_packed_stay_apart(precision):
    several = [network(140, (33, 40), torch.float32, seed=seed) for seed in range(3)]
    with torch.no_grad():
        alone = [dense(*inputs, "tanh", precision) for inputs in several]
        with packed_networks():
            for _ in range(2):
                for inputs, expected in zip(several, alone, strict=True):
                    assert torch.equal(dense(*inputs, "tanh", precision), expected)
    assert not torch.equal(alone[0], alone[1])


@pytest.mark.parametrize("precision", SERVED)
def test_threads_of_python_do_not_share_memory(precision):
    inputs = [network(3000 + i, (128, 128), torch.float32) for i in range(4)]

    def gradients(given):
        x, weights, biases = given
        out = dense(x, weights, biases, "tanh", precision)
        return torch.autograd.grad(out.square().sum(), (x, *weights, *biases))

    expected = [gradients(given) for given in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, wanted in zip(pool.map(gradients, inputs), expected, strict=True):
                assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@needs_kernels
@pytest.mark.parametrize("name", ["generic", "x86-64-v3"])
def test_code_for_another_processor_does_not_use_the_units(name):
    code = (
        "from bgfast_kernels import network, vector_network as vectors;"
        "print(network.is_supported() or vectors.is_supported() or vectors.is_supported(1))"
    )
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


@pytest.mark.skipif(
    not vector_network.is_supported(vector_network.ROUNDED), reason="no bfloat16 in AVX-512 here"
)
def test_without_products_of_bfloat16_vectors_serve_float32_alone():
    code = (
        "from bgfast_kernels import vector_network as vectors;"
        "print(vectors.is_supported(), vectors.is_supported(vectors.ROUNDED))"
    )
    host = llvmlite.binding.get_host_cpu_features().flatten()
    without = host.replace("+avx512bf16", "-avx512bf16").replace("+amx", "-amx")
    environment = {**os.environ, "NUMBA_CPU_FEATURES": without}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("precision", ["full", "high", "bfloat16"])
def test_what_does_not_fit_together_is_refused_as_torch_does(precision):
    x, weights, biases = network(140, (7, 8), torch.float32)
    wrong = [
        (x[:, :5], weights, biases),
        (x, [weights[0], weights[1][:, :6], weights[2]], biases),
        (x, weights, [biases[0], biases[1][:7], biases[2]]),
        (x, [w.double() for w in weights], biases),
    ]
    for inputs in wrong:
        with pytest.raises(RuntimeError):
            dense(*inputs, "tanh", precision)
