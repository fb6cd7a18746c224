"""The dense network in plain torch: the reference, and what differentiates gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

# tanh and relu need only their result for the backward pass, and a linear layer does not need its
# own output: working in place is exact under autograd too, and saves a pass over memory.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh_,
    "relu": torch.relu_,
    "silu": functional.silu,
}


def plain_dense(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: str,
) -> Tensor:
    """Map ``x[n, n_in]`` to ``[n, n_out]``, with an activation after every layer but the last."""
    activate = ACTIVATIONS[activation]
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = activate(functional.linear(x, weight, bias))
    return functional.linear(x, weights[-1], biases[-1])


def traced_gradients(
    function: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    needs: Sequence[bool],
    *grads: Tensor,
) -> list[Tensor | None]:
    """Return the gradients of ``function(*inputs)``, known to autograd, in the inputs needed.

    One tensor may be several inputs, or one may come from another: each gets the gradient in itself
    alone.
    """
    apart = [t.view_as(t) for t in inputs]
    results = function(*apart)
    results = (results,) if isinstance(results, Tensor) else results
    pairs = [pair for pair in zip(results, grads, strict=True) if pair[0].requires_grad]
    # Inputs may have been frozen since they were used.
    needs = [need and t.requires_grad for t, need in zip(apart, needs, strict=True)]
    if not (pairs and any(needs)):
        return [None] * len(apart)
    wanted = [t for t, need in zip(apart, needs, strict=True) if need]
    of_results, by_results = zip(*pairs, strict=True)
    found = iter(
        torch.autograd.grad(of_results, wanted, by_results, create_graph=True, allow_unused=True)
    )
    return [next(found) if need else None for need in needs]
