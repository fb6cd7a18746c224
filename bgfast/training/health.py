"""Stop when numbers that are not finite are the rule, or the flow is no longer invertible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bgfast.errors import TrainingError

if TYPE_CHECKING:
    from bgfast.flows import Flow

_ADVICE = (
    "lower lr or clip, or train longer by example (w_ml) before by energy, and check that the "
    "energy is finite for every finite x; raise max_nonfinite only if such rows are expected"
)

_INVERSE_ROWS = 256
_INVERSE_LIMIT = 0.1
"""Largest median error of a latent vector sent through the flow and back.

float32 flows that trained well were seen at 1e-7 to 1e-6, one that had broken down at 3.
"""


def stop_if_rows_are_bad(shares: Tensor, step: int, limit: float) -> None:
    """Raise if a step had to leave out too many rows.

    Parameters
    ----------
    shares
        Share of the rows left out in each of the last steps, ``[n_steps]``.
    step
        Number of steps done.
    limit
        Largest share allowed.

    Raises
    ------
    TrainingError
        Naming the first such step and its share.
    """
    too_many = (shares > limit).nonzero()
    if len(too_many):
        at = int(too_many[0])
        raise TrainingError(
            f"step {step - len(shares) + at}: {shares[at]:.0%} of the rows have a non-finite "
            f"energy, configuration or log-determinant, more than max_nonfinite = {limit:.0%}; "
            f"{_ADVICE}"
        )


def stop_if_steps_are_skipped(skipped: Tensor, step: int, at_least: int, limit: float) -> None:
    """Raise if too many steps had a gradient that was not finite.

    Parameters
    ----------
    skipped
        1 for each of the last steps without an update, else 0, ``[n_steps]``.
    step
        Number of steps done.
    at_least
        Fewest steps the share refers to, so that one step of a short stage does not stop a run.
    limit
        Largest share allowed.

    Raises
    ------
    TrainingError
        Naming the steps and how many were skipped.
    """
    n_skipped = int(skipped.sum())
    if n_skipped > limit * max(len(skipped), at_least):
        raise TrainingError(
            f"steps {step - len(skipped)} to {step - 1}: {n_skipped} had a non-finite gradient "
            f"and were skipped, more than max_nonfinite = {limit:.0%}; {_ADVICE}"
        )


def inverse_error(flow: Flow, z: Tensor) -> Tensor:
    """Return the median over rows of max |z - inverse(forward(z))|, where the flow is.

    Training by energy rewards a large log-determinant. A flow stretched so far that its dtype
    cannot resolve it any more gains it without spreading anything: losses below the true minimum
    and wrong weights, and the way back is lost.

    Parameters
    ----------
    z
        Latent vectors, ``[n, dim]``; the first few hundred are used.
    """
    z = z[:_INVERSE_ROWS]
    with torch.no_grad():
        back, _ = flow.inverse(flow.forward(z)[0])
    return (back - z).abs().amax(-1).nan_to_num(nan=torch.inf).median()


def stop_if_not_invertible(error: float, step: int) -> None:
    """Raise if latent vectors do not come back from the flow.

    Raises
    ------
    TrainingError
        Naming the step and the error.
    """
    if error > _INVERSE_LIMIT:
        raise TrainingError(
            f"step {step}: the flow is no longer invertible in its precision (median "
            f"|z - inverse(forward(z))| = {error:.2g}), so its log-determinant means nothing; "
            "lower lr or clip, train longer by example (w_ml) before by energy, or use float64"
        )
