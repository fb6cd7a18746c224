import math

import pytest
import torch

from bgfast.training import LinLogCap

CAP = LinLogCap(e_high=100.0, e_max=1e10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_linear_then_logarithmic_then_constant(dtype):
    u = torch.tensor([-5.0, 99.0, 100.0, 101.0, 1e6, 1e10, 1e12], dtype=dtype)
    top = 100 + math.log(1e10 - 99)
    expected = [-5.0, 99.0, 100.0, 100 + math.log(2), 100 + math.log(999901), top, top]
    torch.testing.assert_close(CAP(u), torch.tensor(expected, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_is_continuous_and_never_nan(dtype):
    values = [99.0, 100.0, 101.0, 1e38, math.inf, math.nan]
    u = torch.tensor(values, dtype=dtype, requires_grad=True)
    capped = CAP(u)
    (gradient,) = torch.autograd.grad(capped.sum(), u)
    expected = torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0], dtype=dtype)
    torch.testing.assert_close(gradient[:5], expected)
    assert not gradient.isnan().any()
    assert capped[:5].isfinite().all()
    assert capped[5].isnan()


@pytest.mark.parametrize(("e_high", "e_max"), [(1e3, 1e2), (1.0, 1.0), (0.0, math.inf)])
def test_refuses_disordered_limits(e_high, e_max):
    with pytest.raises(ValueError, match="e_high < e_max"):
        LinLogCap(e_high, e_max)
