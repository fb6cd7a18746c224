"""One step of a RealNVP block and its gradients, by the kernels.

The two networks of a step share their inputs and run in one kernel, and the coupling arithmetic
takes what they return where it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from bgfast_kernels import network
from bgfast_kernels.coupling import affine
from bgfast_kernels.sequence import hold
from numpy.typing import NDArray
from torch import Tensor

from bgfast.flows.coupling_block import Block
from bgfast.flows.dense_tiles import addresses, parts, unit, widths


class Step(NamedTuple):
    """A step.

    Parameters
    ----------
    block
        Whose.
    half
        Which half changes, 0 or 1.
    inverse
        From configuration to latent.
    """

    block: Block
    half: int
    inverse: bool

    @property
    def is_first(self) -> bool:
        """Whether the block's other half has not changed before."""
        return self.half == order(self.inverse)[0]


class Kept(NamedTuple):
    """What :func:`backward` needs of a step.

    Parameters
    ----------
    source
        What its block was given.
    of_networks
        What they kept.
    out
        What they gave, ``[2, n, m]``.
    """

    source: Tensor
    of_networks: Tensor
    out: Tensor


def order(inverse: bool) -> tuple[int, int]:
    """Return which half of a block is changed first, and which then."""
    return (1, 0) if inverse else (0, 1)


def forward(
    step: Step,
    packed: network.Packed,
    source: Tensor,
    target: Tensor,
    logdet: Tensor,
    kept: NDArray[np.uint8] | None = None,
    memory: NDArray[np.float32] | None = None,
) -> Tensor:
    """Change one half.

    Parameters
    ----------
    step
        The step.
    packed
        Its networks.
    source
        What the block was given, contiguous float32 rows ``[n, dim]``.
    target
        Where the half goes and the other one is, once that has changed; may be ``source``.
    logdet
        To which the log-determinants are added, ``[n]``.
    kept
        Memory for what :func:`backward` needs, if that is to come.
    memory
        Where what is returned may be written.

    Returns
    -------
    out[2, n, m]
        What the networks gave.
    """
    halves = step.block.halves(source.shape[1])
    here, other = halves[step.half], halves[1 - step.half]
    inputs = _inputs(source if step.is_first else target, other)
    out = torch.from_numpy(unit().forward(packed, inputs, step.block.activations, kept, memory))
    affine.affine_coupling(
        _shape(out),
        _columns(source, here),
        *_rows_of_each(out),
        _columns(target, here),
        _of_each_row(logdet),
        step.inverse,
        more=True,
    )
    return out


def backward(
    step: Step,
    kept: Kept,
    grad: Tensor,
    grad_logdet: Tensor,
    needed: Sequence[bool],
    passes_on: bool,
    memory: Tensor,
) -> Iterator[Tensor | None]:
    """Return the gradients of the step's parameters, ``None`` for those that nobody needs.

    Parameters
    ----------
    step
        The step.
    kept
        Of the forward pass.
    grad
        Gradient with respect to the rows after the step, contiguous. Becomes that with respect to
        the rows before it.
    grad_logdet
        Gradient with respect to the log-determinants, ``[n]``.
    needed
        Which gradients of parameters are.
    passes_on
        Whether anybody needs the gradient of the rows. If not, the columns of the half that the
        networks see are left as they were.
    memory
        Where the gradient of what the networks gave may be written, float32, flat.
    """
    source, of_networks, out = kept
    halves = step.block.halves(source.shape[1])
    here, other = halves[step.half], halves[1 - step.half]
    of_results = memory[: out.numel()].view(out.shape)
    affine.affine_coupling_grad(
        _shape(out),
        _columns(source, here),
        *_rows_of_each(out),
        _columns(grad, here),
        _of_each_row(grad_logdet),
        _columns(grad, here),
        *_rows_of_each(of_results),
        step.inverse,
    )
    networks = [[t.contiguous() for t in of_one] for of_one in step.block.networks(step.half)]
    hold(networks)
    gradients = unit().backward(
        widths(networks[0]),
        addresses(networks),
        step.block.activations,
        network.Rows(of_results.numpy().reshape(-1), out.shape[2], len(source)),
        of_networks.numpy(),
        _inputs(grad, other) if passes_on else None,
        any(needed),
        parts(step.block.precision),
        more=True,
    )
    return _in_order(gradients, step.block.n_layers, needed)


def _in_order(
    gradients: network.Gradients, n_layers: int, needed: Sequence[bool]
) -> Iterator[Tensor | None]:
    """Yield them as parameters come, network by network; ``None`` for what is not needed."""
    if not any(needed):
        yield from [None] * len(needed)
        return
    needs = iter(needed)
    for start in (0, n_layers):
        for arrays in (gradients.weights, gradients.biases):
            for array in arrays[start : start + n_layers]:
                yield torch.from_numpy(array) if next(needs) else None


def _shape(out: Tensor) -> affine.Shape:
    return affine.Shape(out.shape[1], out.shape[2], affine.FLOAT32)


def _columns(rows: Tensor, columns: slice) -> affine.Rows:
    """Return where columns of ``rows[n, dim]`` lie."""
    hold(rows)
    return rows.data_ptr() + 4 * columns.start, rows.stride(0)


def _inputs(rows: Tensor, columns: slice) -> network.Rows:
    """Return columns of contiguous rows."""
    return network.Rows(rows.numpy().reshape(-1)[columns.start :], rows.shape[1], len(rows))


def _of_each_row(numbers: Tensor) -> affine.Rows:
    """Return where ``numbers[n]`` lie."""
    hold(numbers)
    return numbers.data_ptr(), numbers.stride(0)


def _rows_of_each(out: Tensor) -> tuple[affine.Rows, affine.Rows]:
    """Return where rows of both networks' results, ``[2, n, m]``, lie."""
    hold(out)
    first, (_, n, width) = out.data_ptr(), out.shape
    return (first, width), (first + 4 * n * width, width)
