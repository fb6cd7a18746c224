import numpy as np
import pytest
from bgfast_kernels import random
from scipy import stats


def numpy_generator(seed, stream):
    return np.random.Generator(
        np.random.SFC64(np.random.SeedSequence(seed).spawn(stream + 1)[stream])
    )


def normals(n, seed=5, stream=0):
    state = random.streams(seed, 1, first=stream)[0]
    out = np.empty(n)
    random.fill_normal(state, random.ziggurat_tables(), out)
    return out, state


@pytest.mark.parametrize("stream", [0, 3])
def test_uniforms_are_bit_for_bit_those_of_numpy(stream):
    state = random.streams(11, stream + 1)[stream]
    out = np.empty(10_000)
    random.fill_uniform(state, out)
    np.testing.assert_array_equal(out, numpy_generator(11, stream).random(10_000))


def test_normals_are_those_of_numpy_to_rounding_of_the_tables():
    out, _ = normals(1_000_000)
    np.testing.assert_allclose(out, numpy_generator(5, 0).standard_normal(1_000_000), rtol=1e-12)


def test_streams_do_not_depend_on_how_they_are_split():
    np.testing.assert_array_equal(random.streams(2, 5)[3:], random.streams(2, 2, first=3))
    assert len(np.unique(random.streams(2, 100), axis=0)) == 100


def test_a_stream_stops_and_continues_exactly():
    whole, _ = normals(5000)
    head, state = normals(1234)
    tail = np.empty(5000 - 1234)
    random.fill_normal(state, random.ziggurat_tables(), tail)
    np.testing.assert_array_equal(np.concatenate([head, tail]), whole)


def test_normals_have_the_normal_distribution():
    n = 4_000_000
    x, _ = normals(n, seed=1)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs((x**power).mean() - mean) < 4 * np.sqrt(variance / n)
    assert stats.kstest(x[:200_000], "norm").pvalue > 1e-3


def test_the_tail_beyond_the_last_layer_has_the_normal_distribution():
    x, _ = normals(8_000_000, seed=2)
    edge = 3.6541528853610088
    for tail in (x[x > edge], -x[x < -edge]):
        expected = x.size * stats.norm.sf(edge)
        assert abs(tail.size - expected) < 4 * np.sqrt(expected)
        conditional = stats.norm.sf(tail) / stats.norm.sf(edge)
        assert stats.kstest(conditional, "uniform").pvalue > 1e-3


def test_streams_are_not_correlated():
    x = np.stack([normals(100_000, stream=i)[0] for i in range(4)])
    correlation = np.corrcoef(x)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(100_000)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", True])
def test_a_bad_seed_is_named(seed):
    with pytest.raises(ValueError, match="seed must be a non-negative integer"):
        random.streams(seed, 1)
