"""Rates and times left settle, whatever comes before the first piece and however pieces come."""

import itertools
import random

import pytest

from mammoscan.core.pace import LEAST_SECONDS, TOGETHER, Pace, span


def _said(times, total):
    """(time, seconds left that were said, seconds that were left) at each piece's time."""
    now = [0.0]
    pace, said = Pace(lambda: now[0]), []
    for now[0], amount in times:
        pace.add(amount)
        said.append((now[0], pace.left(total), times[-1][0] - now[0]))
    return said


def test_nothing_is_said_while_the_model_loads_and_shortly_after():
    said = _said([(16 + 0.5 * n, 1) for n in range(120)], 120)
    assert all(left is None for at, left, _ in said if at < 16 + LEAST_SECONDS)
    assert all(left is not None for at, left, _ in said if at >= 16 + LEAST_SECONDS + TOGETHER)


@pytest.mark.parametrize("batch", [1, 4, 12])
def test_the_time_left_is_near_the_truth_from_the_first_word_on(batch):
    """The first piece came after 16 s: it made a run of 76 s say that 519 s were left."""
    noise = random.Random(batch)
    steps = itertools.accumulate(batch * noise.uniform(0.3, 0.7) for _ in range(120 // batch))
    times = [(16 + step + 0.01 * n, 1) for step in steps for n in range(batch)]
    said = [(left, truth) for _, left, truth in _said(times, 120) if left is not None]
    assert said
    assert max(abs(left - truth) for left, truth in said) < 12
    assert all(abs(left - truth) < 0.35 * truth + 4 for left, truth in said)


def test_work_that_becomes_slower_is_followed():
    times = [(float(n), 1) for n in range(100)] + [(100 + 4.0 * n, 1) for n in range(100)]
    said = _said(times, 200)
    at_half = next((left, truth) for at, left, truth in said if at >= 300)
    assert at_half[0] == pytest.approx(at_half[1], rel=0.1)


def test_the_time_left_goes_down_while_a_batch_is_waited_for():
    now = [0.0]
    pace = Pace(lambda: now[0])
    for now[0] in (0.0, 10.0, 20.0, 30.0):
        pace.add(10)
    now[0] = 31.0
    assert pace.left(80) == pytest.approx(39)
    now[0] = 35.0
    assert pace.left(80) == pytest.approx(35)
    assert pace.rate() == pytest.approx(1.0)


def test_pieces_without_work_are_done_and_measure_nothing():
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.skip(5)
    for now[0] in (20.0, 30.0, 40.0, 50.0):
        pace.add(10)
    pace.skip(15)
    now[0] = 51.0
    assert pace.done == 60
    assert pace.rate() == pytest.approx(1.0)
    assert pace.left(100) == pytest.approx(39)


def test_work_that_stands_still_is_no_fast_work():
    now = [0.0]
    pace = Pace(lambda: now[0])
    for now[0] in (0.0, 10.0, 20.0, 30.0):
        pace.add(10)
    now[0] = 1000.0
    assert pace.rate() < 0.05
    assert pace.left(80) > 0


def test_memory_is_bounded_and_the_rate_stays():
    now = [0.0]
    pace = Pace(lambda: now[0])
    for n in range(50_000):
        now[0] = float(n)
        pace.add(2)
    assert len(pace._times) <= 1024
    assert pace.rate() == pytest.approx(2.0)
    assert pace.left(200_000) == pytest.approx(50_000, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "under 10 s"), (9.9, "under 10 s"), (12.4, "10 s"), (54, "55 s"), (61, "1 min"), (89, "1 min"), (3500, "58 min"),
     (3590, "1 h 0 min"), (12_000, "3 h 20 min"), (90_000, "1.0 days"), (400_000, "4.6 days")],
)  # fmt: skip
def test_times_are_said_as_a_person_would(seconds, said):
    assert span(seconds) == said
