"""RealNVP blocks and permutations in a row as one autograd node.

The nodes and tensors of all the parts take time that small batches feel, and each would copy its
rows; here a block writes its result where the next one reads it, and the kernels of all blocks are
launched together.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from bgfast_kernels.coupling.reordering import put_columns, take_columns
from bgfast_kernels.cpu import run_together
from bgfast_kernels.network import Packed
from numpy.typing import NDArray
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

    def by_kernel(self, rows: Tensor, result: Tensor, *, inverse: bool) -> None:
        """Write contiguous float32 rows in the other order."""
        take_columns(rows.numpy(), _numbers(self.columns(inverse=inverse)), result.numpy())


Link = Block | Reordering
_MOST_ROWS_TOGETHER = 2**14  # more gain nothing, and an interrupt would not be heard for long
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
    packed_now: dict[Any, Any] = {}

    def packed(link: Block, half: int) -> Packed:
        networks = link.networks(half)
        key = ("pair", link.precision, *networks[0], *networks[1])
        found: Packed | None = store.get(key) or packed_now.get(key)
        if found is None:
            found = packed_now[key] = pack(networks, link.precision, passing=False)
        return found

    def run_links() -> tuple[Tensor, Tensor]:
        logdet = value.new_zeros(len(value))
        memory = np.empty(2 * value.numel(), np.float32)  # for what any step's two networks give
        source, spare = in_memory(value).contiguous(), None
        may_change = source is not value
        for link in links:
            if may_change and isinstance(link, Block):
                target = source
            else:
                target = torch.empty_like(source) if spare is None else spare
                spare = source if may_change else None
            if isinstance(link, Reordering):
                link.by_kernel(source, target, inverse=inverse)
            else:
                for half in order(inverse):
                    step = Step(link, half, inverse)
                    of_step = packed(link, half)
                    coupling_step.forward(step, of_step, source, target, logdet, memory=memory)
            source, may_change = target, True
        return source, logdet

    result = run_together(run_links, noting=len(value) <= _MOST_ROWS_TOGETHER)
    store.update(packed_now)  # not before the kernels have run
    return result


class _Chain(torch.autograd.Function):
    """``apply(value, links as they follow, without parameters, inverse, *parameters)``."""

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, links: Sequence[Link], inverse: bool, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.links, ctx.inverse = links, inverse
        body = functools.partial(_keeping, value, links, inverse, parameters)
        y, logdet, kept_of_links = run_together(body, noting=len(value) <= _MOST_ROWS_TOGETHER)
        ctx.save_for_backward(value, *parameters, *kept_of_links)
        return y, logdet

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
        body = functools.partial(
            _gradients,
            list(_complete(ctx.links, inputs[1:])),
            ctx.inverse,
            needs,
            kept_of_links,
            grad,
            in_memory(grad_logdet),
        )
        grads = run_together(body, noting=len(grad) <= _MOST_ROWS_TOGETHER)
        return grads[0], None, None, *grads[1:]


def _keeping(
    value: Tensor, links: Sequence[Link], inverse: bool, parameters: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Map ``value[n, dim]``; return also what :func:`_gradients` needs of all links."""
    logdet = value.new_zeros(len(value))
    kept_of_links: list[Tensor] = []
    source = in_memory(value.detach()).contiguous()
    for link in _complete(links, parameters):
        if isinstance(link, Reordering):
            given, source = source, torch.empty_like(source)
            link.by_kernel(given, source, inverse=inverse)
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
    return source, logdet, kept_of_links


def _gradients(
    links: Sequence[Link],
    inverse: bool,
    needs: Sequence[bool],
    kept_of_links: list[Tensor],
    grad: Tensor,
    grad_logdet: Tensor,
) -> list[Tensor | None]:
    """Return the gradients of the value and of all parameters, ``None`` where nobody ``needs`` it.

    ``grad``, that of the result, is overwritten, and ``kept_of_links`` is empty in the end.
    """
    found: list[Tensor | None] = [None] * len(needs)
    first = len(needs)
    memory = grad.new_empty(2 * grad.numel())  # for what any step's two networks gave
    for link in reversed(links):
        if isinstance(link, Reordering):
            given, grad = grad, torch.empty_like(grad)
            put_columns(given.numpy(), _numbers(kept_of_links.pop()), grad.numpy())
            continue
        first -= len(link.parameters)
        source, *kept_of_steps = kept_of_links[-_KEPT_OF_A_BLOCK:]
        del kept_of_links[-_KEPT_OF_A_BLOCK:]
        for half in reversed(order(inverse)):
            step, place = Step(link, half, inverse), _moved(link.place(half), first)
            kept = Kept(source, *(kept_of_steps[:2] if step.is_first else kept_of_steps[2:]))
            before = list(needs[:first])
            if not step.is_first:
                before += needs[_moved(link.place(1 - half), first)]
            needed, passes_on = needs[place], any(before)
            if any(needed) or passes_on:
                found[place] = coupling_step.backward(
                    step, kept, grad, grad_logdet, needed, passes_on, memory
                )
    found[0] = grad if needs[0] else None
    return found


def _complete(links: Sequence[Link], parameters: Sequence[Tensor]) -> Iterator[Link]:
    """Yield the links, each block with its own of the parameters."""
    end = 0
    for link in links:
        if isinstance(link, Block):
            start, end = end, end + link.n_parameters
            link = link._replace(parameters=parameters[start:end])
        yield link


def _numbers(columns: Tensor) -> NDArray[np.int64]:
    if columns.dtype not in (torch.int32, torch.int64):
        raise RuntimeError(f"index of a permutation must be int32 or int64, got {columns.dtype}")
    return columns.long().contiguous().numpy()


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
