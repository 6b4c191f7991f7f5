"""One queue before one device: full batches, bounded memory, and every piece comes back as itself, or its error."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.run import batches
from mammoscan.run.batches import BatchQueue
from tests.devices import TimedDevice, said_of


def _crops(number, count):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (count, 2, 2), dtype=np.uint8), rng.random((count, 1), dtype=np.float32)


def _itself(piece, _):
    return piece


def _queue(device, conclude=lambda piece, said: (piece, said)):
    return BatchQueue(lambda: device, conclude)


def _until(said, *, seconds=10.0):
    end = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < end, "it never came to it"
        time.sleep(0.002)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 30), max_size=25),
    size=st.integers(1, 40),
    finishes=st.sets(st.integers(0, 24)),
    seed=st.integers(0, 99),
)
def test_each_piece_comes_back_with_its_own_outputs_once_whatever_the_order_size_and_company(
    counts, size, finishes, seed
):
    device = TimedDevice(size)
    queue = _queue(device)
    back = []
    for place, number in enumerate(np.random.default_rng(seed).permutation(len(counts))):
        queue.put(int(number), *_crops(number, counts[number]))
        back += queue.collect()
        if place in finishes:
            back += queue.finish()
            assert queue.pending == 0
    back += queue.finish()
    queue.close()
    assert sorted(number for number, _ in back) == list(range(len(counts)))
    for number, said in back:
        alone = said_of(*_crops(number, counts[number])) if counts[number] else {}
        assert said.keys() == alone.keys()
        assert all(np.array_equal(said[name], alone[name]) for name in alone)
    assert sum(given for given, _ in device.batches) == sum(counts)
    not_full = sum(given < size for given, _ in device.batches)
    assert not_full <= len(finishes) + 1


def test_batches_are_full_but_for_the_last_and_images_are_cut_at_their_ends():
    device = TimedDevice(16)
    queue = _queue(device)
    for number in range(20):
        queue.put(number, *_crops(number, 22))
    assert [number for number, _ in queue.finish()] == list(range(20))
    queue.close()
    assert [given for given, _ in device.batches] == [16] * 27 + [8]


def test_a_piece_without_crops_waits_for_nothing_and_opens_no_device():
    def opened():
        raise AssertionError("the device was opened for nothing")

    queue = BatchQueue(opened, lambda piece, said: (piece, said))
    queue.put("empty", *_crops(0, 0))
    assert queue.collect() == [("empty", {})]
    assert queue.finish() == []
    queue.close()


def test_the_device_is_opened_in_its_own_thread_once_while_the_caller_goes_on():
    opened, free = [], threading.Event()

    def open_device():
        opened.append(threading.get_ident())
        assert free.wait(10)
        return TimedDevice(4)

    queue = BatchQueue(open_device, _itself)
    for number in range(3):
        queue.put(number, *_crops(number, 4))  # comes back although the device does not
    assert queue.collect() == []
    assert queue.pending == 3
    free.set()
    assert queue.finish() == [0, 1, 2]
    queue.put(3, *_crops(3, 1))
    assert queue.finish() == [3]
    queue.close()
    assert len(opened) == 1
    assert opened[0] != threading.get_ident()


def test_what_is_finished_is_given_back_without_the_batch_that_is_not_full():
    queue = _queue(TimedDevice(4))
    for number in range(3):
        queue.put(number, *_crops(number, 3))  # 9 crops: two batches, and one crop that waits
    back = []
    _until(lambda: back.extend(n for n, _ in queue.collect()) or len(back) == 2)
    time.sleep(0.05)
    assert queue.collect() == []
    assert queue.pending == 1
    assert [n for n, _ in queue.finish()] == [2]
    queue.close()


class _Told(TimedDevice):
    """Tells when it is given a batch and when it is waited for."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.told = []

    def step(self, crops, clinical):
        number = len(self.batches)
        self.told.append(("begin", number))
        promise = super().step(crops, clinical)
        wait = promise.outputs
        promise.outputs = lambda: (self.told.append(("wait", number)), wait())[1]
        return promise


def test_a_batch_is_begun_before_the_one_before_is_waited_for():
    """Else a GPU has nothing to do while outputs are copied and results made of them."""
    device, free = _Told(8, fixed=0.01), threading.Event()
    queue = BatchQueue(lambda: free.wait(10) and device, _itself)
    for number in range(12):
        queue.put(number, *_crops(number, 8))
    free.set()
    queue.finish()
    queue.close()
    order = [told for n in range(11) for told in (("begin", n + 1), ("wait", n))]
    assert device.told == [("begin", 0), *order, ("wait", 11)]
    assert device.fill == 1.0
    assert queue.seconds >= 12 * 0.01


