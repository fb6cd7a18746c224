"""A RealNVP block, networks and arithmetic, as one autograd node.

The two networks of a step share their inputs and run in one kernel, and the coupling step takes
what they return where it is. The nodes and tensors of a block in parts take time that small batches
feel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from bgfast_kernels import network
from bgfast_kernels.coupling import affine
from numpy.typing import NDArray
from torch import Tensor

from bgfast.flows.coupling_block import Block
from bgfast.flows.dense_bfloat16 import reference_dense
from bgfast.flows.dense_plain import traced_gradients
from bgfast.flows.dense_tiles import addresses, pack, parts, unit, widths
from bgfast.flows.execution import packed_weights, prepared_weights
from bgfast.ops.coupling_reference import reference_affine_coupling
from bgfast.ops.library import in_memory, rows_of


def couple(value: Tensor, block: Block, *, inverse: bool) -> tuple[Tensor, Tensor]:
    """Map ``value[n, dim]`` through both steps; return the result and its log-determinants.

    Parameters
    ----------
    value, block
        As :func:`bgfast.flows.coupling_block.tiled_block` was given, and what it returned.
    inverse
        From configuration to latent.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (value, *block.parameters)):
        shape = block._replace(parameters=())
        y, logdet = _Coupling.apply(value, shape, inverse, *block.parameters)  # type: ignore[no-untyped-call]
        return y, logdet
    store = prepared_weights()
    store = packed_weights() if store is None else store
    run = _Run(value, inverse)
    for step in run.order:
        networks = block.networks(step)
        key = ("pair", block.precision, *networks[0], *networks[1])
        packed = store.get(key)
        if packed is None:
            packed = store[key] = pack(networks, block.precision, passing=False)
        run.step(block, step, packed)
    return run.value, run.logdet


class _Run:
    """Both steps, in place on a copy of the value."""

    def __init__(self, value: Tensor, inverse: bool) -> None:
        self.value = in_memory(value).clone(memory_format=torch.contiguous_format)
        self.logdet = value.new_empty(len(value))
        self.inverse = inverse
        self.order = _order(inverse)

    def step(
        self,
        block: Block,
        step: int,
        packed: network.Packed,
        kept: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.float32]:
        """Change half ``step``; return what the networks gave, ``[2, n, m]``."""
        halves = block.halves(self.value.shape[1])
        here, other = _columns(self.value, halves[step]), halves[1 - step]
        out: NDArray[np.float32] = unit().forward(
            packed, _inputs(self.value, other), block.activations, kept
        )
        raw_s, t = _rows_of_each(out)
        logdet = self.logdet.data_ptr(), 1
        shape = affine.Shape(out.shape[1], out.shape[2], affine.FLOAT32)
        more = step != self.order[0]
        affine.affine_coupling(shape, here, raw_s, t, here, logdet, self.inverse, more=more)
        return out


