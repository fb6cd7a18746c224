"""The CUDA kernels of the fast Gauss transform; ``bgfast.ops`` strings them together.

Sorting and prefix sums are left to the array library that owns the memory. All arrays are given by
their device addresses; see the ``.cuh`` files for what each kernel reads and writes.
"""

from __future__ import annotations

import math

import numpy as np

from bgfast_kernels import cuda
from bgfast_kernels.kde.far import MARGIN
from bgfast_kernels.kde.tables import HALF_WIDTH, INTERACTION, NEAR, REACH, TERMS

CHUNK = 256
"""Sources one warp walks over."""

_BLOCK = 128
_MOST_BLOCKS = 2048  # of kernels that loop over boxes, whose number the host does not know

TRANSFORM = cuda.Program(
    "kde/gauss_transform.cuh",
    "float64",
    (("TERMS", TERMS), ("NEAR", NEAR), ("REACH", REACH), ("CHUNK", CHUNK), ("BLOCK", _BLOCK)),
)
FAR = cuda.Program("kde/far.cuh", "float64", (("BLOCK", _BLOCK),))


def programs() -> dict[str, cuda.Program]:
    """Return the programs by label."""
    return {"kde gauss_transform float64": TRANSFORM, "kde far float64": FAR}


def box_width(bandwidth: float) -> float:
    """Return the width of the boxes."""
    return 2 * HALF_WIDTH * bandwidth


def box_images(length: float, bandwidth: float) -> int:
    """Return how many images of an interval interact with it, on either side."""
    return math.ceil(INTERACTION * bandwidth / length)


def far_images(length: float, bandwidth: float) -> int:
    """Return how many images matter, on either side, to a target far from all weight.

    Image k lies at least ``(|k| - 1) length`` away, its source at most ``length``: beyond, a term
    of an image is below ``exp(-MARGIN)`` of its source's.
    """
    return 1 + math.ceil(math.sqrt(1 + 2 * MARGIN * (bandwidth / length) ** 2))


class Launcher:
    """Launches kernels of one program on one device and stream.

    Parameters
    ----------
    program
        :data:`TRANSFORM` or :data:`FAR`.
    device, stream
        See :func:`bgfast_kernels.cuda.launch`.
    """

    def __init__(self, program: cuda.Program, device: int, stream: int) -> None:
        self.program, self.device, self.stream = program, device, stream

    def per_item(self, kernel: str, n: int, *arguments: np.generic) -> None:
        """Launch with a thread for each of ``n`` items."""
        self._launch(kernel, -(-n // _BLOCK), arguments)

    def per_warp(self, kernel: str, n: int, *arguments: np.generic) -> None:
        """Launch with a warp for each of ``n`` items."""
        self._launch(kernel, -(-n * 32 // _BLOCK), arguments)

    def over_boxes(self, kernel: str, most: int, *arguments: np.generic) -> None:
        """Launch a kernel whose warps loop over at most ``most`` boxes."""
        self._launch(kernel, min(_MOST_BLOCKS, -(-most * 32 // _BLOCK)), arguments)

    def _launch(self, kernel: str, grid: int, arguments: tuple[np.generic, ...]) -> None:
        cuda.launch(
            self.program,
            kernel,
            grid=grid,
            block=_BLOCK,
            arguments=arguments,
            device=self.device,
            stream=self.stream,
        )
