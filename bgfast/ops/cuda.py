"""How torch tensors reach a CUDA kernel: addresses, the device, torch's current stream.

torch allocates everything. A kernel is enqueued on the current stream of the tensor's device, so
memory freed after the call is safe to reuse on that stream, nothing waits, and a CUDA graph can
capture the call.
"""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor


class Place(TypedDict):
    """Where a kernel runs: arguments of :func:`bgfast_kernels.cuda.launch`."""

    device: int
    stream: int


def place(x: Tensor) -> Place:
    """Return the device of ``x`` and torch's current stream on it."""
    stream = torch.cuda.current_stream(x.device)
    return {"device": stream.device_index, "stream": stream.cuda_stream}


def packed(x: Tensor, numbers: int = 1) -> Tensor:
    """Return ``x`` contiguous and at an address that is a multiple of ``numbers`` of its numbers.

    A kernel that reads pairs of numbers by one instruction needs ``numbers=2``. It is ``x`` itself
    unless it is strided, or a slice that starts in between.
    """
    x = x.detach().contiguous()
    return x if x.data_ptr() % (numbers * x.element_size()) == 0 else x.clone()


def dtype_name(x: Tensor) -> str:
    """Return the NumPy name of the dtype of ``x``."""
    return str(x.dtype).removeprefix("torch.")
