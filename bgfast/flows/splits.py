"""How the coordinates are divided into the two halves of a coupling block.

A split is an order of the coordinates, first half first, and the size of that half. Blocks then cut
contiguous halves, which costs nothing; :class:`Permutation` changes from one order to the next, and
is needed only where the split changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bgfast.flows.base import Flow
from bgfast.flows.coupling_chain import Reordering

SPLITS = ("even-odd", "particle")


class Permutation(Flow):
    """Reorder coordinates: ``x[..., j] = z[..., index[j]]``.

    Parameters
    ----------
    index
        A permutation of ``0..dim-1``, kept in a buffer.

    Raises
    ------
    ValueError
        If ``index`` is not a permutation.
    """

    index: Tensor
    inverse_index: Tensor

    def __init__(self, index: Tensor) -> None:
        super().__init__(index.numel())
        if not torch.equal(index.sort().values, torch.arange(self.dim)):
            raise ValueError(f"index must be a permutation of 0..{self.dim - 1}")
        self.register_buffer("index", index.clone())
        self.register_buffer("inverse_index", index.argsort())

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return z.index_select(-1, self.index), z.new_zeros(z.shape[0])

    def _inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.index_select(-1, self.inverse_index), x.new_zeros(x.shape[0])

    def _link(self, value: Tensor) -> Reordering | None:
        if not self._is_just(Permutation):
            return None
        return Reordering(self.index, self.inverse_index)


@dataclass(frozen=True)
class Split:
    """Order of the coordinates, first half first, and the size of that half."""

    order: Tensor
    n_first: int


def make_split(kind: str, dim: int, n_dim: int, generator: torch.Generator) -> Split:
    """Divide ``dim`` coordinates into two halves.

    Parameters
    ----------
    kind
        ``"even-odd"``: coordinates 0, 2, 4, ... and 1, 3, 5, ... (as published).
        ``"particle"``: a random half of the particles, all coordinates of a particle together.
    dim
        Number of coordinates.
    n_dim
        Coordinates per particle; used by ``"particle"`` only.
    generator
        Source of the random halves.

    Raises
    ------
    ValueError
        If ``kind`` is unknown, or ``dim`` cannot be divided.
    """
    if kind not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {kind!r}")
    if dim < 2:
        raise ValueError(f"coupling layers need dim >= 2 to have two halves, got {dim}")
    if kind == "even-odd":
        coordinates = torch.arange(dim)
        return Split(torch.cat((coordinates[0::2], coordinates[1::2])), (dim + 1) // 2)
    if n_dim < 1 or dim % n_dim or dim // n_dim < 2:
        raise ValueError(
            f'split="particle" needs dim = n_dim * (at least 2 particles), '
            f"got dim={dim}, n_dim={n_dim}"
        )
    n_particles = dim // n_dim
    shuffled = torch.randperm(n_particles, generator=generator)
    n_half = (n_particles + 1) // 2
    # Sorted within each half: neighbouring particles stay neighbours in memory.
    particles = torch.cat((shuffled[:n_half].sort().values, shuffled[n_half:].sort().values))
    order = (particles[:, None] * n_dim + torch.arange(n_dim)).reshape(-1)
    return Split(order, n_half * n_dim)


def reorder(current: Tensor, wanted: Tensor) -> Permutation | None:
    """Permutation from coordinate order ``current`` to ``wanted``; ``None`` if they are equal."""
    if torch.equal(current, wanted):
        return None
    return Permutation(current.argsort()[wanted])