class _Coupling(torch.autograd.Function):
    """``apply(value, block without parameters, inverse, *parameters)``."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, block: Block, inverse: bool, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.block, ctx.inverse = block, inverse
        block = block._replace(parameters=parameters)
        run = _Run(value, inverse)
        kept_of_steps: dict[int, tuple[Tensor, Tensor]] = {}
        for step in run.order:
            packed = pack(block.networks(step), block.precision, passing=True)
            kept = unit().kept_memory(packed.widths, packed.parts, len(value), 2)
            out = run.step(block, step, packed, kept)
            kept_of_steps[step] = torch.from_numpy(kept), torch.from_numpy(out)
        ctx.save_for_backward(value, *kept_of_steps[0], *kept_of_steps[1], *parameters)
        return run.value, run.logdet

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_logdet: Tensor) -> tuple[Any, ...]:
        value, *saved = ctx.saved_tensors
        kept_of_steps, parameters = (saved[:2], saved[2:4]), saved[4:]
        block = ctx.block._replace(parameters=parameters)
        needs = (ctx.needs_input_grad[0], *ctx.needs_input_grad[3:])
        if torch.is_grad_enabled():  # this pass is to be differentiated: leave it to torch
            run = functools.partial(_plain, ctx.block, ctx.inverse)
            grads = traced_gradients(run, (value, *parameters), needs, grad, grad_logdet)
            return grads[0], None, None, *grads[1:]
        grad = in_memory(grad).clone(memory_format=torch.contiguous_format)
        grad_logdet = in_memory(grad_logdet)
        by_logdet = grad_logdet.data_ptr(), grad_logdet.stride(0)
        value = rows_of(value)
        halves, order = block.halves(value.shape[1]), _order(ctx.inverse)
        found: list[Tensor | None] = [None] * len(parameters)
        for step in reversed(order):
            place, before = block.place(step), block.place(1 - step)
            needed = needs[1:][place]
            needs_other = needs[0] or (step == order[1] and any(needs[1:][before]))
            if not (any(needed) or needs_other):
                break
            kept, out = (t.numpy() for t in kept_of_steps[step])
            here, other = _columns(grad, halves[step]), halves[1 - step]
            of_results = np.empty_like(out)
            affine.affine_coupling_grad(
                affine.Shape(out.shape[1], out.shape[2], affine.FLOAT32),
                _columns(value, halves[step]),
                *_rows_of_each(out),
                here,
                by_logdet,
                here,
                *_rows_of_each(of_results),
                ctx.inverse,
            )
            networks = [[t.contiguous() for t in of_one] for of_one in block.networks(step)]
            gradients = unit().backward(
                widths(networks[0]),
                addresses(networks),
                block.activations,
                network.Rows(of_results.reshape(-1), out.shape[2], len(value)),
                kept,
                _inputs(grad, other) if needs_other else None,
                any(needed),
                parts(block.precision),
                more=True,
            )
            if any(needed):
                found[place] = _in_order(gradients, block.n_layers, needed)
        return grad if needs[0] else None, None, None, *found


def _order(inverse: bool) -> tuple[int, int]:
    """Return which half is changed first, and which then."""
    return (1, 0) if inverse else (0, 1)


def _plain(
    block: Block, inverse: bool, value: Tensor, *parameters: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the same from plain torch."""
    block = block._replace(parameters=parameters)
    halves = [value[:, columns] for columns in block.halves(value.shape[1])]
    logdet = value.new_zeros(len(value))
    for step in _order(inverse):
        raw_s, t = (
            reference_dense(activation, block.precision, halves[1 - step], *of_one)
            for of_one, activation in zip(block.networks(step), block.activations, strict=True)
        )
        halves[step], part = reference_affine_coupling(halves[step], raw_s, t, inverse=inverse)
        logdet = logdet + part
    return torch.cat(halves, -1), logdet


def _in_order(
    gradients: network.Gradients, n_layers: int, needed: Sequence[bool]
) -> Iterator[Tensor | None]:
    """Yield them as parameters come, network by network, those that are needed."""
    needs = iter(needed)
    for start in (0, n_layers):
        for arrays in (gradients.weights, gradients.biases):
            for array in arrays[start : start + n_layers]:
                yield torch.from_numpy(array) if next(needs) else None


def _columns(rows: Tensor, columns: slice) -> affine.Rows:
    """Return where columns of ``rows[n, dim]`` lie: they have to stay alive as long."""
    return rows.data_ptr() + 4 * columns.start, rows.stride(0)


def _inputs(rows: Tensor, columns: slice) -> network.Rows:
    """Return columns of contiguous rows."""
    return network.Rows(rows.numpy().reshape(-1)[columns.start :], rows.shape[1], len(rows))


def _rows_of_each(arrays: NDArray[np.float32]) -> tuple[affine.Rows, affine.Rows]:
    first, width = arrays.ctypes.data, arrays.shape[2]
    return (first, width), (first + arrays.nbytes // 2, width)
