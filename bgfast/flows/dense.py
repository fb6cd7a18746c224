"""Run a dense network: :func:`dense` picks the fastest way.

On the CPU, with tanh or relu, an autograd function of our own keeps exactly what the backward pass
needs (inputs and activations), and the backward pass works through pieces of rows whose gradients
stay in a core's cache; so does the forward pass if no gradient is wanted. Everything else is plain
torch: other activations, devices and dtypes, torch.compile, torch.func, forward mode, autocast,
dispatch modes, small batches of small networks; so is a backward pass that is itself to be
differentiated.

With AVX-512 or a matrix unit the whole network is one kernel where that is faster
(:mod:`bgfast.flows.dense_tiles`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bgfast.flows.dense_bfloat16 import (
    Store,
    fused_dense,
    fused_layers,
    plain_bfloat16_dense,
    reference_dense,
    rounded_dense,
    warn_of_slow_bfloat16,
)
from bgfast.flows.dense_pieces import dense_in_pieces
from bgfast.flows.dense_plain import ACTIVATIONS, plain_dense, traced_gradients
from bgfast.flows.dense_tiles import TiledDense, served, tiled_dense, tiles_pay, tiles_serve
from bgfast.flows.execution import (
    Precision,
    bfloat16_is_supported,
    packed_weights,
    prepared_weights,
)
from bgfast.ops.backend import eager_cpu, requested_backend

# Numbers in the largest activation from which on our own autograd function is worth its calls from
# Python: a third of a small step is calls.
_LEAST_NUMBERS = 2**17

# Rows of the backward pass at a time, for each thread: gradients of 200 float32 take 0.8 MB.
_ROWS_PER_THREAD = 1024


def dense(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    precision: Precision = "full",
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
    precision
        ``"full"``: that of the tensors; ``"high"``: about 1e-5 where
        :mod:`bgfast.flows.dense_tiles` serves, else ``"full"``; ``"bfloat16"``: that of
        :mod:`bgfast.flows.dense_bfloat16`.
    """
    own_path = activation in ("tanh", "relu") and x.ndim == 2 and eager_cpu(x)
    tracked = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights, *biases))
    store = prepared_weights()
    if store is not None:
        _require_served(x, activation, own_path, tracked)
        precision = "bfloat16"
    if len(weights) == 1:
        precision = "full"  # nothing is rounded where there is no hidden layer
    if precision != "full" and x.dtype != torch.float32:
        raise TypeError(f"conditioners in {precision!r} are for float32 flows, got {x.dtype}")
    precision = served(precision)
    if (
        own_path
        and tiles_pay(precision, len(x), weights)
        and (precision != "full" or requested_backend() in (None, "numba"))
        and tiles_serve(x, weights, biases)
    ):
        if tracked:
            return _traced(TiledDense, x, weights, biases, activation, precision)
        packed = packed_weights() if store is None else store
        return tiled_dense(x, weights, biases, activation, precision, packed)
    if precision != "full":
        if precision == "bfloat16" and not (own_path and len(x) and bfloat16_is_supported()):
            return _unfused(x, weights, biases, activation, store)
        if precision == "bfloat16":
            if tracked:
                return _traced(_Dense, x, weights, biases, activation, precision)
            converted = {} if store is None else store
            return fused_dense(x, weights, biases, activation, converted, _rows_at_once())
    if not own_path or (tracked and _is_small(x, weights)):
        return plain_dense(x, weights, biases, activation)
    if tracked:
        return _traced(_Dense, x, weights, biases, activation, "full")
    if _is_small(x, weights):
        return _layers(x, weights, biases, activation)[-1]
    return dense_in_pieces(x, weights, biases, ACTIVATIONS[activation], _rows_at_once())


def _traced(
    function: type[torch.autograd.Function],
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    precision: Precision,
) -> Tensor:
    out: Tensor = function.apply(x, activation, precision, *weights, *biases)  # type: ignore[no-untyped-call]
    return out


def _is_small(x: Tensor, weights: Sequence[Tensor]) -> bool:
    return len(x) * max(len(weight) for weight in weights) < _LEAST_NUMBERS


def _unfused(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    store: Store | None,
) -> Tensor:
    activate = ACTIVATIONS[activation]
    if x.is_cuda:
        return plain_bfloat16_dense(x, weights, biases, activate, store)
    if eager_cpu(x) and not bfloat16_is_supported():
        warn_of_slow_bfloat16()
    return rounded_dense(x, weights, biases, activate)


def _require_served(x: Tensor, activation: str, own_path: bool, tracked: bool) -> None:
    on_cuda = x.is_cuda and activation in ("tanh", "relu") and x.ndim == 2
    can_run = on_cuda or (own_path and bfloat16_is_supported())
    if not can_run or tracked or x.dtype != torch.float32:
        raise RuntimeError(
            "conditioners in bfloat16 serve float32 networks with tanh or relu on the CPU or a "
            f"CUDA device, without autograd; this one has {activation}, {x.dtype} on {x.device}"
            + (", with autograd" if tracked else "")
        )