def test_a_caller_that_is_too_fast_is_made_to_wait(monkeypatch):
    monkeypatch.setattr(batches, "CROPS_AHEAD", 40)
    device = TimedDevice(10)

    def open_device():
        _until(lambda: queue._crops_waiting >= 40)
        return device

    queue = BatchQueue(open_device, _itself)
    most, back = 0, []
    for number in range(60):
        queue.put(number, *_crops(number, 7))
        most = max(most, queue._crops_waiting)
        back += queue.collect()
    back += queue.finish()
    queue.close()
    assert back == list(range(60))
    assert 40 <= most < 40 + 7
    assert [given for given, _ in device.batches] == [10] * 42


def test_results_that_are_slow_to_be_made_hold_the_device_and_then_the_caller(monkeypatch):
    monkeypatch.setattr(batches, "CROPS_AHEAD", 8)
    device = TimedDevice(2)
    free, told = threading.Event(), []
    queue = _queue(device, lambda piece, _: free.wait(10) and piece)

    def feed():
        for number in range(100):
            queue.put(number, *_crops(number, 2))
            told.append(number)

    thread = threading.Thread(target=feed)
    thread.start()
    _until(lambda: queue._crops_waiting >= 8)
    time.sleep(0.05)
    # 4 pieces wait, 2 computed batches do, one is concluded, and one or two are in the device's hands.
    assert len(told) <= 4 + batches.COMPUTED_AHEAD + 1 + 2
    free.set()
    thread.join(10)
    assert not thread.is_alive()
    assert queue.finish() == list(range(100))
    queue.close()


def test_what_fails_on_the_device_reaches_the_caller_after_all_that_was_done_before():
    device = TimedDevice(4, fails_at=3)
    queue = _queue(device, _itself)
    put = []

    def feed():
        for number in range(10):
            queue.put(number, *_crops(number, 4))
            put.append(number)
        queue.finish()

    with pytest.raises(MemoryError, match="on the device"):
        feed()
    assert queue.collect() == [0, 1, 2]
    assert queue.pending == len(put) - 3 > 0
    for call in (queue.collect, queue.finish, lambda: queue.put(11, *_crops(0, 4))):
        with pytest.raises(MemoryError, match="on the device"):
            call()
    queue.close()


def test_a_device_that_cannot_be_opened_and_a_result_that_cannot_be_made_reach_the_caller():
    def nothing(*_):
        raise OSError("the weights are gone")

    for queue in (BatchQueue(nothing, _itself), _queue(TimedDevice(4), nothing)):
        queue.put(0, *_crops(0, 4))
        with pytest.raises(OSError, match="weights are gone"):
            queue.finish()
        assert queue.pending == 1
        queue.close()


def test_a_caller_that_waits_is_woken_by_the_error(monkeypatch):
    monkeypatch.setattr(batches, "CROPS_AHEAD", 4)
    free = threading.Event()

    def open_device():
        free.wait(10)
        raise OSError("no device")

    queue = BatchQueue(open_device, _itself)
    queue.put(0, *_crops(0, 4))
    threading.Timer(0.05, free.set).start()
    with pytest.raises(OSError, match="no device"):
        queue.put(1, *_crops(1, 4))
    assert queue.pending == 1
    queue.close()


def test_a_closed_queue_ends_its_threads_and_takes_nothing_more():
    before = threading.active_count()
    queue = _queue(TimedDevice(4, fixed=0.02))
    for number in range(10):
        queue.put(number, *_crops(number, 4))
    queue.close()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="closed"):
        queue.put(10, *_crops(0, 1))
    queue.close()


def test_sizes_are_measured_while_it_works_and_change_no_output():
    device = TimedDevice(16, fixed=0.004, each=0.00002, most=64)
    queue = _queue(device)
    back = []
    for number in range(300):
        queue.put(number, *_crops(number, 20))
        back += queue.collect()
    back += queue.finish()
    queue.close()
    assert device.sizes.size == 64
    assert device.batches[0] == (16, 16)
    # The last one is filled up to the smallest size that holds it and says the same.
    assert all(given == computed for given, computed in device.batches[:-1])
    last, computed = device.batches[-1]
    assert computed == min(n for n in (8, 16, 32, 64) if n >= last)
    assert [number for number, _ in back] == list(range(300))
    for number, said in back:
        alone = said_of(*_crops(number, 20))
        assert all(np.array_equal(said[name], alone[name]) for name in alone)
