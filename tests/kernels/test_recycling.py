"""Memory used again: never while somebody holds it, and not kept for ever."""

import threading

import numpy as np
import pytest
import torch
from bgfast_kernels.network.recycling import IDLE_SECONDS, Lasting, Recycled


@pytest.fixture
def clock():
    class Clock:
        now = 0.0

        def __call__(self):
            return self.now

    return Clock()


def address(array):
    return array.ctypes.data


def test_memory_is_given_out_again_once_it_is_gone_and_not_before(clock):
    recycled = Recycled(clock)
    first, second = recycled.take(4096), recycled.take(4096)
    assert address(first) % 64 == address(second) % 64 == 0
    assert abs(address(first) - address(second)) >= 4096
    places = {address(first), address(second)}
    tensor = torch.from_numpy(first)
    del first
    third = recycled.take(4096)
    assert address(third) not in places
    del tensor, second
    assert {address(recycled.take(4096)) for _ in range(1)} <= places
    again = [recycled.take(4096) for _ in range(2)]
    assert {address(array) for array in again} == places


def test_memory_of_another_size_is_not_given_out(clock):
    recycled = Recycled(clock)
    place = address(recycled.take(4096))
    other = recycled.take(8192)
    assert len(other) == 8192
    assert address(recycled.take(4096)) == place


def test_what_is_idle_for_long_is_forgotten_and_what_is_in_use_is_not(clock):
    recycled = Recycled(clock)
    arrays = [recycled.take(1 << 20) for _ in range(3)]
    del arrays
    for _ in range(4):
        clock.now += 0.6 * IDLE_SECONDS
        recycled.take(1 << 20)  # one of the three is needed still
    assert [len(idle) for idle in recycled._idle.values()] == [1]
    clock.now += 2.1 * IDLE_SECONDS
    recycled.forget_idle()
    assert not recycled._idle


def test_threads_share_it_and_never_hold_the_same(clock):
    recycled, wrong = Recycled(), []

    def use(number):
        for _ in range(2000):
            mine = recycled.take(64)
            mine[:] = number
            if (mine != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_lasting_memory_is_one_for_each_thread_and_name():
    lasting, found = Lasting(), []
    mine = lasting.take("a", 100)
    assert address(lasting.take("a", 60)) == address(mine)
    assert address(lasting.take("b", 60)) != address(mine)
    thread = threading.Thread(target=lambda: found.append(lasting.take("a", 100)))
    thread.start()
    thread.join()
    assert not np.shares_memory(found[0], mine)