def _layers(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str
) -> list[Tensor]:
    """Return the input of every layer, and the result."""
    results = [x]
    last = len(weights) - 1
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        results.append(_layer(results[-1], weight, bias, "none" if i == last else activation))
    return results


def _layer(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    # The bits of functional.linear, which copies the bias to every row and adds the product to it:
    # that copy takes longer than adding the bias afterwards.
    out = torch.mm(x, weight.t()).add_(bias)
    return out if activation == "none" else ACTIVATIONS[activation](out)


class _Dense(torch.autograd.Function):
    """The whole network as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: str, precision: Precision, *parameters: Tensor
    ) -> Tensor:
        n = len(parameters) // 2
        weights, biases = parameters[:n], parameters[n:]
        store: Store = {}
        if precision == "bfloat16":
            parts = torch.split(x, _rows_at_once())
            run = [fused_layers(part, weights, biases, activation, store) for part in parts]
        else:
            run = [_layers(x, weights, biases, activation)]
        pieces, outputs = [piece for *piece, _ in run], [out for *_, out in run]
        ctx.activation, ctx.precision = activation, precision
        converted = [store.get(weight, weight) for weight in weights]
        inputs = (part for piece in pieces for part in piece)
        ctx.save_for_backward(x, *parameters, *converted, *inputs)
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        needs_x, _, _, *needs = ctx.needs_input_grad
        n = len(needs) // 2
        x, *rest = ctx.saved_tensors
        parameters, weights, inputs = rest[: 2 * n], rest[2 * n : 3 * n], rest[3 * n :]
        if torch.is_grad_enabled():  # this pass is to be differentiated: leave it to torch
            run = functools.partial(reference_dense, ctx.activation, ctx.precision)
            grads = traced_gradients(run, (x, *parameters), (needs_x, *needs), grad)
            return grads[0], None, None, *grads[1:]
        if ctx.precision == "bfloat16":
            weights = [weight.bfloat16() for weight in weights]
            pieces = [inputs[i : i + n] for i in range(0, len(inputs), n)]
        else:
            at_once = _rows_at_once()
            pieces = list(zip(*(torch.split(t, at_once) for t in inputs), strict=True))
        grad_x, totals = _gradients(ctx.activation, weights, pieces, grad, needs_x, needs)
        return grad_x, None, None, *totals


def _rows_at_once() -> int:
    return _ROWS_PER_THREAD * torch.get_num_threads()


def _gradients(
    activation: str,
    weights: Sequence[Tensor],
    pieces: Sequence[Sequence[Tensor]],
    grad: Tensor,
    needs_x: bool,
    needs: Sequence[bool],
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Return the gradients of x, and of weights and biases.

    Parameters
    ----------
    activation
        After every layer but the last.
    weights
        In the dtype of the products.
    pieces
        Inputs of every layer, in that dtype, piece of rows after piece of rows.
    grad
        Gradient of the result, in the dtype of the gradients.
    needs_x, needs
        Which gradients are wanted.
    """
    n = len(weights)
    totals: list[Tensor | None] = [None] * (2 * n)
    grad_x = grad.new_empty(len(grad), weights[0].shape[1]) if needs_x else None
    deepest = 0 if needs_x else min(i % n for i, need in enumerate(needs) if need)
    start = 0
    for inputs in pieces:
        rows = slice(start, start + len(inputs[0]))
        start = rows.stop
        g = grad[rows].to(weights[0].dtype)
        for i in range(n - 1, -1, -1):
            if needs[i]:
                totals[i] = _add_product(totals[i], g.t(), inputs[i], grad.dtype)
            if needs[n + i]:
                # Not sum(dtype=...), which would make a copy in that dtype first.
                column_sums = (grad[rows] if i == n - 1 else g).sum(0).to(grad.dtype)
                total = totals[n + i]
                totals[n + i] = column_sums if total is None else total.add_(column_sums)
            if i > deepest:
                g = _through_activation(activation, torch.mm(g, weights[i]), inputs[i])
        if grad_x is not None:
            grad_x[rows] = torch.mm(g, weights[0])
    return grad_x, totals


def _add_product(total: Tensor | None, a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    if total is None:
        return torch.mm(a, b).to(dtype)
    if a.dtype != dtype:
        return total.add_(torch.mm(a, b))
    return total.addmm_(a, b)


def _through_activation(activation: str, grad: Tensor, result: Tensor) -> Tensor:
    """Multiply ``grad`` in place by the activation's derivative, given its result."""
    aten = torch.ops.aten
    if activation == "tanh":
        aten.tanh_backward.grad_input(grad, result, grad_input=grad)
    else:
        aten.threshold_backward.grad_input(grad, result, 0, grad_input=grad)
    return grad
