"""The torch face of every op: public function, float64 reference, what can be differentiated.

The contract tests iterate over :data:`TORCH_OPS`; registering an op here (and its
:class:`bgfast_kernels.KernelSpec`) is all it takes to be covered by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

TORCH_OPS: dict[str, TorchOp] = {}

RawCalls = Callable[..., Sequence[tuple[Any, tuple[Any, ...]]]]


def _no_raw_calls(**arguments: Any) -> Sequence[tuple[Any, tuple[Any, ...]]]:
    return ()


@dataclass(frozen=True)
class TorchOp:
    """How torch calls an op.

    Parameters
    ----------
    name
        Name of the op in :mod:`bgfast_kernels`.
    function
        Public function; takes the arguments of ``KernelSpec.sample`` as tensors, and ``backend=``.
    reference
        Plain torch function of the same arguments, independent of the kernels.
    differentiable
        Names of the arguments that gradients flow to; empty if the op has no derivative.
    rowwise
        Whether row i of the output depends on row i of the inputs alone, so that any leading batch
        dimensions, vmap and NaN isolation make sense.
    may_overflow
        Whether finite inputs near the largest number may give an infinite result, as a product
        does; otherwise every finite input gives a finite value and gradient.
    raw_calls
        Takes the arguments of ``function``, returns pairs of a ``torch.ops.bgfast`` overload and
        the positional arguments it is called with, for ``torch.library.opcheck``; no such op, no
        pairs.
    """

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    differentiable: tuple[str, ...] = ()
    rowwise: bool = True
    may_overflow: bool = False
    raw_calls: RawCalls = _no_raw_calls


def register(op: TorchOp) -> TorchOp:
    """Add ``op`` to :data:`TORCH_OPS`."""
    TORCH_OPS[op.name] = op
    return op


def as_tensors(arguments: dict[str, Any]) -> dict[str, Any]:
    """Turn the NumPy arrays among ``arguments`` into tensors."""
    return {k: torch.as_tensor(v) if hasattr(v, "__array__") else v for k, v in arguments.items()}
