"""The dense network with its hidden layers in bfloat16: ways to compute one and the same map.

Inputs, weights and biases of the hidden layers are rounded to bfloat16 (8 significant bits);
products are summed up and activations evaluated in float32, and what goes into the next layer is
rounded again. The output layer is that of float32, so that shifts and log-scales have no steps of
their own. Where tensors are rounded, gradients pass as if they were not.

- :mod:`bgfast.flows.dense_tiles`: one kernel for all layers, on processors with a matrix unit, or
  with AVX-512 that multiplies bfloat16;
- :func:`fused_layers`, :func:`fused_dense`: oneDNN on other CPUs;
- :func:`plain_bfloat16_dense`: plain torch in bfloat16, for CUDA devices; it rounds once more,
  before the activation;
- :func:`rounded_dense`: float32 arithmetic on rounded numbers. The reference, for every device,
  transform and processor; not faster than float32.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bgfast.flows.dense_plain import ACTIVATIONS, plain_dense
from bgfast.flows.execution import Precision

Activation = Callable[[Tensor], Tensor]
Store = dict[Any, Any]
"""What was converted, of weights and biases, for repeated calls with the same ones."""


def rounded_dense(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activate: Activation
) -> Tensor:
    """Map ``x[n, n_in]`` to ``[n, n_out]``, both float32; differentiable as often as you like."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = activate(functional.linear(_rounded(x), _rounded(weight), _rounded(bias)))
    if len(weights) > 1:
        x = _rounded(x)
    return functional.linear(x, weights[-1], biases[-1])


def reference_dense(
    activation: str, precision: Precision, x: Tensor, *parameters: Tensor
) -> Tensor:
    """Return the network's result in plain torch; ``parameters`` are weights, then biases."""
    n = len(parameters) // 2
    weights, biases = parameters[:n], parameters[n:]
    if precision == "bfloat16":
        return rounded_dense(x, weights, biases, ACTIVATIONS[activation])
    return plain_dense(x, weights, biases, activation)


def plain_bfloat16_dense(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activate: Activation,
    store: Store | None = None,
) -> Tensor:
    """Return what :func:`rounded_dense` does, up to one more rounding in each hidden layer.

    With a ``store``, there is no gradient in the weights.
    """
    convert = _bfloat16 if store is None else functools.partial(_stored, store=store)
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = activate(functional.linear(x.bfloat16(), convert(weight), convert(bias)))
    return functional.linear(x.float(), weights[-1], biases[-1])


def fused_layers(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    store: Store,
) -> list[Tensor]:
    """Return the input of every layer, bfloat16 in front of hidden ones, and the float32 result.

    For CPU tensors ``x[n, n_in]`` with n > 0, ``"tanh"`` or ``"relu"``, and processors of which
    :func:`bgfast.flows.execution.bfloat16_is_supported` is true; unknown to autograd.
    """
    *inputs, x = _hidden(x, weights, biases, activation, store)
    return [*inputs, x, functional.linear(x.float(), weights[-1], biases[-1])]


def fused_dense(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    store: Store,
    rows: int,
) -> Tensor:
    """Return the result of :func:`fused_layers` alone, bit by bit.

    The last layer works on about ``rows`` rows at a time: as float32 all of them are twice as
    large, and would go to memory and back.
    """
    *_, x = _hidden(x, weights, biases, activation, store)
    pieces = x.tensor_split(max(1, round(len(x) / rows)))
    memory = x.new_empty(pieces[0].shape, dtype=torch.float32)
    result = x.new_empty(len(x), len(weights[-1]), dtype=torch.float32)
    start = 0
    for piece in pieces:
        stop = start + len(piece)
        inputs = memory[: len(piece)].copy_(piece)
        torch.mm(inputs, weights[-1].t(), out=result[start:stop]).add_(biases[-1])
        start = stop
    return result


def _hidden(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
    store: Store,
) -> list[Tensor]:
    """Return the input of every hidden layer and the result of the last, all bfloat16."""
    results = [x.bfloat16()]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        weight, bias = _stored(weight, store), _stored(bias, store)
        fused = torch.ops.mkldnn._linear_pointwise
        results.append(fused(results[-1], weight, bias, activation, [], ""))
    return results


@functools.cache
def warn_of_slow_bfloat16() -> None:
    """Say once that this processor gains nothing from bfloat16."""
    warnings.warn(
        "this processor (or this build of torch) has no bfloat16 matrix products: conditioners "
        "with precision = 'bfloat16' are computed in float32 from rounded numbers, which is the "
        "same flow but slower than precision = 'full'",
        stacklevel=2,
    )


def _rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


def _bfloat16(x: Tensor) -> Tensor:
    return x.bfloat16()


def _stored(parameter: Tensor, store: Store) -> Tensor:
    if parameter not in store:
        store[parameter] = parameter.detach().bfloat16()
    converted: Tensor = store[parameter]
    return converted
