"""The dense network on processors with a matrix unit: one kernel for all its layers.

:mod:`bgfast_kernels.network` works on a block of rows from the first layer to the last, so that
activations stay in a core's cache, and multiplies in bfloat16:

- precision ``"bfloat16"``: the map of :func:`bgfast.flows.dense_bfloat16.rounded_dense`;
- precision ``"high"``: numbers are sums of two bfloat16 numbers, which is the map of float32 to
  about 1e-5 of its size, and its gradients too, but for units of relu that are off in one and on in
  the other. An input that bfloat16 cannot hold (3.4e38, infinity) makes its row NaN.

Weights are packed in every call, which pays from a hundred rows on: smaller batches in "high" are
left to float32. Those in bfloat16 are not, as hidden units are steps there, and no number should
land on another one because of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from bgfast_kernels import network
from torch import Tensor

from bgfast.flows.dense_bfloat16 import Store, rounded_dense
from bgfast.flows.dense_plain import ACTIVATIONS, plain_dense, traced_gradients
from bgfast.flows.execution import Precision
from bgfast.ops.library import flat_rows

LEAST_ROWS_HIGH = 128
"""Fewest rows that are worth packing the weights in "high"."""

PARTS: dict[Precision, int] = {"bfloat16": 1, "high": 2}
"""How many bfloat16 numbers make a number."""


def tiles_serve(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> bool:
    """Return whether there is a unit, and whether these fit together in shape, dtype and device.

    The kernels get addresses: what does not fit is left to torch, which says so.
    """
    return not x.is_neg() and networks_serve(x.shape[1], x.device, weights, biases)


def networks_serve(
    n_in: int, device: torch.device, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> bool:
    """Return the same for inputs of ``n_in`` columns."""
    if not network.is_supported():
        return False
    for weight, bias in zip(weights, biases, strict=True):
        shape = weight.shape
        if len(shape) != 2 or shape[1] != n_in or shape[:1] != bias.shape or 0 in shape:
            return False
        n_in = shape[0]
    return not any(
        t.dtype != torch.float32 or t.device != device or t.layout != torch.strided or t.is_neg()
        for t in (*weights, *biases)
    )


def tiled_dense(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    precision: Precision,
    store: Store,
) -> Tensor:
    """Map float32 ``x[n, n_in]`` on the CPU to ``[n, n_out]``, without autograd.

    Parameters
    ----------
    x
        Inputs, n > 0.
    weights, biases
        Of every layer, at least two.
    activation
        ``"tanh"`` or ``"relu"``, after every layer but the last.
    precision
        ``"bfloat16"`` or ``"high"``.
    store
        Keeps the packed network for further calls.
    """
    key = (precision, *weights, *biases)
    packed = store.get(key)
    if packed is None:
        packed = store[key] = _packed(weights, biases, precision, passing=False)
    return torch.from_numpy(network.forward(packed, _rows(x), (activation,))[0])


class TiledDense(torch.autograd.Function):
    """The same as a node of autograd's graph.

    ``apply(x, activation, precision, *weights, *biases)``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: str, precision: Precision, *parameters: Tensor
    ) -> Tensor:
        """Run the network and keep what the gradients need."""
        n = len(parameters) // 2
        packed = _packed(parameters[:n], parameters[n:], precision, passing=True)
        kept = network.kept_memory(packed.widths, packed.parts, x.shape[0])
        (out,) = network.forward(packed, _rows(x), (activation,), kept)
        ctx.activation, ctx.precision = activation, precision
        ctx.save_for_backward(x, torch.from_numpy(kept), *parameters)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        """Return the gradients of all inputs of :meth:`forward`."""
        needs = [ctx.needs_input_grad[0], *ctx.needs_input_grad[3:]]
        x, kept, *parameters = ctx.saved_tensors
        n = len(parameters) // 2
        if torch.is_grad_enabled():  # this pass is to be differentiated: leave it to torch
            if ctx.precision == "high":
                out = plain_dense(x, parameters[:n], parameters[n:], ctx.activation)
            else:
                activate = ACTIVATIONS[ctx.activation]
                out = rounded_dense(x, parameters[:n], parameters[n:], activate)
            grads = traced_gradients(out, (x, *parameters), needs, grad)
            return grads[0], None, None, *grads[1:]
        weights = [weight.contiguous() for weight in parameters[:n]]
        grad_x = torch.empty(x.shape) if needs[0] else None
        found = network.backward(
            _widths(weights),
            _addresses(weights),
            (ctx.activation,),
            _rows(grad),
            kept.numpy(),
            None if grad_x is None else _rows(grad_x),
            needs_parameters=any(needs[1:]),
            parts=PARTS[ctx.precision],
        )
        grads = [
            torch.from_numpy(array) if need else None
            for array, need in zip((*found.weights, *found.biases), needs[1:], strict=False)
        ] or [None] * len(parameters)
        return grad_x, None, None, *grads


def _packed(
    weights: Sequence[Tensor], biases: Sequence[Tensor], precision: Precision, passing: bool
) -> network.Packed:
    together = [t.contiguous() for t in (*weights, *biases)]
    addresses = _addresses(together)
    return network.pack(_widths(weights), addresses, PARTS[precision], passing=passing)


def _widths(weights: Sequence[Tensor]) -> tuple[int, ...]:
    return (weights[0].shape[1], *(weight.shape[0] for weight in weights))


def _addresses(parameters: Sequence[Tensor]) -> Any:
    """Return where they lie; they have to stay alive as long as that is used."""
    return np.array([[t.data_ptr() for t in parameters]], np.int64)


def _rows(x: Tensor) -> network.Rows:
    return network.Rows(*flat_rows(x), x.shape[0])
