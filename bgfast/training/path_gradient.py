"""Path gradients of the KL loss: log q with its parameters stopped.

The KL loss is E_z[u(x)/tau + log q(x)] with x = f(z; theta), up to a constant. theta enters log q
twice: through x, and as the parameters of the density. The second part has mean zero,
E[d log q / d theta at fixed x] = 0, and only adds noise; without it

    gradient = E_z[(dx/dtheta)^T d/dx (u(x)/tau + log q(x))],    theta of log q fixed.

It vanishes for every single sample where q is the target: there the plain gradient still scatters.
Roeder, Wu and Duvenaud, arXiv:1703.09194; Vaitl, Nicoli, Nakajima and Kessel, arXiv:2207.08219.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bgfast.flows import log_prob
from bgfast.training.rows import evaluate_rows

if TYPE_CHECKING:
    from bgfast.flows import Flow


def path_logdet(
    flow: Flow, x: Tensor, logdet: Tensor, tau: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``logdet`` with the gradient of -log q(x) along the path x alone.

    Parameters
    ----------
    flow
        The flow that made ``x, logdet``; its inverse is evaluated once more.
    x
        Configurations that depend on the parameters, ``[n, dim]``.
    logdet
        log|det dx/dz|, ``[n]``; its own gradient is not used.
    tau
        Relative temperature, a number or ``[n]``.

    Returns
    -------
    logdet, smooth
        Both ``[n]``: the same values, and whether d log q / dx is finite; where it is not, it
        counts as zero.
    """
    with _constant_parameters(flow):
        log_q, smooth = evaluate_rows(lambda at: log_prob(flow, at, tau), x, "flow.inverse")
    no_value = torch.where(smooth, log_q.detach() - log_q, 0)
    return logdet.detach() + no_value, smooth


@contextmanager
def _constant_parameters(flow: Flow) -> Iterator[None]:
    """Let autograd take the parameters for constants.

    Only d log q / dx is asked for, but a layer that is one node of the graph computes every
    gradient its inputs may need. Graphs that exist already keep their parameters.
    """
    trained = [p for p in flow.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
