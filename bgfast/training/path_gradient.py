"""Path gradients of the KL loss: log q with its parameters stopped.

The KL loss is E_z[u(x)/tau + log q(x)] with x = f(z; theta), up to a constant. theta enters log q
twice: through x, and as the parameters of the density. The second part has mean zero,
E[d log q / d theta at fixed x] = 0, and only adds noise; without it

    gradient = E_z[(dx/dtheta)^T d/dx (u(x)/tau + log q(x))],    theta of log q fixed.

It vanishes for every single sample where q is the target: there the plain gradient still scatters.
Roeder, Wu and Duvenaud, arXiv:1703.09194; Vaitl, Nicoli, Nakajima and Kessel, arXiv:2207.08219.
"""

from __future__ import annotations

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
    # Differentiated in x alone, so the parameters of this log q are constants.
    log_q, smooth = evaluate_rows(lambda at: log_prob(flow, at, tau), x, "flow.inverse")
    no_value = torch.where(smooth, log_q.detach() - log_q, 0)
    return logdet.detach() + no_value, smooth
