"""How exact a spline can be: what rounding its inputs does to it in float64."""

import torch

from bgfast.ops.spline_reference import reference_spline
from tests.cases import moved_by_rounding

# Of values and gradients relative to the largest of a row, and how many times the roundings of the
# inputs come on top. The reference rounds its knots: in float64 that is most of the difference.
TOLERANCES = {torch.float32: (1e-6, 2e-6, 5.0), torch.float64: (1e-13, 1e-13, 25.0)}


def with_gradients(function, x, raw, grad_value, grad_logdet, bound, inverse):
    """Return value, log-determinant, and the gradients by x and raw, of a spline function."""
    x, raw = x.detach().requires_grad_(), raw.detach().requires_grad_()
    value, logdet = function(x, raw, bound, inverse)
    grads = torch.autograd.grad([value, logdet], [x, raw], [grad_value, grad_logdet])
    return value.detach(), logdet.detach(), *grads


def assert_exact_to_rounding(found, x, raw, grad_value, grad_logdet, bound, inverse):
    """Compare what ``with_gradients`` returned, or a kernel in its place, with float64.

    A steep spline turns the rounding of its input into an error no algorithm can avoid: at a bin of
    width w, gradients feel x at the scale of w. So the error may be a small multiple of what
    rounding the inputs does, which is measured, beside the rounding of the result.
    """
    outer = grad_value.double(), grad_logdet.double()

    def exact(x, raw):
        return with_gradients(reference_spline, x, raw, *outer, bound, inverse)

    wanted, moved = moved_by_rounding(exact, (x, raw))
    value, gradient, roundings = TOLERANCES[x.dtype]
    names, tolerances = ("value", "logdet", "by x", "by raw"), (value, value, gradient, gradient)
    for name, f, e, m, tolerance in zip(names, found, wanted, moved, tolerances, strict=True):
        size = _of_rows(e)
        size = size + x.shape[-1] if name == "logdet" else size.clamp(min=0.1 * size.max())
        excess = _of_rows(f.double() - e) / (tolerance * size + roundings * _of_rows(m))
        assert excess.max() <= 1.0, f"{name}: {excess.max():.2g} times what is allowed"


def _of_rows(t):
    return t.abs().flatten(1).amax(1) if t.ndim > 1 else t.abs()
