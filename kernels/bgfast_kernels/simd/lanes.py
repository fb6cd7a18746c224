"""The numba type of a vector that fills one SIMD register."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

WIDTH_BYTES = 64


class Lanes(types.Type):  # type: ignore[misc]
    """A vector of floats that fills ``WIDTH_BYTES``."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.count = WIDTH_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Lanes({dtype} x {self.count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        element = ir.FloatType() if lanes.dtype == types.float32 else ir.DoubleType()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


@intrinsic  # type: ignore[untyped-decorator]
def lanes_in(typing_context: Any, array: Any) -> Any:
    """Return how many numbers of the array's dtype one vector holds, a compile-time constant."""

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.get_constant(types.intp, Lanes(array.dtype).count)

    return types.intp(array), emit


def splat(context: Any, builder: Any, lanes: Lanes, scalar: Any) -> Any:
    """Emit a vector whose every lane is ``scalar``."""
    undefined = ir.Constant(context.get_value_type(lanes), ir.Undefined)
    single = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, undefined, shuffle_mask([0] * lanes.count))


def shuffle_mask(indices: Sequence[int]) -> Any:
    """Return the constant that tells ``shufflevector`` which lanes to take."""
    return ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), list(indices))
