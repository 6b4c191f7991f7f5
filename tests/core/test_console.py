"""What a stage of a run says of itself where there is no terminal."""

from mammoscan.core import console as consoles
from mammoscan.core.console import Console
from mammoscan.core.pace import Pace


def test_a_stage_says_what_it_waits_for_and_no_rate_or_time_before_its_first_result(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(consoles.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(consoles, "Pace", lambda: Pace(lambda: now[0]))
    with Console().stage("analysing images", 44) as ticker:
        ticker.waiting("loading the model")
        ticker.advance(skipped=2, amount=2)
        now[0] = 11.0
        ticker.advance(failed=1)
        for now[0] in (16.0, 26.0, 36.0, 46.0, 57.0):
            ticker.advance(amount=5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "analysing images: loading the model",
        "analysing images: 3 of 44, loading the model, 2 skipped, 1 failed",
    ]
    assert not any("left" in line for line in lines[:4])
    assert lines[-1] == "analysing images: 28 of 44, 30.0/min, 30 s left, 2 skipped, 1 failed"


def test_a_stage_without_work_says_nothing(capsys):
    with Console().stages(("analysing images", 0), ("finding files", None)):
        pass
    assert capsys.readouterr().err.splitlines() == ["finding files: 0, 0 skipped, 0 failed"]
