import itertools

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu, get

from bgfast.ops.assignment import assign, is_canonical, relabel


def sample(n, dtype=np.float64, seed=0):
    arguments = get("assignment").sample(np.random.default_rng(seed), n, dtype)
    return torch.as_tensor(arguments["x"]), torch.as_tensor(arguments["reference"])


def total(x, reference, perm):
    matched = torch.take_along_dim(x, perm[..., None], dim=-2)
    return ((matched.double() - reference.double()) ** 2).sum((-1, -2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_permutations_are_those_of_scipy(dtype):
    x, reference = sample(400, dtype)
    torch.testing.assert_close(assign(x, reference), assign(x, reference, backend="torch"))


@pytest.mark.parametrize(("n", "dim"), [(1, 2), (5, 1), (7, 3), (8, 2), (9, 2), (17, 4)])
def test_any_particle_number_and_dimension(n, dim):
    x = torch.randn(200, n, dim, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    reference = x[0].flip(0) * 0.7
    perm = assign(x, reference)
    torch.testing.assert_close(perm, assign(x, reference, backend="torch"))


def test_no_permutation_is_cheaper():
    x = torch.randn(20, 5, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    reference = torch.randn(5, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    best = total(x, reference, assign(x, reference))
    every = [total(x, reference, torch.tensor([p] * 20)) for p in itertools.permutations(range(5))]
    torch.testing.assert_close(best, torch.stack(every).min(0).values)


def test_ties_still_give_a_best_permutation():
    axis = torch.arange(4.0, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    x = (grid + torch.tensor([0.5, 0.5])).expand(3, -1, -1)
    perm = assign(x, grid)
    assert (perm.sort(-1).values == torch.arange(16)).all()
    scipy = assign(x, grid, backend="torch")
    torch.testing.assert_close(total(x, grid, perm), total(x, grid, scipy))


def test_equal_particles_keep_their_labels():
    x = torch.zeros(2, 6, 2)
    assert (assign(x, torch.zeros(6, 2)) == torch.arange(6)).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200])
@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_rows_out_of_range_keep_their_labels_and_do_not_touch_others(value, backend):
    x, reference = sample(6)
    clean = assign(x, reference)
    x[4, 7, 1] = value
    perm = assign(x, reference, backend=backend)
    assert (perm[4] == torch.arange(36)).all()
    keep = torch.arange(6) != 4
    assert torch.equal(perm[keep], clean[keep])


def test_threads_do_not_change_the_result():
    x, reference = sample(2000)
    try:
        cpu.set_threads(1)
        one = assign(x, reference)
        cpu.set_threads(3)
        assert torch.equal(assign(x, reference), one)
    finally:
        cpu.set_threads(None)


def test_opcheck_vmap_and_compile():
    x, reference = sample(6)
    torch.library.opcheck(torch.ops.bgfast.assignment, (x, reference, "numba"))
    perm = assign(x, reference)
    assert torch.equal(torch.vmap(assign, in_dims=(0, None))(x, reference), perm)
    references = reference + torch.arange(6.0)[:, None, None]
    both = torch.vmap(assign)(x, references)
    assert torch.equal(both[3], assign(x[3], references[3]))
    compiled = torch.compile(assign, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, reference), perm)


def flat_sample(n):
    x, reference = sample(n)
    dimer = torch.tensor([[-0.5, 0.0], [0.5, 0.0]], dtype=x.dtype)
    flat = torch.cat([dimer.expand(n, 2, 2), x], dim=1).flatten(1)
    return flat, torch.cat([dimer, reference]).flatten()


def test_relabel_moves_the_solvent_only_and_its_result_is_canonical():
    x, reference = flat_sample(50)
    relabelled, perm = relabel(x.reshape(5, 10, -1), reference)
    assert relabelled.shape == (5, 10, 76)
    assert perm.shape == (5, 10, 36)
    assert torch.equal(relabelled[..., :4], x.reshape(5, 10, -1)[..., :4])
    assert torch.equal(relabelled.sort(-1).values, x.reshape(5, 10, -1).sort(-1).values)
    assert is_canonical(relabelled, reference).all()
    assert not is_canonical(x, reference)[25:].any()


def test_relabel_carries_gradients_to_the_particles_they_belong_to():
    x, reference = flat_sample(3)
    weights = torch.linspace(-1.0, 1.0, 76, dtype=x.dtype)
    assert torch.autograd.gradcheck(
        lambda x: relabel(x, reference)[0] @ weights, x.requires_grad_()
    )


def test_a_row_that_is_not_finite_is_not_canonical():
    _, reference = flat_sample(2)
    x = reference.repeat(2, 1)
    x[1, 0] = float("nan")
    assert is_canonical(x, reference).tolist() == [True, False]


@pytest.mark.parametrize(
    ("x", "reference", "error", "message"),
    [
        (torch.zeros(3, 4, 2), torch.zeros(5, 2), ValueError, r"x must have shape \[..., 5, 2\]"),
        (torch.zeros(4, 2), torch.zeros(8), ValueError, "reference must have shape"),
        (torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4, 2), TypeError, "x must be a float32"),
        (torch.zeros(4, 2), [[0.0, 0.0]], TypeError, "reference must be a float32"),
    ],
)
def test_bad_input_is_named(x, reference, error, message):
    with pytest.raises(error, match=message):
        assign(x, reference)


def test_relabel_names_bad_input():
    with pytest.raises(ValueError, match="multiple of n_dim = 3"):
        relabel(torch.zeros(4, 8), torch.zeros(8), n_dim=3)
    with pytest.raises(ValueError, match=r"x must have shape \[..., 8\]"):
        relabel(torch.zeros(4, 6), torch.zeros(8))
    with pytest.raises(ValueError, match="n_fixed must be an integer"):
        relabel(torch.zeros(4, 8), torch.zeros(8), n_fixed=-1)
