"""Generated samples: the same for any chunk size, with weights that integrate."""

import math

import pytest
import torch

from bgfast.energies import DoubleWell, Energy
from bgfast.flows import architecture, log_prob
from bgfast.flows.execution import bfloat16_is_supported
from bgfast.sampling import generate as generate_module
from bgfast.sampling.generate import BLOCK, generate, latent_rows

needs_bfloat16 = pytest.mark.skipif(
    not bfloat16_is_supported(), reason="this processor has no bfloat16 products in oneDNN"
)


class Gaussian(Energy):
    dim = 2

    def _energy(self, x):
        return 0.5 * x.square().sum(-1)


def flow(dtype=torch.float64):
    return architecture("R2", dim=2, hidden=(8,), split="even-odd", seed=3, dtype=dtype)


def collected(chunk, n=3000, **options):
    batches = list(generate(flow(), DoubleWell(), n, seed=7, chunk=chunk, **options))
    return {
        name: torch.cat([getattr(b, name) for b in batches])
        for name in ("x", "z", "energy", "log_w")
    }


@pytest.mark.parametrize("latent", ["normal", "sobol"])
@pytest.mark.parametrize("chunk", [1, 100, BLOCK, 2999, 10_000])
def test_one_seed_gives_the_same_samples_for_any_chunk(chunk, latent):
    n = 300 if chunk == 1 else 3000
    whole = {name: rows[:n] for name, rows in collected(3000, latent=latent).items()}
    parts = collected(chunk, n=n, latent=latent)
    assert torch.equal(parts["z"], whole["z"])
    for name in ("x", "energy", "log_w"):
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-12, atol=1e-12)


def test_the_chunk_goes_by_the_device_unless_it_is_given(monkeypatch):
    energy = DoubleWell()
    monkeypatch.setattr(generate_module, "_CHUNK", {"cpu": 1000, "cuda": 7})
    for chunk, starts in ((None, [0, 1000, 2000]), (1500, [0, 1500])):
        found = list(generate(flow(), energy, 3000, seed=7, chunk=chunk))
        assert [batch.start for batch in found] == starts
    monkeypatch.undo()
    assert len(list(generate(flow(), energy, 8193))) == 2
    assert generate_module._CHUNK["cuda"] % BLOCK == 0  # no block is drawn twice


def test_a_draw_can_start_anywhere():
    late = collected(512, start=1700)
    assert torch.equal(late["z"], collected(512)["z"][1700:])


def test_rows_of_different_seeds_and_blocks_differ():
    rows = latent_rows(0, 4 * BLOCK, 2, seed=0)
    assert len(rows.unique(dim=0)) == len(rows)
    assert not torch.equal(rows, latent_rows(0, 4 * BLOCK, 2, seed=1))


def test_sobol_rows_average_better_than_independent_ones():
    def error(latent):
        means = [latent_rows(0, 4096, 2, s, latent=latent).square().mean() for s in range(20)]
        return float((torch.stack(means) - 1).square().mean().sqrt())

    assert error("sobol") < 0.1 * error("normal")


@pytest.mark.parametrize("latent", ["normal", "sobol"])
def test_latent_variance_is_tau(latent):
    rows = latent_rows(0, 2**17, 3, seed=0, tau=2.0, latent=latent)
    assert abs(float(rows.var()) - 2.0) < 0.02
    assert abs(float(rows.mean())) < 0.01


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_log_w_is_minus_u_over_tau_minus_log_q(tau):
    (batch,) = generate(flow(), DoubleWell(), 50, tau=tau, seed=1)
    expected = -batch.energy / tau - log_prob(flow(), batch.x, tau)
    torch.testing.assert_close(batch.log_w, expected.detach())


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_a_perfect_generator_has_equal_weights_that_sum_to_z(tau):
    identity = architecture("S", dim=2, dtype=torch.float64)
    (batch,) = generate(identity, Gaussian(), 1000, tau=tau)
    expected = torch.full_like(batch.log_w, math.log(2 * math.pi * tau))
    torch.testing.assert_close(batch.log_w, expected, rtol=0, atol=1e-12)


def test_weights_are_float64_for_a_float32_flow():
    (batch,) = generate(flow(torch.float32), DoubleWell(), 10)
    assert batch.x.dtype == torch.float32
    assert batch.energy.dtype == batch.log_w.dtype == torch.float64


@needs_bfloat16
def test_draws_in_bfloat16_are_reweighted_to_the_same_averages():
    # u = |x|^2 / 2 has Z = 2 pi and <|x|^2> = 2; the flow is far enough from it to need weights.
    wide = architecture("R2", dim=2, hidden=(16, 16), seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in wide.parameters():
            p.add_(0.15 * torch.randn(p.shape, generator=generator))
    draws = {}
    for bfloat16 in (False, True):
        batches = list(generate(wide, Gaussian(), 2**17, seed=2, bfloat16=bfloat16))
        x, log_w = (torch.cat([getattr(b, name) for b in batches]) for name in ("x", "log_w"))
        w = log_w.exp()
        draws[bfloat16] = x
        for found, exact in ((w, 2 * math.pi), (w * x.square().sum(-1), 4 * math.pi)):
            error = float(found.std()) / len(w) ** 0.5
            assert 1e-4 < error / exact < 0.02
            assert abs(float(found.mean()) - exact) < 4 * error
    assert float((draws[True] - draws[False]).abs().max()) > 1e-4


@pytest.mark.parametrize("bfloat16", [False, pytest.param(True, marks=needs_bfloat16)])
def test_one_seed_gives_the_same_float32_samples_for_any_chunk(bfloat16):
    wide = architecture("R2", dim=20, hidden=(64, 64), seed=3)
    with torch.no_grad():
        for p in wide.parameters():
            p.add_(0.02)

    class Wide(Gaussian):
        dim = 20

    whole, parts = (
        torch.cat([b.x for b in generate(wide, Wide(), 3000, chunk=chunk, bfloat16=bfloat16)])
        for chunk in (3000, 300)
    )
    torch.testing.assert_close(parts, whole, rtol=0, atol=2e-2 if bfloat16 else 1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.0}, "tau must be positive"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"seed": -1}, "must not be negative"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        next(generate(flow(), DoubleWell(), 10, **options))
