"""What a RealNVP block is made of, and whether it is run as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module

from bgfast.flows.conditioner import Conditioner
from bgfast.flows.dense_tiles import networks_serve, served, tiles_pay
from bgfast.flows.execution import Precision, prepared_weights


class Block(NamedTuple):
    """What a block is made of.

    Parameters
    ----------
    n_first
        Size of the first half.
    activations
        Of log-scale and shift networks.
    precision
        Of all networks.
    n_layers
        Of every network.
    parameters
        Weights, then biases, of log-scale and shift of the first half, then of the second.
    """

    n_first: int
    activations: tuple[str, str]
    precision: Precision
    n_layers: int
    parameters: Sequence[Tensor]

    @property
    def n_parameters(self) -> int:
        """How many parameters there are."""
        return 8 * self.n_layers

    def halves(self, dim: int) -> tuple[slice, slice]:
        """Return the columns of both halves."""
        return slice(0, self.n_first), slice(self.n_first, dim)

    def place(self, step: int) -> slice:
        """Return where the parameters of the two networks are that change half ``step``."""
        both = 4 * self.n_layers
        return slice(step * both, (step + 1) * both)

    def networks(self, step: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the parameters of these two networks."""
        both, one = self.parameters[self.place(step)], 2 * self.n_layers
        return both[:one], both[one:]


def tiled_block(value: Tensor, n_first: int, networks: Sequence[Conditioner]) -> Block | None:
    """Return the block to be run as a whole, or ``None`` if its parts serve better.

    So they do where no kernel for whole networks serves or few rows do not pay for it, and where a
    network is not just what it is built as.

    Parameters
    ----------
    value
        An ordinary CPU tensor, ``[n, dim]``.
    n_first
        Size of the first half.
    networks
        Log-scale and shift of the first half, then of the second.
    """
    if value.dtype != torch.float32 or not all(map(_is_plain, networks)):
        return None
    (precision, *others) = (each.precision for each in networks)
    if prepared_weights() is not None:
        if torch.is_grad_enabled():
            return None  # each network refuses it, and says why
        precision, others = "bfloat16", []
    first, second = ((a.activation, b.activation) for a, b in (networks[:2], networks[2:]))
    if first != second or not {"tanh", "relu"}.issuperset(first) or {*others} - {precision}:
        return None
    lists = [each.parameter_lists() for each in networks]
    precision = served(precision)
    if not all(tiles_pay(precision, len(value), weights) for weights, _ in lists):
        return None
    n_second, n_layers = value.shape[1] - n_first, len(lists[0][0])
    for (weights, biases), twin, n_in, n_out in zip(
        lists,
        (lists[1], lists[0], lists[3], lists[2]),
        (n_second, n_second, n_first, n_first),
        (n_first, n_first, n_second, n_second),
        strict=True,
    ):
        fits = len(weights) == n_layers and weights[-1].shape[0] == n_out
        alike = [w.shape for w in weights] == [w.shape for w in twin[0]]
        if not (fits and alike and networks_serve(n_in, value.device, weights, biases)):
            return None
    parameters = [t for weights, biases in lists for t in (*weights, *biases)]
    return Block(n_first, first, precision, n_layers, parameters)


def _is_plain(network: nn.Module) -> bool:
    """Return whether calling a module is calling a conditioner, and nothing else."""
    hooks = (
        network._forward_hooks,
        network._forward_pre_hooks,
        network._backward_hooks,
        network._backward_pre_hooks,
    )
    called = type(network) is Conditioner and "forward" not in vars(network)
    return called and not any(hooks) and not module._has_any_global_hook()  # type: ignore[no-untyped-call]
