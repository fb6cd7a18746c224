"""Kernels launched together do what they do one after the other."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from bgfast_kernels import cpu, sequence, team
from bgfast_kernels.coupling.reordering import put_columns, take_columns

torch.ones(2)  # its threads are those that kernels run on
pytestmark = pytest.mark.skipif(team.openmp() is None, reason="no OpenMP threads here")

N = 1000
THREADS = pytest.mark.parametrize("threads", [1, 2, 3])


@cpu.jit
def add(start, stop, x, summand, result):
    for i in range(start, stop):
        result[i] = x[i] + summand


@cpu.jit
def reverse(start, stop, x, result):
    for i in range(start, stop):
        result[i] = x[len(x) - 1 - i]


@cpu.jit
def fill_much(start, stop, size, result):
    memory = np.empty(size)
    for i in range(start, stop):
        memory[i] = i
        result[i] = memory[i]


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    yield
    cpu.set_threads(None)


@THREADS
def test_each_kernel_sees_what_those_before_it_wrote(threads):
    cpu.set_threads(threads)
    x = np.arange(float(N))
    numbers = [x, *np.zeros((200, N))]
    with cpu.launched_together():
        for before, after in zip(numbers[:-1:2], numbers[1::2], strict=False):
            cpu.parallel_rows(add, N, before, 2.0, after, min_rows=1)
        for i in range(1, 200, 2):  # each thread needs rows of another one
            cpu.parallel_rows(reverse, N, numbers[i], numbers[i + 1], min_rows=1)
            cpu.parallel_rows(add, N, numbers[i + 1], 1.0, numbers[i + 1], min_rows=N)
    assert all((numbers[i + 1] == numbers[i][::-1] + 1).all() for i in range(1, 199, 2))
    assert (numbers[1] == x + 2).all()


@THREADS
def test_kernels_run_at_the_end_and_what_they_take_is_held(threads):
    cpu.set_threads(threads)
    result = np.zeros(N)
    with cpu.launched_together():
        for k in range(100):
            cpu.parallel_rows(add, N, np.full(N, float(k)), 1.0, np.empty(N), min_rows=100)
        cpu.parallel_rows(add, N, np.full(N, 6.0), 1.0, result, min_rows=100)
        gc.collect()
        np.full((200, N), np.nan)
        assert (result == 0).all()
    assert (result == 7).all()
    cpu.parallel_rows(add, N, result, 1.0, result)
    assert (result == 8).all()


def test_what_is_held_goes_when_kernels_have_run():
    x = np.zeros(N)
    gone = weakref.ref(x)
    with cpu.launched_together():
        sequence.hold([x])
        del x
        assert gone() is not None
    assert gone() is None


def test_a_block_within_a_block_runs_what_was_before_it():
    x = np.zeros(N)
    with cpu.launched_together():
        cpu.parallel_rows(add, N, x, 1.0, x)
        with cpu.launched_together():
            cpu.parallel_rows(add, N, x, 1.0, x)
        assert (x == 2).all()
        cpu.parallel_rows(add, N, x, 1.0, x)
        assert (x == 2).all()
    assert (x == 3).all()


def test_a_block_that_raises_runs_nothing_and_leaves_no_trace():
    x = np.zeros(N)

    def interrupted():
        with cpu.launched_together():
            cpu.parallel_rows(add, N, x, 1.0, x)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert (x == 0).all()
    cpu.parallel_rows(add, N, x, 1.0, x)
    assert (x == 1).all()


def test_kernels_of_other_threads_run_at_once():
    x = np.zeros(N)
    other = threading.Thread(target=cpu.parallel_rows, args=(add, N, x, 1.0, x))
    with cpu.launched_together():
        other.start()
        other.join()
        assert (x == 1).all()


@THREADS
def test_a_kernel_without_memory_is_named(threads):
    cpu.set_threads(threads)
    x = np.zeros(N)

    def run():
        with cpu.launched_together():
            cpu.parallel_rows(add, N, x, 1.0, x, min_rows=1)
            cpu.parallel_rows(fill_much, N, 2**60, x, min_rows=1)

    with pytest.raises(MemoryError, match="buffers of the kernel fill_much"):
        run()
    assert (x == 1).all()


def test_more_arguments_than_there_is_room_for_are_refused():
    @cpu.jit
    def of_many(start, stop, arrays):
        for i in range(start, stop):
            arrays[0][i] = 1.0

    arrays = tuple(np.zeros(4) for _ in range(80))
    refused = pytest.raises(Exception, match="arguments of a kernel must fit")
    with refused, cpu.launched_together():
        cpu.parallel_rows(of_many, 4, arrays)


@THREADS
@pytest.mark.parametrize("n", [0, 1, 700])
def test_columns_are_taken_and_put_back(n, threads):
    cpu.set_threads(threads)
    random = np.random.default_rng(1)
    rows, columns = random.random((n, 76), np.float32), random.permutation(76)
    taken, back = np.empty_like(rows), np.empty_like(rows)
    take_columns(rows, columns, taken)
    put_columns(taken, columns, back)
    assert (taken == rows[:, columns]).all()
    assert (back == rows).all()


@pytest.mark.parametrize("move", [take_columns, put_columns])
@pytest.mark.parametrize("wrong", [-1, 5, 2**40])
def test_a_column_that_is_not_there_is_refused(wrong, move):
    rows = np.zeros((3, 5), np.float32)
    with pytest.raises(IndexError, match="out of"):
        move(rows, np.array([0, 1, wrong, 3, 4]), np.empty_like(rows))
    with pytest.raises(IndexError, match="columns must be 5"):
        move(rows, np.arange(4), np.empty_like(rows))
