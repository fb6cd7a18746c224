"""RealNVP blocks and permutations in a row as one autograd node.

The nodes and tensors of all the parts take time that small batches feel, and each would copy its
rows; here a block writes its result where the next one reads it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bgfast.flows import coupling_step
from bgfast.flows.coupling_block import Block
from bgfast.flows.coupling_step import Kept, Step, order
from bgfast.flows.dense_bfloat16 import reference_dense
from bgfast.flows.dense_plain import traced_gradients
from bgfast.flows.dense_tiles import pack, unit
from bgfast.flows.execution import packed_weights, prepared_weights
from bgfast.ops.coupling_reference import reference_affine_coupling
from bgfast.ops.library import in_memory


class Reordering(NamedTuple):
    """Columns in another order.

    Parameters
    ----------
    there
        Which column of the latent each column of the configuration is.
    back
        The inverse permutation.
    """

    there: Tensor
    back: Tensor

    def __call__(self, rows: Tensor, *, inverse: bool) -> Tensor:
        """Return ``rows[n, dim]`` in the other order."""
        return rows.index_select(-1, self.columns(inverse=inverse))

    def columns(self, *, inverse: bool) -> Tensor:
        """Return which columns follow each other in the result."""
        return self.back if inverse else self.there


Link = Block | Reordering
_KEPT_OF_A_BLOCK = 5  # its rows, and what networks of both steps kept and gave


def run(value: Tensor, links: Sequence[Link], *, inverse: bool) -> tuple[Tensor, Tensor]:
    """Map ``value[n, dim]`` through all links; return the result and its log-determinants.

    Parameters
    ----------
    value
        As :func:`bgfast.flows.coupling_block.tiled_block` was given.
    links
        As they follow one another, at least one of them a block.
    inverse
        From configuration to latent.
    """
    parameters = [t for link in links if isinstance(link, Block) for t in link.parameters]
    if torch.is_grad_enabled() and any(t.requires_grad for t in (value, *parameters)):
        shapes = [
            link._replace(parameters=()) if isinstance(link, Block) else link for link in links
        ]
        y, logdet = _Chain.apply(value, shapes, inverse, *parameters)  # type: ignore[no-untyped-call]
        return y, logdet
    return _without_autograd(value.detach(), links, inverse)


def _without_autograd(value: Tensor, links: Sequence[Link], inverse: bool) -> tuple[Tensor, Tensor]:
    """Return the same, and keep networks packed as long as somebody wants them to be."""
    store = prepared_weights()
    store = packed_weights() if store is None else store
    logdet = value.new_zeros(len(value))
    source = in_memory(value).contiguous()
    may_change = source is not value
    for link in links:
        if isinstance(link, Reordering):
            source, may_change = link(source, inverse=inverse), True
            continue
        target = source if may_change else torch.empty_like(source)
        for half in order(inverse):
            networks = link.networks(half)
            key = ("pair", link.precision, *networks[0], *networks[1])
            packed = store.get(key)
            if packed is None:
                packed = store[key] = pack(networks, link.precision, passing=False)
            coupling_step.forward(Step(link, half, inverse), packed, source, target, logdet)
        source, may_change = target, True
    return source, logdet


class _Chain(torch.autograd.Function):
    """``apply(value, links as they follow, without parameters, inverse, *parameters)``."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, links: Sequence[Link], inverse: bool, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.links, ctx.inverse = links, inverse
        logdet = value.new_zeros(len(value))
        kept_of_links: list[Tensor] = []
        source = in_memory(value.detach()).contiguous()
        for link in _complete(links, parameters):
            if isinstance(link, Reordering):
                source = link(source, inverse=inverse)
                kept_of_links.append(link.columns(inverse=inverse))
                continue
            target = torch.empty_like(source)
            kept_of_links.append(source)
            for half in order(inverse):
                packed = pack(link.networks(half), link.precision, passing=True)
                kept = unit().kept_memory(packed.widths, packed.parts, len(source), 2)
                step = Step(link, half, inverse)
                out = coupling_step.forward(step, packed, source, target, logdet, kept)
                kept_of_links += torch.from_numpy(kept), out
            source = target
        ctx.save_for_backward(value, *parameters, *kept_of_links)
        return source, logdet

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_logdet: Tensor) -> tuple[Any, ...]:
        needs = [ctx.needs_input_grad[0], *ctx.needs_input_grad[3:]]
        saved = list(ctx.saved_tensors)
        inputs, kept_of_links = saved[: len(needs)], saved[len(needs) :]
        if torch.is_grad_enabled():  # this pass is to be differentiated: leave it to torch
            plain = functools.partial(_plain, ctx.links, ctx.inverse)
            grads = traced_gradients(plain, inputs, needs, grad, grad_logdet)
            return grads[0], None, None, *grads[1:]
        grad = in_memory(grad).clone(memory_format=torch.contiguous_format)
        grad_logdet = in_memory(grad_logdet)
        found: list[Tensor | None] = [None] * len(inputs)
        first = len(inputs)
        for link in reversed(list(_complete(ctx.links, inputs[1:]))):
            if isinstance(link, Reordering):
                grad = torch.empty_like(grad).index_copy_(-1, kept_of_links.pop(), grad)
                continue
            first -= len(link.parameters)
            source, *kept_of_steps = kept_of_links[-_KEPT_OF_A_BLOCK:]
            del kept_of_links[-_KEPT_OF_A_BLOCK:]
            for half in reversed(order(ctx.inverse)):
                step, place = Step(link, half, ctx.inverse), _moved(link.place(half), first)
                kept = Kept(source, *(kept_of_steps[:2] if step.is_first else kept_of_steps[2:]))
                before = needs[:first]
                if not step.is_first:
                    before = before + needs[_moved(link.place(1 - half), first)]
                needed, passes_on = needs[place], any(before)
                if any(needed) or passes_on:
                    found[place] = coupling_step.backward(
                        step, kept, grad, grad_logdet, needed, passes_on
                    )
        return grad if needs[0] else None, None, None, *found[1:]


def _complete(links: Sequence[Link], parameters: Sequence[Tensor]) -> Iterator[Link]:
    """Yield the links, each block with its own of the parameters."""
    end = 0
    for link in links:
        if isinstance(link, Block):
            start, end = end, end + link.n_parameters
            link = link._replace(parameters=parameters[start:end])
        yield link


def _moved(place: slice, by: int) -> slice:
    return slice(place.start + by, place.stop + by)


def _plain(
    links: Sequence[Link], inverse: bool, value: Tensor, *parameters: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the same from plain torch."""
    logdet = value.new_zeros(len(value))
    for link in _complete(links, parameters):
        if isinstance(link, Reordering):
            value = link(value, inverse=inverse)
            continue
        halves = [value[:, columns] for columns in link.halves(value.shape[1])]
        for half in order(inverse):
            raw_s, t = (
                reference_dense(activation, link.precision, halves[1 - half], *of_one)
                for of_one, activation in zip(link.networks(half), link.activations, strict=True)
            )
            halves[half], part = reference_affine_coupling(halves[half], raw_s, t, inverse=inverse)
            logdet = logdet + part
        value = torch.cat(halves, -1)
    return value, logdet
