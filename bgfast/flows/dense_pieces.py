"""The dense network without autograd on the CPU, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def dense_in_pieces(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activate: Callable[[Tensor], Tensor],
    rows: int,
) -> Tensor:
    """Map ``x[n, n_in]`` to ``[n, n_out]``, about ``rows`` rows at a time.

    Hidden activations are written over those of the piece before, which are in a core's cache
    still: no memory is taken anew. The bits are those of ``functional.linear``, which writes the
    bias to memory first and adds the product to it; adding it afterwards is faster.

    Parameters
    ----------
    x
        Inputs, unknown to autograd.
    weights, biases
        Of every layer, ``[widths[i + 1], widths[i]]`` and ``[widths[i + 1]]``.
    activate
        Activation after every layer but the last; must work in place.
    rows
        Pieces are equal parts of ``x`` of about this size: none has just a few rows, whose products
        would round differently.
    """
    n_pieces = max(1, round(len(x) / rows))
    pieces = x.tensor_split(n_pieces) if n_pieces > 1 else (x,)
    largest = len(pieces[0])
    hidden = [x.new_empty(largest, len(weight)) for weight in weights[:-1]]
    result = x.new_empty(len(x), len(weights[-1]))
    start = 0
    for piece in pieces:
        n, whole = len(piece), len(piece) == largest
        for weight, bias, memory in zip(weights[:-1], biases[:-1], hidden, strict=True):
            part = memory if whole else memory[:n]
            torch.mm(piece, weight.t(), out=part)
            piece = activate(part.add_(bias))
        out = result if n_pieces == 1 else result[start : start + n]
        torch.mm(piece, weights[-1].t(), out=out).add_(biases[-1])
        start += n
    return result
