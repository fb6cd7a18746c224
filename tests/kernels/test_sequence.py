"""Kernels launched together do what they do one after the other."""

import gc
import signal
import threading
import time
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
    numbers = [np.arange(float(N)), *np.zeros((300, N))]

    def body():
        for i in range(0, 300, 3):  # each thread needs rows of another one, and of the first
            cpu.parallel_rows(reverse, N, numbers[i], numbers[i + 1], min_rows=1)
            cpu.parallel_rows(add, N, numbers[i + 1], 1.0, numbers[i + 2], min_rows=N)
            cpu.parallel_rows(add, N, numbers[i + 2], 2.0, numbers[i + 3], min_rows=1)

    cpu.run_together(body)
    assert all((numbers[i + 3] == numbers[i][::-1] + 3).all() for i in range(0, 300, 3))


def test_kernels_that_nobody_shares_run_on_the_caller(monkeypatch):
    used = []
    run_all = sequence._run_all
    monkeypatch.setattr(sequence, "_run_all", lambda *a: (used.append(a[3]), run_all(*a))[1])
    x = np.zeros(N)
    cpu.set_threads(3)
    for least in (N, 1):
        cpu.run_together(lambda: cpu.parallel_rows(add, N, x, 1.0, x, min_rows=least))  # noqa: B023
    assert used == [1, 3]
    assert (x == 2).all()


@THREADS
def test_kernels_run_at_the_end_and_what_they_take_is_held(threads):
    cpu.set_threads(threads)
    result = np.zeros(N)

    def body():
        for k in range(100):
            cpu.parallel_rows(add, N, np.full(N, float(k)), 1.0, np.empty(N), min_rows=100)
        cpu.parallel_rows(add, N, np.full(N, 6.0), 1.0, result, min_rows=100)
        gc.collect()
        np.full((200, N), np.nan)
        return result.copy()

    assert (cpu.run_together(body) == 0).all()
    assert (result == 7).all()
    cpu.parallel_rows(add, N, result, 1.0, result)
    assert (result == 8).all()


def test_what_is_held_goes_when_kernels_have_run():
    def body():
        x = np.zeros(N)
        gone = weakref.ref(x)
        sequence.hold([x])
        del x
        assert gone() is not None
        return gone

    assert cpu.run_together(body)() is None


@pytest.mark.parametrize("noting", [True, False])
def test_a_body_within_a_body_runs_what_was_before_it(noting):
    x = np.zeros(N)

    def increase():
        cpu.parallel_rows(add, N, x, 1.0, x)
        return x[0]

    def body():
        increase()
        assert cpu.run_together(increase, noting=noting) == (1 if noting else 2)
        assert (x == 2).all()
        increase()
        assert (x == 2).all()

    cpu.run_together(body)
    assert (x == 3).all()


def test_a_body_that_raises_runs_nothing_and_leaves_no_trace():
    x = np.zeros(N)

    def fails():
        cpu.parallel_rows(add, N, x, 1.0, x)
        raise KeyError

    def goes_on():
        with pytest.raises(KeyError):
            cpu.run_together(fails)
        cpu.parallel_rows(add, N, x, 1.0, x)

    with pytest.raises(KeyError):
        cpu.run_together(fails)
    assert (x == 0).all()
    cpu.parallel_rows(add, N, x, 1.0, x)
    assert (x == 1).all()
    cpu.run_together(goes_on)
    assert (x == 2).all()


def test_an_interrupt_at_any_time_leaves_no_trace():
    x = np.zeros(4)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    kept, end = [], time.monotonic() + 1.0
    try:
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 3e-5)
                for _ in range(1000):
                    cpu.run_together(lambda: cpu.parallel_rows(add, 4, x, 1.0, x))
            except KeyboardInterrupt as error:
                kept.append(error)
                assert sequence.current() is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(kept) > 10


def test_kernels_of_other_threads_run_at_once():
    x = np.zeros(N)
    other = threading.Thread(target=cpu.parallel_rows, args=(add, N, x, 1.0, x))

    def body():
        other.start()
        other.join()
        return x[0]

    assert cpu.run_together(body) == 1


@THREADS
@pytest.mark.parametrize("least", [1, N])
def test_a_kernel_without_memory_is_named(least, threads):
    cpu.set_threads(threads)
    x = np.zeros(N)

    def body():
        cpu.parallel_rows(add, N, x, 1.0, x, min_rows=least)
        cpu.parallel_rows(fill_much, N, 2**60, x, min_rows=least)

    with pytest.raises(MemoryError, match="buffers of the kernel fill_much"):
        cpu.run_together(body)
    assert (x == 1).all()


def test_more_arguments_than_there_is_room_for_are_refused():
    @cpu.jit
    def of_many(start, stop, arrays):
        for i in range(start, stop):
            arrays[0][i] = 1.0

    arrays = tuple(np.zeros(4) for _ in range(80))
    with pytest.raises(Exception, match="arguments of a kernel must fit"):
        cpu.run_together(lambda: cpu.parallel_rows(of_many, 4, arrays))


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
    with pytest.raises(IndexError, match=r"columns must be 5 numbers, got shape \[4\]"):
        move(rows, np.arange(4), np.empty_like(rows))
