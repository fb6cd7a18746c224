"""The dense network as one kernel for all its layers.

It works on a block of rows from the first layer to the last, so that activations stay in a core's
cache. On processors with a matrix unit (:mod:`bgfast_kernels.network`) all products are made of
bfloat16 numbers, on others with AVX-512 (:mod:`bgfast_kernels.vector_network`) in float32, and in
bfloat16 where the processor has such products of vectors:

- precision ``"bfloat16"``: the map of :func:`bgfast.flows.dense_bfloat16.rounded_dense`;
- precision ``"high"``, on a matrix unit: numbers are sums of two bfloat16 numbers, which is the map
  of float32 to about 1e-5 of its size, and its gradients too, but for units of relu that are off in
  one and on in the other; elsewhere it is ``"full"``;
- precision ``"full"``: float32, or on a matrix unit sums of three, which are all digits of a
  float32, and of the products of their parts those that float32 could tell: errors are those of
  float32.

On a matrix unit an input or weight that bfloat16 cannot hold (3.39e38, infinity) makes rows NaN;
in high and full numbers below 1e-30 lose digits.

Weights are packed in every call outside of :func:`bgfast.flows.execution.packed_networks`, which
pays without a matrix unit from a few rows on. With one it does from a hundred; in full from 512,
with layers of 128 and more, and no fewer rows than the widest: else batches are left to torch's
float32. Those in bfloat16 are not, as hidden units are steps there, and no number should land on
another one because of its batch.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from bgfast_kernels import network, vector_network
from bgfast_kernels.sequence import hold
from numpy.typing import NDArray
from torch import Tensor

from bgfast.flows.dense_bfloat16 import Store, reference_dense
from bgfast.flows.dense_plain import traced_gradients
from bgfast.flows.execution import Precision
from bgfast.ops.library import flat_rows

_LEAST_ROWS: dict[Precision, int] = {"bfloat16": 1, "high": 128, "full": 512}
_LEAST_WIDTH = 128  # of hidden layers, where the alternative is torch's own float32

_PARTS: dict[Precision, int] = {"bfloat16": 1, "high": 2, "full": 3}


def unit() -> ModuleType:
    """Return the kernels that serve on this processor."""
    return network if network.is_supported() else vector_network


def parts(precision: Precision) -> int:
    """Return how many bfloat16 numbers make a number there, 0 where it is float32."""
    if network.is_supported():
        return _PARTS[precision]
    return vector_network.ROUNDED if precision == "bfloat16" else vector_network.WHOLE


def served(precision: Precision) -> Precision:
    """Return what this processor makes of a precision: without a matrix unit "high" is "full"."""
    return "full" if precision == "high" and not network.is_supported() else precision


def tiles_pay(precision: Precision, n: int, weights: Sequence[Tensor]) -> bool:
    """Return whether kernels serve a precision here, and ``n`` rows pay for packing the weights."""
    hidden = [len(weight) for weight in weights[:-1]]
    if not network.is_supported():
        if not vector_network.is_supported(parts(precision)):
            return False
        return n >= (1 if precision == "bfloat16" else max(8, max(hidden, default=0) // 4))
    if n < _LEAST_ROWS[precision]:
        return False
    return precision != "full" or (min(hidden, default=0) >= _LEAST_WIDTH and n >= max(hidden))


def tiles_serve(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> bool:
    """Return whether these fit together in shape, dtype and device.

    The kernels get addresses: what does not fit is left to torch, which says so.
    """
    if x.dtype != torch.float32 or x.is_neg():
        return False
    return networks_serve(x.shape[1], x.device, weights, biases)


def networks_serve(
    n_in: int, device: torch.device, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> bool:
    """Return the same for inputs of ``n_in`` columns."""
    if len(weights) < 2:
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
        ``"bfloat16"``, ``"high"`` or ``"full"``.
    store
        Keeps the packed network for further calls.
    """
    key = (precision, *weights, *biases)
    packed = store.get(key)
    if packed is None:
        packed = store[key] = pack([(*weights, *biases)], precision, passing=False)
    return torch.from_numpy(unit().forward(packed, _rows(x), (activation,))[0])


class TiledDense(torch.autograd.Function):
    """The same as a node of autograd's graph.

    ``apply(x, activation, precision, *weights, *biases)``.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, activation: str, precision: Precision, *parameters: Tensor
    ) -> Tensor:
        """Run the network and keep what the gradients need."""
        packed = pack([parameters], precision, passing=True)
        kept = unit().kept_memory(packed.widths, packed.parts, x.shape[0])
        (out,) = unit().forward(packed, _rows(x), (activation,), kept)
        ctx.activation, ctx.precision = activation, precision
        ctx.save_for_backward(x, torch.from_numpy(kept), *parameters)
        return torch.from_numpy(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        """Return the gradients of all inputs of :meth:`forward`."""
        needs = [ctx.needs_input_grad[0], *ctx.needs_input_grad[3:]]
        x, kept, *parameters = ctx.saved_tensors
        if torch.is_grad_enabled():  # this pass is to be differentiated: leave it to torch
            run = functools.partial(reference_dense, ctx.activation, ctx.precision)
            grads = traced_gradients(run, (x, *parameters), needs, grad)
            return grads[0], None, None, *grads[1:]
        networks = [[t.contiguous() for t in parameters]]
        grad_x = x.new_empty(x.shape) if needs[0] else None
        found = unit().backward(
            widths(parameters),
            addresses(networks),
            (ctx.activation,),
            _rows(grad),
            kept.numpy(),
            None if grad_x is None else _rows(grad_x),
            needs_parameters=any(needs[1:]),
            parts=parts(ctx.precision),
        )
        grads = [
            torch.from_numpy(array) if need else None
            for array, need in zip((*found.weights, *found.biases), needs[1:], strict=False)
        ] or [None] * len(parameters)
        return grad_x, None, None, *grads


def pack(
    networks: Sequence[Sequence[Tensor]], precision: Precision, *, passing: bool
) -> network.Packed:
    """Pack networks of the same widths, each given by its weights, then its biases.

    ``passing``: the next call of this thread may overwrite what is returned.
    """
    together = [[t.contiguous() for t in parameters] for parameters in networks]
    hold(together)
    packed: network.Packed = unit().pack(
        widths(together[0]), addresses(together), parts(precision), passing=passing
    )
    return packed


def widths(parameters: Sequence[Tensor]) -> tuple[int, ...]:
    """Return the columns of the inputs of all layers, and of the result."""
    weights = parameters[: len(parameters) // 2]
    return (weights[0].shape[1], *(weight.shape[0] for weight in weights))


def addresses(networks: Sequence[Sequence[Tensor]]) -> NDArray[np.int64]:
    """Return where parameters lie: they have to stay alive as long as that is used."""
    return np.array([[t.data_ptr() for t in parameters] for parameters in networks], np.int64)


def _rows(x: Tensor) -> network.Rows:
    return network.Rows(*flat_rows(x), x.shape[0])
