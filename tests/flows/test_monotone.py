"""The one-dimensional flow: any increasing map, solved exactly in the other direction."""

import math

import pytest
import torch

from bgfast.flows import Monotone, architecture, log_prob


def steep(dtype=torch.float64, dim=1):
    """Three steps of a two-peaked density, all but flat in between."""
    flow = Monotone(dim, (3,), dtype=dtype)
    with torch.no_grad():
        flow.log_slope.fill_(math.log(1e-4))
        flow.log_height.copy_(torch.tensor([1.5, 2.0, 1.0], dtype=dtype).log())
        flow.centre.copy_(torch.tensor([-2.5, -1.7, 1.7], dtype=dtype))
        flow.log_width.fill_(math.log(0.2))
    return flow


def test_closed_form_in_one_dimension():
    x = torch.tensor([[-1.6], [0.3]], dtype=torch.float64)
    expected = [
        1e-4 * v + sum(h * math.tanh((v - c) / 0.2) for h, c in ((1.5, -2.5), (2, -1.7), (1, 1.7)))
        for v in x.flatten().tolist()
    ]
    assert steep().inverse(x)[0].flatten().tolist() == pytest.approx(expected, abs=1e-14)


def test_the_density_integrates_to_one():
    x = torch.linspace(-6, 6, 200_001, dtype=torch.float64)[:, None]
    p = log_prob(steep(), x).exp().detach()
    assert float(torch.trapezoid(p, x[:, 0])) == pytest.approx(1, abs=1e-5)
    assert float(p[(x[:, 0].abs() < 0.5)].max()) < 1e-4 < 0.2 < float(p.max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_latents_and_flat_stretches_are_solved_to_rounding(dtype):
    flow = steep(dtype)
    z = torch.cat([torch.linspace(-8, 8, 2001), torch.tensor([-1e3, 1e3])]).to(dtype)[:, None]
    x, logdet = flow.forward(z)
    back, inverse_logdet = flow.inverse(x)
    tolerance = 8 * torch.finfo(dtype).eps
    torch.testing.assert_close(back, z, rtol=tolerance, atol=5 * tolerance)
    torch.testing.assert_close(inverse_logdet, -logdet, rtol=0, atol=1e-12)
    assert (x.diff(dim=0)[:2000] > 0).all()


def test_coordinates_do_not_mix():
    flow = architecture("M", 3, hidden=(4,), dtype=torch.float64)
    z = torch.zeros(3, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda v: flow.forward(v)[0])(z)
    assert torch.equal(jacobian, jacobian.diagonal().diag())


def test_a_new_layer_is_nearly_the_identity():
    z = torch.linspace(-2.5, 2.5, 101)[:, None]
    x, _ = architecture("M", 1, hidden=(32,))(z)
    assert (x - z).abs().max() < 0.15


def test_a_width_of_zero_is_refused():
    with pytest.raises(ValueError, match="hidden must be positive, got"):
        Monotone(1, (4, 0))
