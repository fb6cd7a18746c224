"""On a GPU: samples are drawn, moved and weighed without waiting, with the results of the CPU."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bgfast.energies import Bias, Biased, DoubleWell, ParticleDimer
from bgfast.experiments.dimer_anneal import DimerLabelling
from bgfast.flows import architecture
from bgfast.sampling.anneal import AnnealSettings, anneal
from bgfast.sampling.anneal.device_island import run_device_island
from bgfast.sampling.anneal.device_local import DeviceLocalMoves
from bgfast.sampling.anneal.hmc import hmc
from bgfast.sampling.anneal.island import Stage
from bgfast.sampling.anneal.local import LocalMoves
from bgfast.sampling.anneal.population import Target
from bgfast.sampling.generate import generate

SETTINGS = AnnealSettings(n_samples=2000, islands=4)


def flow(device="cpu"):
    return architecture("R2", 2, (16,)).to(device)


def test_drawing_and_moving_never_waits(gpu):
    target = Target(flow(gpu), DoubleWell(2))
    rng = np.random.default_rng(0)

    def work():
        (batch,) = generate(target.flow, DoubleWell(2), 1000)
        particles = target.particles(batch.z)
        return hmc(target, particles, 0.5, 0.1, 3, rng, 600)

    work()  # kernels are compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        _, probability = work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert probability.mean() > 0.5


def test_a_population_of_labelled_particles_never_waits(gpu):
    energy = ParticleDimer(n_solvent=6)
    reference = energy.lattice_configuration(1.2).numpy().reshape(-1, 2)
    labelling = DimerLabelling(SimpleNamespace(reference=reference))
    biased = Biased(energy, energy.dimer_distance, Bias([0.8, 2.0], [0.0, 1.0]))
    target = Target(architecture("RS", energy.dim, (16,)).to(gpu), biased, labelling=labelling)
    local = DeviceLocalMoves(LocalMoves(energy, 1.0, labelling, (0.5, 2.5)), target.device)
    settings = AnnealSettings(
        n_samples=512, islands=1, draws=2, sweeps=2, final_sweeps=4, final_frames=2
    )
    stages = [Stage(0.3, 0.05, 0.1), Stage(1.0, 0.05, 0.1)]

    def work():
        return run_device_island(target, settings, stages, local, 3, lambda: None)

    work()  # kernels are compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        pending = work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pending.finished().log_weights.shape == (512,)


def test_a_seed_means_the_same_rows_in_the_large_chunks_of_a_device(gpu):
    drawn = [list(generate(flow(gpu), DoubleWell(2), 70_000, chunk=c)) for c in (None, 8192)]
    assert [len(batches) for batches in drawn] == [2, 9]
    (z, x), (small_z, small_x) = (
        [torch.cat([getattr(b, name) for b in batches]) for name in ("z", "x")] for batches in drawn
    )
    assert torch.equal(z, small_z)
    torch.testing.assert_close(x, small_x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sweeps", [0, 4])
def test_the_partition_function_is_that_of_the_cpu(gpu, sweeps):
    settings = AnnealSettings(n_samples=2000, islands=4, sweeps=sweeps, final_sweeps=sweeps)
    found = anneal(flow(gpu), DoubleWell(2), settings)
    expected = anneal(flow(), DoubleWell(2), settings)
    error = np.hypot(found.island_log_z.std(ddof=1), expected.island_log_z.std(ddof=1)) / 2
    assert abs(found.log_z.value - expected.log_z.value) < 5 * error + 0.01


def test_the_same_seed_gives_the_same_samples(gpu):
    first, second = (anneal(flow(gpu), DoubleWell(2), SETTINGS, seed=3) for _ in range(2))
    assert np.array_equal(first.x, second.x)
    assert np.array_equal(first.log_w, second.log_w)


@pytest.fixture(params=["bfloat16", "tf32"])
def rounded(request):
    """Draw with rounded products: by bgfast's option, or by torch's for all of float32."""
    before = torch.get_float32_matmul_precision()

    def batches(trained, coarse):
        if request.param == "bfloat16":
            return list(generate(trained, DoubleWell(2), 400_000, bfloat16=coarse))
        torch.set_float32_matmul_precision("high" if coarse else "highest")
        return list(generate(trained, DoubleWell(2), 400_000))

    yield batches
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("letters", ["R2", "QN"])
def test_rounded_conditioners_leave_weights_exact(gpu, letters, rounded):
    trained = architecture(letters, 2, (64,))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # far from the identity, so that rounding the networks matters
        for parameter in trained.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    trained = trained.to(gpu)
    means, errors, drawn = [], [], []
    for coarse in (False, True):
        batches = rounded(trained, coarse)
        w = torch.cat([b.log_w for b in batches]).exp()
        means.append(w.mean().item())
        errors.append(w.std().item() / len(w) ** 0.5)
        drawn.append(batches[0].x)
    assert not torch.equal(*drawn)
    assert errors[1] < 0.1 * means[1]
    assert abs(means[0] - means[1]) < 5 * np.hypot(*errors)
