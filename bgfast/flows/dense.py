"""Run a dense network: :func:`dense` picks the fastest way, :func:`plain_dense` is the reference.

On the CPU, with tanh or relu, an autograd function of our own keeps exactly what the backward pass
needs (inputs and activations), and the backward pass works through pieces of rows whose gradients
stay in a core's cache. Everything else is plain torch: other activations, devices and dtypes,
torch.compile, torch.func, forward mode, autocast; so is a backward pass that is itself to be
differentiated.

Matrix products in float32 go through oneDNN, fused with the activation, on AMD processors, where
MKL reaches half of oneDNN's rate; elsewhere through torch's default, which is as fast or faster on
Intel. The rule looks at the maker and nothing else: one that measures could choose differently
from run to run, and with it change the bits of a resumed training.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bgfast.flows.execution import bfloat16_is_supported, prepared_weights
from bgfast.ops.backend import eager_cpu

# tanh and relu need only their result for the backward pass, and a linear layer does not need its
# own output: working in place is exact under autograd too, and saves a pass over memory.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
    "silu": functional.silu,
}

# Rows of the backward pass at a time, for each thread: gradients of 200 float32 take 0.8 MB.
_ROWS_PER_THREAD = 1024


def dense(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> Tensor:
    """Map ``x[n, n_in]`` to ``[n, n_out]`` through linear layers with an activation between them.

    Parameters
    ----------
    x
        Inputs.
    weights, biases
        Of every layer, ``[widths[i + 1], widths[i]]`` and ``[widths[i + 1]]``.
    activation
        Key of :data:`ACTIVATIONS`; after every layer but the last.
    """
    own_path = activation in ("tanh", "relu") and x.ndim == 2 and eager_cpu(x)
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights, *biases))
    store = prepared_weights()
    if store is not None:
        on_cuda = x.is_cuda and activation in ("tanh", "relu") and x.ndim == 2
        served = on_cuda or (own_path and bfloat16_is_supported())
        if not served or tracked or x.dtype != torch.float32:
            raise RuntimeError(
                "conditioners in bfloat16 serve float32 networks with tanh or relu on the CPU or a "
                f"CUDA device, without autograd; this one has {activation}, {x.dtype} on {x.device}"
                + (", with autograd" if tracked else "")
            )
        run = _in_bfloat16 if own_path else _in_plain_bfloat16
        return run(x, weights, biases, activation, store)
    if not own_path:
        return plain_dense(x, weights, biases, activation)
    if tracked:
        out: Tensor = _Dense.apply(x, activation, *weights, *biases)  # type: ignore[no-untyped-call]
        return out
    return _activations(x, weights, biases, activation)[-1]


def plain_dense(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> Tensor:
    """Return what :func:`dense` does, in plain torch."""
    activate = ACTIVATIONS[activation]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = activate(functional.linear(x, weight, bias))
    return functional.linear(x, weights[-1], biases[-1])


def _activations(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> list[Tensor]:
    """Return the result of every layer, the activation included."""
    results = []
    last = len(weights) - 1
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = _layer(x, weight, bias, "none" if i == last else activation)
        results.append(x)
    return results


def _in_bfloat16(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    store: dict[Tensor, Tensor],
) -> Tensor:
    """Run the hidden layers in bfloat16; ``store`` keeps the converted weights and biases."""
    x = x.bfloat16()
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        if weight not in store:
            store[weight] = torch.ops.mkldnn._reorder_linear_weight(weight.detach().bfloat16())
            store[bias] = bias.detach().bfloat16()
        x = torch.ops.mkldnn._linear_pointwise(x, store[weight], store[bias], activation, [], "")
    return functional.linear(x.float(), weights[-1], biases[-1])


def _in_plain_bfloat16(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    store: dict[Tensor, Tensor],
) -> Tensor:
    """Do what :func:`_in_bfloat16` does, in plain torch: for a CUDA device."""
    x = x.bfloat16()
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        for parameter in (weight, bias):
            if parameter not in store:
                store[parameter] = parameter.detach().bfloat16()
        x = ACTIVATIONS[activation](functional.linear(x, store[weight], store[bias]))
    return functional.linear(x.float(), weights[-1], biases[-1])


def _layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    if onednn_is_faster() and x.dtype == torch.float32 and len(x):
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")
        return fused
    out = functional.linear(x, weight, bias)
    return out if activation == "none" else ACTIVATIONS[activation](out)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if onednn_is_faster() and a.dtype == torch.float32 and a.numel() and b.numel():
        out: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")
        return out
    return torch.mm(a, b)


@functools.cache
def onednn_is_faster() -> bool:
    """Return whether this machine's float32 matrix products are faster through oneDNN."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()


class _Dense(torch.autograd.Function):
    """The whole network as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activation: str, *parameters: Tensor) -> Tensor:
        n = len(parameters) // 2
        *hidden, out = _activations(x, parameters[:n], parameters[n:], activation)
        ctx.activation = activation
        ctx.save_for_backward(x, *parameters, *hidden)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        n = (len(ctx.needs_input_grad) - 2) // 2
        x, *rest = ctx.saved_tensors
        parameters, hidden = rest[: 2 * n], rest[2 * n :]
        needs_x, _, *needs = ctx.needs_input_grad
        if torch.is_grad_enabled():  # this pass is to be differentiated: leave it to torch
            out = plain_dense(x, parameters[:n], parameters[n:], ctx.activation)
            inputs = (x, *parameters)
            wanted = [t for t, need in zip(inputs, (needs_x, *needs), strict=True) if need]
            found = iter(torch.autograd.grad(out, wanted, grad, create_graph=True))
            grads = [next(found) if need else None for need in (needs_x, *needs)]
            return grads[0], None, *grads[1:]
        return _gradients(ctx.activation, x, parameters[:n], hidden, grad, needs_x, needs)


def _gradients(
    activation: str,
    x: Tensor,
    weights: Sequence[Tensor],
    hidden: Sequence[Tensor],
    grad: Tensor,
    needs_x: bool,
    needs: Sequence[bool],
) -> tuple[Any, ...]:
    """Return the gradients of x, activation (none), weights and biases."""
    n = len(weights)
    totals: list[Tensor | None] = [None] * (2 * n)
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if needs_x else None
    deepest = 0 if needs_x else min(i % n for i, need in enumerate(needs) if need)
    piece = _ROWS_PER_THREAD * torch.get_num_threads()
    for start in range(0, max(1, len(x)), piece):
        rows = slice(start, start + piece)
        inputs = [x[rows], *(h[rows] for h in hidden)]
        g = grad[rows]
        for i in range(n - 1, -1, -1):
            if needs[i]:
                totals[i] = _add_product(totals[i], g.t(), inputs[i])
            if needs[n + i]:
                column_sums = g.sum(0)
                total = totals[n + i]
                totals[n + i] = column_sums if total is None else total.add_(column_sums)
            if i > deepest:
                g = _through_activation(activation, _product(g, weights[i]), inputs[i])
        if grad_x is not None:
            grad_x[rows] = _product(g, weights[0])
    return grad_x, None, *totals


def _add_product(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    if total is None:
        return _product(a, b)
    return total.add_(_product(a, b)) if onednn_is_faster() else total.addmm_(a, b)


def _through_activation(activation: str, grad: Tensor, result: Tensor) -> Tensor:
    """Multiply ``grad`` in place by the activation's derivative, given its result."""
    aten = torch.ops.aten
    if activation == "tanh":
        aten.tanh_backward.grad_input(grad, result, grad_input=grad)
    else:
        aten.threshold_backward.grad_input(grad, result, 0, grad_input=grad)
    return grad
