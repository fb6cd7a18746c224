"""The dense network that computes the shift or the log-scale of a coupling step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from bgfast.flows.dense import dense
from bgfast.flows.dense_plain import ACTIVATIONS
from bgfast.flows.execution import Precision, check_precision


class Conditioner(nn.Module):
    """Dense network with a linear output layer.

    Weights are Glorot-uniform, biases zero, as in the published code (Keras' default).

    Parameters
    ----------
    n_in, n_out
        Number of inputs and outputs.
    hidden
        Widths of the hidden layers; may be empty.
    activation
        ``"tanh"``, ``"relu"`` or ``"silu"``, after each hidden layer.
    output_gain
        Factor on the initial weights of the output layer; 0 makes the initial output zero.
    generator
        Source of the initial weights; the global random state is left alone.
    precision
        ``"bfloat16"`` computes the hidden layers from rounded numbers, in value and gradients, see
        :mod:`bgfast.flows.dense_bfloat16`; ``"high"`` and ``"full"`` do not, see
        :mod:`bgfast.flows.dense_tiles`.
    dtype
        Floating dtype of the weights. They are drawn in float64, so that one seed gives the same
        network (up to rounding) in every dtype.

    Raises
    ------
    ValueError
        If the activation or precision is unknown, a width is not a positive integer, or the weights
        of a network in bfloat16 are not float32.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: Sequence[int],
        activation: str = "tanh",
        *,
        output_gain: float = 1.0,
        precision: Precision = "full",
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}"
            )
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in hidden):
            raise ValueError(f"hidden must be positive integers, got {tuple(hidden)!r}")
        check_precision(precision, dtype)
        self.activation, self.precision = activation, precision
        sizes = [n_in, *hidden, n_out]
        gains = [1.0] * len(hidden) + [output_gain]
        self.layers = nn.ModuleList(
            _linear(a, b, gain, generator, dtype)
            for (a, b), gain in zip(pairwise(sizes), gains, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x[n, n_in]`` to ``[n, n_out]``."""
        return dense(x, *self.parameter_lists(), self.activation, self.precision)

    def parameter_lists(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the weights and the biases of all layers."""
        layers = [cast(nn.Linear, layer) for layer in self.layers]
        return [layer.weight for layer in layers], [layer.bias for layer in layers]


def _linear(
    n_in: int, n_out: int, gain: float, generator: torch.Generator, dtype: torch.dtype
) -> nn.Linear:
    # By way of "meta": nn.Linear's own initialisation would draw from the global generator.
    layer = nn.Linear(n_in, n_out, device="meta", dtype=dtype).to_empty(device="cpu")
    bound = gain * (6.0 / (n_in + n_out)) ** 0.5
    weight = torch.empty(n_out, n_in, dtype=torch.float64)
    weight.uniform_(-1.0, 1.0, generator=generator).mul_(bound)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.zero_()
    return layer
