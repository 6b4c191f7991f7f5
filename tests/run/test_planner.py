"""Planning study by study, from the inventory's rows, is planning the whole archive at once; in plain and in pseudonyms."""

import dataclasses
import itertools
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammoscan.core.domain import Failed, Header, OperatingPoint, Skipped, SourceFile
from mammoscan.core.errors import Reason, Stage
from mammoscan.run import inventory, ledger, plan, planner, tasks
from mammoscan.run.inventory import Facts, Inventory
from mammoscan.run.policy import Plain, Pseudonymous
from tests.report import results

ROOT = Path("/archive")
RULES = planner.Rules((), "ab" * 32, "cd" * 32, OperatingPoint("a", 0.5, 0.5, 0.5), ("cad-sr",), False, None)


def _file(number):
    return SourceFile(ROOT / f"{number}.dcm", f"{number}.dcm", 100 + number, 7)


@st.composite
def _archives(draw):
    """What the headers of a few files say: images and others that share studies, instances and patients, or do not."""
    found = []
    for number in range(draw(st.integers(1, 7))):
        study, instance = f"1.2.{draw(st.integers(1, 3))}", f"1.9.{draw(st.integers(1, 5))}"
        kind = draw(st.sampled_from("HHHHSF"))
        if kind == "H":
            made = results.header()
            patient = dataclasses.replace(made.patient, patient_id=draw(st.sampled_from(["P1", "P1", "P1", "P2", ""])))
            facts = dataclasses.replace(made.study, study_instance_uid=study)
            found.append(
                dataclasses.replace(
                    made, file=_file(number), patient=patient, study=facts, sop_instance_uid=instance,
                    instance_number=draw(st.integers(1, 2)),
                )
            )  # fmt: skip
        else:
            uids = draw(st.sampled_from([(study, instance), ("", ""), (study, ""), ("", instance)]))
            kinds = {"S": (Skipped, Reason.TOMOSYNTHESIS), "F": (Failed, Reason.BROKEN_HEADER)}
            made, reason = kinds[kind]
            found.append(made(_file(number), Stage.HEADER, reason, "", *uids))
    return found, draw(st.frozensets(st.integers(0, 7)))


def _same(different):
    """Files are of one content but for those whose numbers are named."""
    return lambda headers: not {int(h.file.path.stem) for h in headers} & different


class _NoLedger:
    def image(self, _):
        return None


def _ends(plans, loose):
    ends = {h.file.relative: "image" for p in plans for h in p.headers}
    for other in (*(o for p in plans for o in (*p.skipped, *p.failed)), *loose):
        ends[other.file.relative] = other.reason.code
    return ends


def _one_by_one(found, policy, same, monkeypatch):
    """How files end where every study is planned alone."""
    with monkeypatch.context() as patch:
        patch.setattr(tasks, "compare", lambda headers: tasks.SAME if same(headers) else tasks.DIFFERENT)
        db = sqlite3.connect(":memory:")
        for statement in (ledger._TABLES + inventory.TABLES).split(";"):
            db.execute(statement)
        files = Inventory(db, ROOT, policy, lambda: None)
        for result in found:
            files.record(Facts.of(result, ROOT))
        plans = planner.Planner(files, _NoLedger(), policy, RULES)
        ends = {r.file.relative: r.reason.code for r in found if not isinstance(r, Header)}
        written = {}
        for uid in list(files.studies_to_do()):
            study = plans.study(uid)
            ends |= {image.header.file.relative: "image" for image in study.images}
            ends |= {other.file.relative: other.reason.code for _, other in study.others}
            written[uid] = [image.written.sop_instance_uid for image in study.images]
        db.close()
    return ends, written


@settings(max_examples=300)
@given(_archives())
def test_a_study_alone_is_planned_as_it_is_among_all(drawn):
    found, different = drawn
    plans, loose = plan.plan_studies(found, _same(different))
    with pytest.MonkeyPatch.context() as monkeypatch:
        for policy in (Plain(), Pseudonymous(b"k" * 32)):
            ends, written = _one_by_one(found, policy, _same(different), monkeypatch)
            assert ends == _ends(plans, loose)
            for p in plans:
                expected = [policy.uid(h.sop_instance_uid) for h in p.headers]
                assert written.get(policy.uid(p.study_instance_uid), []) == expected


def test_a_change_of_one_file_has_every_study_planned_again_that_shares_an_instance_with_it():
    db = sqlite3.connect(":memory:")
    for statement in (ledger._TABLES + inventory.TABLES).split(";"):
        db.execute(statement)
    files = Inventory(db, ROOT, Plain(), lambda: None)
    made = results.header()

    def image(number, study, instance):
        facts = dataclasses.replace(made.study, study_instance_uid=study)
        return dataclasses.replace(made, file=_file(number), study=facts, sop_instance_uid=instance)

    def record(*read):
        for uid in list(files.studies_to_do()):
            files.done(uid)
        for result in read:
            files.record(Facts.of(result, ROOT))
        return set(files.studies_to_do())

    assert record(image(1, "1.1", "1.9.1"), image(2, "1.2", "1.9.2"), image(3, "1.3", "1.9.3")) == {"1.1", "1.2", "1.3"}
    assert record(image(4, "1.1", "1.9.2")) == {"1.1", "1.2"}
    # The file moves from one study and instance to others: both ends are planned again.
    assert record(image(4, "1.3", "1.9.4")) == {"1.1", "1.2", "1.3"}
    assert record(image(4, "1.3", "1.9.4")) == {"1.3"}


def test_files_that_carry_one_instance_are_compared_once_as_long_as_they_are_the_same(monkeypatch):
    db = sqlite3.connect(":memory:")
    for statement in (ledger._TABLES + inventory.TABLES).split(";"):
        db.execute(statement)
    files = Inventory(db, ROOT, Plain(), lambda: None)
    made = results.header()
    for number in (1, 2):
        files.record(Facts.of(dataclasses.replace(made, file=_file(number)), ROOT))
    plans = planner.Planner(files, _NoLedger(), Plain(), RULES)
    (uid,) = files.twins_to_do()
    ((_, headers),) = plans.unjudged(uid)
    plans.judge(headers, tasks.SAME)
    monkeypatch.setattr(tasks, "compare", lambda _: pytest.fail("compared again"))
    assert [len(plans.study(uid).images), plans.unjudged(uid)] == [1, []]
    files.record(Facts.of(dataclasses.replace(made, file=dataclasses.replace(_file(2), mtime_ns=8)), ROOT))
    assert len(plans.unjudged(uid)) == 1


def test_more_rows_than_a_page_are_all_there():
    db = sqlite3.connect(":memory:")
    for statement in (ledger._TABLES + inventory.TABLES).split(";"):
        db.execute(statement)
    files = Inventory(db, ROOT, Plain(), lambda: None)
    made = results.header()
    count = 2 * inventory._PAGE + 1
    for number in range(count):
        facts = dataclasses.replace(made.study, study_instance_uid=f"1.2.{number}")
        image = dataclasses.replace(made, file=_file(number), study=facts, sop_instance_uid=f"1.9.{number}")
        files.record(Facts.of(image, ROOT))
    assert len(list(files.lines())) == len(set(files.studies_to_do())) == len(list(files.headers())) == count
    assert files.lost() == 0
    again = Inventory(db, ROOT, Plain(), lambda: None)
    assert all(again.known(f"{n}.dcm", 100 + n, 7) for n in itertools.chain(range(10), range(20, count)))
    assert again.lost() == 10
    assert len(list(again.lines())) == count - 10
    assert len(list(files.failures())) == 0
