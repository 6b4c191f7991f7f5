"""Work in other processes survives what kills them."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mammoscan.run.pool import Crashed, Task, WorkPool


def _square(number):
    return number * number


def _die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01)
    return number


def _fail(_):
    raise ValueError("told to")


def _threads(_):
    """Threads of every library of linear algebra in a worker."""
    import scipy.linalg  # noqa: F401 (brings one of its own)
    import threadpoolctl

    return [library["num_threads"] for library in threadpoolctl.threadpool_info()]


def _run(pool, feed):
    return dict(item for item in pool.results(iter(feed)) if item is not None)


def test_every_task_comes_back_once():
    pool = WorkPool(2, in_flight=4)
    assert _run(pool, [Task(n, _square, (n,)) for n in range(20)]) == {n: n * n for n in range(20)}


def test_libraries_have_one_thread_in_a_worker_also_after_a_crash():
    for feed in ([Task(0, _threads, (0,))], [Task(3, _die_at_three, (3,)), Task(0, _threads, (0,))]):
        found = _run(WorkPool(2, in_flight=1), feed)[0]
        assert len(found) >= 2
        assert set(found) == {1}


def test_a_task_that_kills_its_process_is_found_and_the_others_are_done():
    pool = WorkPool(2, in_flight=6)
    out = _run(pool, [Task(n, _die_at_three, (n,)) for n in range(10)])
    assert isinstance(out.pop(3), Crashed)
    assert out == {n: n for n in range(10) if n != 3}


def test_an_exception_in_a_task_is_raised_here():
    pool = WorkPool(2, in_flight=4)
    with pytest.raises(ValueError, match="told to"):
        _run(pool, [Task(0, _fail, (0,))])


def test_workers_are_ended_in_silence_while_tasks_wait_that_none_has_taken(monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    for _ in range(3):
        pool = WorkPool(2, in_flight=40)
        results = pool.results(iter([Task(0, _square, (0,)), *(Task(n, time.sleep, (1,)) for n in range(1, 40))]))
        assert next(results) == (0, 0)
        time.sleep(0.3)  # the worker takes its next task: there is room for one of those that wait
        results.close()
    assert raised == []
    assert _run(WorkPool(2, in_flight=4), [Task(n, _square, (n,)) for n in range(8)]) == {n: n * n for n in range(8)}


def test_work_added_on_the_way_is_done_before_the_end():
    pool = WorkPool(2, in_flight=4)
    seen = {}
    for item in pool.results(Task(n, _square, (n,)) for n in range(3)):
        if item is None:
            if "late" not in seen and len(seen) == 3:
                pool.add(Task("late", _square, (9,)))
            continue
        seen[item[0]] = item[1]
    assert seen == {0: 0, 1: 1, 2: 4, "late": 81}


def test_no_more_than_the_bound_is_taken_from_the_feed():
    taken = []

    def feed():
        for number in range(12):
            taken.append(number)
            yield Task(number, _square, (number,))

    pool = WorkPool(2, in_flight=3)
    consumed = 0
    for item in pool.results(feed()):
        if item is not None:
            assert len(taken) - consumed <= 3
            consumed += 1
    assert consumed == 12


def test_joblib_can_run_in_parallel_after_the_pool():
    # In a process of its own: what other tests left behind must not help.
    code = (
        "import joblib; from mammoscan.run.pool import Task, WorkPool\n"
        "for _ in range(2):\n"
        "    pool = WorkPool(2, in_flight=4)\n"
        "    found = [r for r in pool.results(iter([Task(n, abs, (-n,)) for n in range(8)])) if r is not None]\n"
        "    assert sorted(found) == [(n, n) for n in range(8)], found\n"
        "    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-n) for n in range(8)) == list(range(8))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
