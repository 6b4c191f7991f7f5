"""A disk that is full, a file system that says no: one documented end, and the next run goes on as if it had not been."""

import errno
import os
import random
import shutil
from collections import Counter

import pytest

from mammoscan.core.errors import ExitCode
from tests.storms import bars, machine

pytestmark = machine.NEEDED


def _faults(rng, calls, count):
    """Random faults as ``shim.c`` takes them, spread over the kinds of calls and over the run."""
    kinds = [name for name in machine.CALLS if calls[name]]
    for number in range(count):
        call = kinds[number % len(kinds)]
        lasting = rng.random() < 0.5  # a full disk stays full; a hiccup passes
        first = rng.randint(1, calls[call])
        yield f"{call}:{first}:{0 if lasting else rng.randint(1, 3)}:{rng.choice(machine.ERRORS)}"


def _weathered(images, finished, start, fault):
    """A command under a fault, then one without: what the first ended with. start: makes the folder."""
    out = start()
    made = machine.Machine(out)
    arguments = bars.command(images, out, *machine.OPTIONS)
    done = bars.run(arguments, environment=made.environment(fault))
    assert bars.deaths(done) == [], fault
    if done.status not in {ExitCode.SOME_FAILED, ExitCode.ALL_ANALYSED, ExitCode.NOTHING_ANALYSED}:
        assert len(done.err.strip().splitlines()) == 1, f"{fault}: {done.err}"
    if (out / "ledger.sqlite").exists():
        assert bars.broken_after_a_kill(out) == [], fault
    again = bars.run(arguments, environment=made.environment())
    assert bars.deaths(again) == [], fault
    assert again.status == ExitCode.SOME_FAILED, f"{fault}: {again.err}"
    assert machine.same_as(out, finished, images) == [], fault
    shutil.rmtree(out)
    return done.status


def _calls(images, start):
    """How many calls of every kind an undisturbed command makes from here."""
    out = start()
    made = machine.Machine(out)
    done = bars.run(bars.command(images, out, *machine.OPTIONS), environment=made.environment())
    assert done.status == ExitCode.SOME_FAILED, done.err
    calls = made.calls()
    shutil.rmtree(out)
    return calls


def _storm(images, finished, folder, seed, *, reports, whole):
    rng = random.Random(seed)
    ended = Counter()
    for count, start in (
        (reports, lambda: machine.before_the_reports(images, finished, folder / "out")),
        (whole, lambda: folder / "out"),
    ):
        if not count:
            continue
        for fault in _faults(rng, _calls(images, start), count):
            ended[_weathered(images, finished, start, fault)] += 1
            print(f"{fault}: {dict(ended)}", flush=True)
    return ended


def test_calls_that_fail_at_random_moments_cost_one_run_and_no_result(images, finished, tmp_path):
    assert sum(_storm(images, finished, tmp_path, 1, reports=4, whole=0).values()) == 4


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_sixty_calls_that_fail_cost_one_run_each_and_no_result(images, finished, tmp_path):
    ended = _storm(images, finished, tmp_path, int(os.environ.get("STORM_SEED", "2")), reports=48, whole=12)
    assert sum(ended.values()) == 60
    assert set(ended) <= bars.DOCUMENTED


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own for the results, which may be full or read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    said = machine.mounted(folder, "size=160k")
    if said:
        pytest.skip(f"no file system can be mounted here: {said}")
    yield folder
    machine.unmounted(folder)


def test_a_disk_that_is_full_ends_the_run_in_a_line_and_more_room_lets_it_go_on(images, finished, small_disk):
    out = small_disk / "out"
    arguments = bars.command(images, out, *machine.OPTIONS)
    environment = machine.Machine(out).environment()
    done = bars.run(arguments, environment=environment)
    assert bars.deaths(done) == []
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert os.strerror(errno.ENOSPC) in done.err
    machine.remounted(small_disk, "size=64m")
    again = bars.run(arguments, environment=environment)
    assert bars.deaths(again) == []
    assert again.status == ExitCode.SOME_FAILED, again.err
    assert machine.same_as(out, finished, images) == []


def test_results_that_turn_read_only_end_the_run_in_a_line_and_are_as_they_were(images, finished, small_disk):
    machine.remounted(small_disk, "size=64m")
    out = machine.before_the_reports(images, finished, small_disk / "out")
    arguments = bars.command(images, out, *machine.OPTIONS)
    environment = machine.Machine(out).environment()
    machine.remounted(small_disk, "ro")
    done = bars.run(arguments, environment={**environment, "STORM_COUNTER": ""})
    assert bars.deaths(done) == []
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert str(out) in done.err
    machine.remounted(small_disk, "rw")
    again = bars.run(arguments, environment=environment)
    assert again.status == ExitCode.SOME_FAILED, again.err
    assert machine.same_as(out, finished, images) == []
