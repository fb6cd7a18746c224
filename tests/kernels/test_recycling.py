"""Memory used again: never while somebody holds it, and not kept for ever."""

import threading
import time

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


def test_memory_is_given_out_again_once_all_of_it_is_gone_and_not_before(clock):
    recycled = Recycled(clock)
    first, second = recycled.take(4096), recycled.take(4096)
    assert address(first) % 64 == address(second) % 64 == 0
    assert abs(address(first) - address(second)) >= 4096
    places = {address(first), address(second)}
    tensor = torch.from_numpy(first.view(np.float32)[8:40].reshape(4, 8)[:, 2:]).T[1]
    del first
    third = recycled.take(4096)
    assert address(third) not in places
    del tensor, second
    again = [recycled.take(4096) for _ in range(2)]
    assert {address(array) for array in again} == places


def test_what_is_idle_can_be_forgotten_at_once_and_what_is_held_cannot(clock):
    recycled = Recycled(clock)
    held, _ = recycled.take(4096), recycled.take(1 << 20)
    del _
    assert recycled.n_bytes > 1 << 20
    recycled.forget_all()
    assert recycled.n_bytes == len(held)


def test_sizes_that_differ_a_little_use_the_same_memory_and_others_do_not(clock):
    recycled = Recycled(clock)
    large = recycled.take(1 << 20)
    place = address(recycled.take(100_000))
    other = recycled.take(99_000)
    assert address(other) == place
    assert len(other) == 99_000
    assert address(recycled.take(50_000)) != place
    assert len(large) == 1 << 20


def test_halves_and_wholes_that_take_turns_use_the_same_memory(clock):
    recycled = Recycled(clock)
    places = []
    for n_bytes in (1 << 20, 1 << 19, 1 << 20, (1 << 19) - 4096):
        step = [recycled.take(n_bytes) for _ in range(3)]
        assert {len(array) for array in step} == {n_bytes}
        places.append({address(array) for array in step})
        del step
    assert all(place == places[0] for place in places)
    assert recycled.n_bytes == 3 << 20
    small = recycled.take(1 << 17)  # of its own: an eighth would waste the rest
    assert recycled.n_bytes == (2 << 20) + len(small)


def test_batches_of_all_sizes_take_no_more_memory_than_the_largest(clock):
    recycled = Recycled(clock)
    rng, most = np.random.default_rng(0), 0
    for n_bytes in rng.integers(1, 1 << 22, 300):
        step = [recycled.take(int(n_bytes)) for _ in range(4)]
        most = max(most, 4 * int(n_bytes))
        assert recycled.n_bytes <= 1.13 * most + 4 * 4096
        del step


def test_what_is_idle_for_long_is_forgotten_and_what_is_in_use_is_not(clock):
    recycled = Recycled(clock)
    arrays = [recycled.take(1 << 20) for _ in range(3)]
    del arrays
    assert recycled.n_bytes == 3 << 20
    for _ in range(4):
        clock.now += 0.6 * IDLE_SECONDS
        recycled.take(1 << 20)  # one of the three is needed still
    assert recycled.n_bytes == 1 << 20
    clock.now += 2.1 * IDLE_SECONDS
    recycled.forget_idle()
    assert recycled.n_bytes == 0


def test_threads_share_it_and_never_hold_the_same():
    recycled, held, wrong = Recycled(), set(), []

    def use():
        for _ in range(300):
            mine = recycled.take(64)
            if (place := address(mine)) in held:
                wrong.append(place)
            held.add(place)
            time.sleep(0)  # others come here meanwhile
            held.discard(place)
            del mine

    threads = [threading.Thread(target=use) for _ in range(4)]
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
