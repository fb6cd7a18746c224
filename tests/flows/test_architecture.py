"""Architecture strings, configurations and checkpoints."""

from itertools import pairwise

import pytest
import torch

from bgfast.flows import (
    LAYERS,
    NICE,
    SPLITS,
    Permutation,
    RealNVP,
    Scaling,
    Sequential,
    Whitening,
    architecture,
    describe,
    from_config,
    n_parameters,
)
from bgfast.flows.parser import parse


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("R", "R"),
        ("R4", "RRRR"),
        ("R10", "R" * 10),
        ("N10S", "N" * 10 + "S"),
        ("(RN)2", "RNRN"),
        ("((RN)2S)2R", "RNRNSRNRNSR"),
        ("(R)3", "RRR"),
        ("RRNN", "RRNN"),
    ],
)
def test_strings_of_the_slides_are_understood(spec, layers):
    assert "".join(parse(spec, LAYERS)) == layers


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "at least one layer"),
        ("R8X2", r"character 3, 'X': no such layer; there are M, N, Q, R, S"),
        ("r8", r"character 1, 'r': no such layer"),
        ("R 8", r"character 2, ' ': no such layer"),
        ("8R", r"character 1, '8': a number must follow"),
        ("(2R)", r"character 2, '2': a number must follow"),
        ("R0", r"character 2, '0': a repeat number starts at 1"),
        ("R)2", r"character 2, '\)': closes no parenthesis"),
        ("R()2", r"character 3, '\)': closes an empty group"),
        ("N(R2(S)", r"character 2, '\(': is never closed"),
        ("R9999999999999", r"character 14, '9': makes more than 1000 layers"),
        ("((R100)100)100", r"makes more than 1000 layers"),
        ("R²", r"character 2, '²': no such layer"),
    ],
)
def test_a_wrong_string_is_answered_with_its_wrong_character(spec, words):
    with pytest.raises(ValueError, match=words):
        architecture(spec, 4)


def kinds(flow):
    return [type(f) for f in flow.flows]


def test_the_string_reads_from_x_to_z():
    flow = architecture("N2S", 4, hidden=(4,))
    assert kinds(flow) == [Scaling, Permutation, NICE, NICE, Permutation]


def test_coordinates_are_permuted_only_where_the_split_changes():
    even_odd = architecture("R4", 8, hidden=(4,))
    assert kinds(even_odd) == [Permutation, *[RealNVP] * 4, Permutation]
    particle = architecture("R4", 20, hidden=(4,), split="particle")
    assert kinds(particle) == [Permutation, RealNVP] * 4 + [Permutation]


@pytest.mark.parametrize(("dim", "n_first"), [(8, 4), (7, 4)])
def test_even_odd_split_takes_alternate_coordinates(dim, n_first):
    first, block, _ = architecture("R", dim, hidden=(4,)).flows
    assert first.index.tolist() == [*range(0, dim, 2), *range(1, dim, 2)]
    assert block.n_first == n_first


@pytest.mark.parametrize(("n_particles", "n_dim"), [(6, 2), (5, 2), (4, 3)])
def test_particle_split_keeps_particles_whole_and_differs_between_blocks(n_particles, n_dim):
    flow = architecture(
        "R3", n_particles * n_dim, hidden=(4,), split="particle", n_dim=n_dim, seed=1
    )
    order = torch.arange(n_particles * n_dim)
    halves = []
    for layer in flow.flows:
        if isinstance(layer, Permutation):
            order = order[layer.index]
        else:
            first = order[: layer.n_first]
            particles = (first.reshape(-1, n_dim) // n_dim)[:, 0].tolist()
            expected = [p * n_dim + d for p in particles for d in range(n_dim)]
            assert first.tolist() == expected
            assert len(particles) == (n_particles + 1) // 2
            halves.append(tuple(particles))
    assert len(set(halves)) > 1
    assert torch.equal(order, torch.arange(n_particles * n_dim))


@pytest.mark.parametrize("split", SPLITS)
def test_same_seed_same_weights_and_global_random_state_untouched(split):
    before = torch.get_rng_state()
    one, two, other = (
        architecture("RNS", 8, hidden=(5,), split=split, seed=s).state_dict() for s in (3, 3, 4)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


def test_same_seed_same_weights_in_both_dtypes():
    single = architecture("R2", 6, hidden=(5,)).state_dict()
    double = architecture("R2", 6, hidden=(5,), dtype=torch.float64).state_dict()
    for key, value in double.items():
        assert torch.equal(single[key], value.to(single[key].dtype))


@pytest.mark.parametrize("letter", LAYERS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", [None, "standardise", "pca", "zca"])
def test_a_checkpoint_needs_only_config_and_state(tmp_path, letter, split, kind):
    generator = torch.Generator().manual_seed(0)
    data = 3.0 + torch.randn(50, 6, generator=generator, dtype=torch.float64)
    flow = architecture(
        f"{letter}2",
        6,
        hidden=(5, 4),
        activation="relu",
        activation_scale="tanh",
        split=split,
        n_dim=2,
        whitening=None if kind is None else Whitening.fit(data, kind),
        seed=11,
        dtype=torch.float64,
    )
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.1)
    torch.save({"config": flow.config, "state": flow.state_dict()}, tmp_path / "flow.pt")

    loaded = torch.load(tmp_path / "flow.pt", weights_only=True)
    again = from_config(loaded["config"])
    again.load_state_dict(loaded["state"])
    assert again.config == flow.config
    for a, b in zip(again.forward(data), flow.forward(data), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "change", [{"hiden": (3,)}, {"dtype": "float16"}, {"spec": "X"}, {"whitening": "none"}]
)
def test_a_wrong_config_is_refused(change):
    config = architecture("R", 4, hidden=(3,)).config
    with pytest.raises(ValueError):
        from_config(config | change)


def test_whitening_handed_in_is_copied():
    data = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whitening = Whitening.fit(data)
    flow = architecture("R", 4, hidden=(3,), whitening=whitening)
    assert flow.flows[-1].dtype == torch.float32
    assert whitening.dtype == torch.float64


def test_description_names_the_flow_and_counts_parameters():
    flow = architecture("R8", 76)
    widths = [38, 200, 200, 200, 38]
    per_network = sum((a + 1) * b for a, b in pairwise(widths))
    assert n_parameters(flow) == 8 * 4 * per_network
    line = describe(flow)
    assert line.startswith("R8, dim 76, hidden 200x200x200 tanh, even-odd split")
    assert f"{8 * 4 * per_network:,} parameters" in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dim": 1}, "dim >= 2"),
        ({"split": "odd"}, "split must be one of"),
        ({"dim": 5, "split": "particle"}, "n_dim"),
        ({"dim": 4, "split": "particle", "n_dim": 4}, "at least 2 particles"),
        ({"activation": "gelu"}, "activation must be one of"),
        ({"hidden": (3, 0)}, "hidden must be positive"),
        ({"dtype": torch.float16}, "dtype must be"),
        ({"whitening": Whitening(3)}, "whitening has dim=3"),
    ],
)
def test_wrong_options_are_refused_in_words(options, words):
    with pytest.raises(ValueError, match=words):
        architecture("R", **{"dim": 4, "hidden": (3,), **options})


def test_flows_of_unequal_dim_cannot_be_chained():
    with pytest.raises(ValueError, match=r"same dim, got \[2, 3\]"):
        Sequential(Scaling(2), Scaling(3))
