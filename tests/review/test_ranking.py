"""The order of the work list where it is kept: what a change concerns, and what it leaves as it was."""

import contextlib
import dataclasses
import random
import sqlite3

import pytest

from mammoscan.review import ranking
from mammoscan.review.ranking import Listed, Ranking, Row, Script


def study(number, *, score=None):
    uid = f"1.2.{number}"
    score = random.Random(number).random() if score is None else score
    row = Row(
        uid, f"P{number}", "", "2024-01-01", 60.0, None, score, score, False, "b", 4, 0, 0, "", 0, False,
        "", "", None, None, None, "", None, None, "first",
    )  # fmt: skip
    return Listed(uid, score, score, None, row, ("point", "0.4", "model"))


@pytest.fixture
def held():
    """A list of 500 studies whose parts are written."""
    with contextlib.closing(sqlite3.connect("")) as db, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "CHUNK", 10)
        made = Ranking(db)
        for number in range(500):
            made.put(study(number))
        write(made)
        yield made


def write(made):
    """Write what is to be written; how many studies that concerns."""
    count = 0
    for part in made.parts():
        if part.scripts is None:
            rows = [row for script in made.rows(part) for row in script]
            made.written(part, [Script(part.name(1), len(rows), "digest")] if rows else [])
            count += len(rows)
    assert not made.pending()
    return count


def rows(made):
    return [row for part in made.parts() for script in made.rows(part) for row in script]


def test_a_study_concerns_its_part_alone_whatever_is_done_with_it(held):
    assert 25 < len(held.parts()) < 100
    for number in range(500, 600):
        held.put(study(number))
        assert write(held) < 150
        held.put(study(number, score=0.5))
        assert write(held) < 150
        held.drop(f"1.2.{number}")
        assert write(held) < 150


def test_the_same_studies_are_cut_alike_whatever_came_before(held):
    before = held.parts(), rows(held)
    for number in range(100, 600, 7):
        held.put(study(number, score=0.25))
    for number in range(500, 600):
        held.drop(f"1.2.{number}")
    for number in range(499, -1, -1):
        held.put(study(number))
    write(held)
    assert (held.parts(), rows(held)) == before


def test_a_study_that_is_listed_as_it_was_concerns_nothing(held):
    held.put(study(77))
    assert not held.pending()
    held.drop("1.2.9999")
    assert not held.pending()


def test_what_studies_were_scored_with_is_told_while_one_was(held):
    assert held.said() == ([["point", "0.4"]], ["model"])
    held.put(dataclasses.replace(study(3), said=("other", "0.5", "model")))
    assert held.said() == ([["other", "0.5"], ["point", "0.4"]], ["model"])
    held.put(study(3))
    assert held.said() == ([["point", "0.4"]], ["model"])
    held.clear()
    assert held.said() == ([], [])
    assert rows(held) == []
