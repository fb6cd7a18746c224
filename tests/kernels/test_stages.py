"""Stages that threads go through together: everyone comes, nobody goes on before the others."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from bgfast_kernels import stages, team
from bgfast_kernels.cpu import jit


@jit
def relay(thread, n_threads, barrier, pair, rounds):
    """Let each thread add up, round by round, what all threads wrote in the round before."""
    now, then = pair
    for _ in range(rounds):
        start, stop = stages.share(len(now), 3, thread, n_threads)
        for i in range(start, stop):
            then[i] = now.sum() % 1000 + i
        stages.wait(barrier)
        now, then = then, now


@jit
def in_rounds(of_team, threads, now, then, rounds):
    stages.together(of_team, threads, relay, ((now, then), rounds))


@jit
def report(thread, n_threads, barrier, seen):
    seen[thread] = n_threads


@jit
def who_comes(of_team, threads, seen):
    stages.together(of_team, threads, report, (seen,))


@jit
def returns_something(thread, n_threads, barrier):
    return thread


@jit
def ask_for_it(of_team):
    stages.together(of_team, 2, returns_something, ())


@pytest.fixture
def functions():
    torch.ones(2)  # torch, and so its OpenMP runtime, is in the process
    if team.openmp() is None:
        pytest.skip("torch brings no libgomp here")
    return stages.functions()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_no_thread_begins_a_stage_before_all_have_done_the_last(functions, threads):
    n, rounds = 40, 12
    expected = np.ones(n)
    for _ in range(rounds):
        expected = expected.sum() % 1000 + np.arange(n)
    for _ in range(50):
        pair = np.ones((2, n))
        in_rounds(functions, threads, *pair, rounds)
        np.testing.assert_array_equal(pair[rounds % 2], expected)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_as_many_threads_come_as_are_asked_for(functions, threads):
    seen = np.zeros(4, np.int64)
    who_comes(functions, threads, seen)
    assert seen.tolist() == [threads] * threads + [0] * (4 - threads)


def test_without_libgomp_one_thread_does_it_all(monkeypatch):
    monkeypatch.setattr(team, "openmp", lambda: None)
    seen = np.zeros(2, np.int64)
    who_comes(stages.functions(), 2, seen)
    assert seen.tolist() == [1, 0]


def test_fewer_threads_than_asked_for_are_told_how_many_they_are():
    code = """
import numpy as np, torch
from bgfast_kernels.kde.transform import gauss_transform
x = np.random.default_rng(0).standard_normal(20_000)
c = np.full(len(x), 1 / len(x))
from bgfast_kernels import cpu
found = []
for threads in (1, 4):
    cpu.set_threads(threads)
    found += [np.stack(gauss_transform(x, x, c, h)) for h in (0.2, 1e-4)]
assert (found[0] == found[2]).all() and (found[1] == found[3]).all()
"""
    environment = os.environ | {"OMP_THREAD_LIMIT": "2"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200, env=environment)


@pytest.mark.parametrize("block", [1, 3, 16])
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 1000])
@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_shares_are_all_rows_cut_at_multiples_of_a_block(n, block, n_threads):
    shares = [stages.share(n, block, thread, n_threads) for thread in range(n_threads)]
    assert [row for start, stop in shares for row in range(start, stop)] == list(range(n))
    assert all(start % block == 0 for start, stop in shares if start < stop)


def test_a_kernel_that_returns_something_is_refused(functions):
    with pytest.raises(Exception, match="a kernel of stages must return nothing"):
        ask_for_it(functions)
