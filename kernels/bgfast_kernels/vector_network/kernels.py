"""Which kernels work on which numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

from bgfast_kernels.vector_network import bfloat16_packing, packing
from bgfast_kernels.vector_network.backward import backward
from bgfast_kernels.vector_network.bfloat16_backward import backward as bfloat16_backward
from bgfast_kernels.vector_network.bfloat16_forward import forward as bfloat16_forward
from bgfast_kernels.vector_network.forward import forward
from bgfast_kernels.vector_network.layout import ROUNDED, WHOLE


class Kernels(NamedTuple):
    """Packing and both passes; the kernels of each take the same arguments."""

    pack_forward: Any
    forward: Any
    pack_backward: Any
    backward: Any


def kernels(parts: int) -> Kernels:
    """Return those for numbers of so many parts."""
    return _KERNELS[parts]


_KERNELS = {
    WHOLE: Kernels(packing.pack_forward, forward, packing.pack_backward, backward),
    ROUNDED: Kernels(
        bfloat16_packing.pack_forward,
        bfloat16_forward,
        bfloat16_packing.pack_backward,
        bfloat16_backward,
    ),
}
