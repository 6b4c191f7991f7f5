"""Who is one patient, and what is said of studies as others come and go: nobody gets another person's earlier study."""

import contextlib
import dataclasses
import itertools
import json
import sqlite3

import numpy as np
import pydicom
import pytest

from mammoscan.core import store
from mammoscan.core.domain import Density, Laterality, NoEarlier, RegionKind, View
from mammoscan.model import priors
from mammoscan.run import patients
from mammoscan.run.ledger import NAME
from mammoscan.run.patients import Person, Visit
from mammoscan.synthetic import lesions, phantom
from mammoscan.synthetic.dicom import mammogram_dataset
from tests import small
from tests.report import results

EVE = dataclasses.replace(small.ANNA, patient_id="EVE-1", name="Zyxplanted^Eve", sex="F", age="", date="20180101")


# --------------------------------------------------------------------------- two studies


def person(**changes):
    return Person("code", False, ("F",), ("b1950",), 1950.0, ("anna", "miller"))._replace(**changes)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {}, True),
        ({"code": ""}, {"code": ""}, False),
        ({}, {"code": "other issuer"}, False),
        ({}, {"sexes": ("M",)}, False),
        ({}, {"sexes": ("O",)}, False),
        ({}, {"births": ("b1951",)}, False),
        ({}, {"born": 1960.0}, False),  # one date of birth, and an age that contradicts it
        ({}, {"names": ("jane", "smith")}, False),
        ({}, {"names": ("anna", "jones")}, True),  # married
        ({}, {"names": ()}, True),
        ({"sexes": ("F", "M")}, {}, False),  # a study that contradicts itself
        # No issuer: nothing but facts that agree tell two hospitals' patients apart.
        ({}, {"sexes": ()}, False),
        ({"births": ()}, {"births": ()}, True),  # the ages fit
        ({"births": (), "born": 1950.0}, {"births": (), "born": 1951.2}, False),
        ({"births": ()}, {"births": (), "born": None}, False),
        # An issuer: what is not stated does not matter, what is stated does.
        ({"issued": True}, {"issued": True, "sexes": (), "births": (), "born": None, "names": ()}, True),
        ({"issued": True}, {"issued": True, "births": (), "born": 1960.0}, False),
        ({"issued": True, "births": ()}, {"issued": True, "births": (), "born": 1960.0}, False),
        ({"issued": True}, {"issued": True, "births": ("b1951",)}, False),
    ],
)
def test_one_person_is_an_identifier_with_its_issuer_and_no_word_against_it(one, other, same):
    a, b = person(**one), person(**other)
    assert patients.one_person(a, b) is same
    assert patients.one_person(b, a) is same


def visit(number, date, **changes):
    facts = dataclasses.replace(results.STUDY, study_instance_uid=f"1.2.3.{number}", study_date=date)
    made = results.study([results.prediction(results.header())], facts=facts)
    return Visit(person(**changes), priors.known(made, results.CONTEXT))


def test_a_study_that_contradicts_only_one_of_two_makes_both_doubtful():
    """F, unknown, M under one issued identifier: the middle one may be either's."""
    her = visit(1, "20200101", issued=True)
    silent = visit(2, "20210101", issued=True, sexes=(), births=(), born=None, names=())
    him = visit(3, "20220101", issued=True, sexes=("M",), births=("b1980",), born=1980.0, names=("otto",))
    assert patients.said(silent, [her]).studies
    assert patients.said(silent, [her, him]).none is NoEarlier.UNCERTAIN
    assert patients.said(him, [her, silent]).none is NoEarlier.UNCERTAIN
    assert patients.said(her, [silent, him]).none is NoEarlier.NONE  # it has no earlier one at all
    again = visit(4, "20230101", issued=True)
    assert [s.study_instance_uid for s in patients.said(again, [her, silent, him]).studies] == ["1.2.3.1"]


def test_an_identifier_of_too_many_studies_is_nobodys():
    others = [patients.packed(visit(n, f"19{n:02d}0101")) for n in range(patients.MOST)]
    own = visit(999, "20220101")
    assert patients.said_of(own, others).none is NoEarlier.UNCERTAIN
    assert patients.said_of(own, others[1:]).studies


# --------------------------------------------------------------------------- runs


def file(root, subject, name, *, side=Laterality.LEFT, view=View.CC, seed=1, place=None, issuer="", size=(450, 360)):
    """An image of a subject. place: of a lesion to be drawn, in mm from the chest wall and from the top."""
    spec = phantom.Spec(side, view, Density.B, height=size[0], width=size[1], patient=seed)
    pixels, truth = phantom.render(spec, seed)
    if place is not None:
        y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32) * np.float32(truth.mm)
        rng = np.random.default_rng(5)
        drawn = lesions.draw(RegionKind.MASS, True, 8.0, x - place[0], y - place[1], rng, truth.mm)
        pixels = np.clip(pixels + 4095 * drawn * (pixels > 400), 0, 4095).astype(np.uint16)
    ds = mammogram_dataset(pixels, laterality=side, view=view, subject=subject, spacing_mm=truth.mm)
    if issuer:
        ds.IssuerOfPatientID = issuer
    small.write(root / name, ds)
    return str(ds.StudyInstanceUID)


def told(out):
    """What the tables say of each study's earlier one."""
    return {
        r["study_instance_uid"]: (r["earlier_study_instance_uid"], r["earlier_reason"])
        for r in small.table(out, "studies")
    }


def content(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def page(out, uid):
    text = (out / store.study_folder(uid) / "review.js").read_text(encoding="ascii")
    return json.loads(text.removeprefix("mammoscan.study(").removesuffix(");\n"))


def later(subject, key, date, **changes):
    return dataclasses.replace(subject, study_key=key, date=date, **changes)


def test_nothing_is_claimed_where_two_studies_need_not_be_of_one_person(tmp_path):
    root, out = tmp_path / "archive", tmp_path / "out"
    cases = {
        "same": ({}, {}, True),
        "issuer": ({"issuer": "NORTH"}, {"issuer": "SOUTH"}, False),
        "issuer-once": ({"issuer": "NORTH"}, {}, False),
        "issued": ({"issuer": "NORTH"}, {"issuer": "NORTH", "sex": "", "birth_date": "", "name": ""}, True),
        "empty": ({"patient_id": ""}, {"patient_id": ""}, False),
        "sex": ({}, {"sex": "M"}, False),
        "birth": ({}, {"birth_date": "19700101"}, False),
        "name": ({}, {"name": "Somebody^Else"}, False),
        "day": ({}, {"date": "20180101"}, False),
        "undated": ({}, {"date": ""}, False),
    }
    expected = {}
    for number, (case, (first, second, same)) in enumerate(cases.items()):
        pair = []
        for key, changes, date in (("z-first", first, "20180101"), ("a-second", second, "20200101")):
            facts = {"patient_id": f"ID-{case}", "date": date, **changes}
            issuer = facts.pop("issuer", "")
            subject = later(EVE, f"{key}-{case}", facts.pop("date"), **facts)
            pair.append(file(root, subject, f"{case}-{key}.dcm", seed=number + 1, issuer=issuer))
        expected |= {pair[0]: "", pair[1]: pair[0] if same else ""}
    summary = small.run(root, out)
    assert summary.failed == 0
    found = told(out)
    assert {uid: earlier for uid, (earlier, _) in found.items()} == expected
    # No report was made twice: those of a patient come in the order of their dates, whatever their UIDs are.
    assert sorted(reason for _, reason in found.values()) == sorted(
        [""] * 2 + ["none"] * 10 + ["not-certain"] * 3 + ["date-unknown"] + ["patient-unknown"] * 2 + ["none"] * 2
    )
    before = content(out)
    small.run(root, out)
    assert content(out) == before


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Three studies of one patient, all there at once: a lesion, the same a little aside, and another one. Read only."""
    root = tmp_path_factory.mktemp("story")
    uids = [
        file(root / "archive", later(EVE, key, date), f"{key}.dcm", place=place, size=(900, 720))
        for key, date, place in (
            ("c", "20180101", (55, 95)),
            ("b", "20200101", (52, 101)),
            ("a", "20220101", (45, 170)),
        )
    ]
    summary = small.run(root / "archive", root / "out")
    return root, uids, summary


def at_place(out, uid, place, mm=0.27):
    """The findings of a study whose box holds a place, by their rows."""
    x, y = (v / mm for v in place)
    return [
        r
        for r in small.table(out, "findings")
        if r["study_instance_uid"] == uid
        and float(r["box_x0"]) <= x <= float(r["box_x1"])
        and float(r["box_y0"]) <= y <= float(r["box_y1"])
    ]


def test_a_lesion_that_stays_was_seen_before_and_another_is_new(story):
    root, (first, second, third), _ = story
    out = root / "out"
    assert told(out) == {first: ("", "none"), second: (first, ""), third: (second, "")}
    (then,), (now,) = at_place(out, first, (55, 95)), at_place(out, second, (52, 101))
    assert (then["earlier"], now["earlier"]) == ("", "seen-before")
    assert now["earlier_tracking_uid"] == then["tracking_uid"]
    assert now["earlier_malignancy"] == then["malignancy"]
    # The centres of the outlines, which are not quite those that were drawn.
    assert 2 < float(now["earlier_apart_mm"]) < 15
    (new,) = at_place(out, third, (45, 170))
    assert (new["earlier"], new["earlier_tracking_uid"]) == ("new", "")
    said = page(out, third)["earlier"]
    assert [s["date"] for s in said["studies"]] == ["2020-01-01", "2018-01-01"]
    row = next(r for r in small.table(out, "studies") if r["study_instance_uid"] == second)
    before = next(r for r in small.table(out, "studies") if r["study_instance_uid"] == first)
    assert row["earlier_malignancy"] == before["malignancy"]
    assert row["earlier_malignancy_left"] == before["malignancy_left"]
    assert row["earlier_malignancy_right"] == ""


def test_whatever_order_studies_arrive_in_the_same_is_said(story, tmp_path):
    """The latest first, then the earliest, then the one between: only those of which something else is to be said are made again."""
    root, (first, second, third), _ = story
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    made = {}
    for name, uid, expected in (
        ("a.dcm", third, {third: ("", "none")}),
        ("c.dcm", first, {third: (first, ""), first: ("", "none")}),
        ("b.dcm", second, {third: (second, ""), first: ("", "none"), second: (first, "")}),
    ):
        (archive / name).write_bytes((root / "archive" / name).read_bytes())
        summary = small.run(archive, out)
        assert summary.analysed == 1
        assert told(out) == expected, uid
        made[uid] = content(out)
    # What says nothing of earlier studies stays as it was.
    of_third = store.study_folder(third)
    for name in ("mammography-cad-sr.dcm", "tid1500-sr.dcm"):
        assert made[third][f"{of_third}/{name}"] == made[second][f"{of_third}/{name}"]
    assert made[third][f"{of_third}/report.pdf"] != made[second][f"{of_third}/report.pdf"]
    # The study that was the earliest from the first is not made again when one comes between.
    of_first = store.study_folder(first)
    assert {n: c for n, c in made[first].items() if n.startswith(of_first)} == {
        n: c for n, c in made[second].items() if n.startswith(of_first)
    }
    for table in ("findings", "studies", "images"):
        at_once, in_turn = (small.table(o, table) for o in (root / "out", out))
        for row in (*at_once, *in_turn):
            row.pop("created", None)
        assert at_once == in_turn
    before = content(out)
    small.run(archive, out)
    assert content(out) == before


def test_an_earlier_study_that_is_withdrawn_is_named_no_more(story, tmp_path):
    root, (first, second, third), _ = story
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for name in ("c.dcm", "a.dcm"):
        (archive / name).write_bytes((root / "archive" / name).read_bytes())
    small.run(archive, out)
    assert told(out)[third] == (first, "")
    # Somebody else's image under the StudyInstanceUID of the first.
    ds = small.image(later(EVE, "c", "20180101"), view=View.MLO, seed=4, instance=2)
    ds.PatientID, ds.StudyInstanceUID = "SOMEBODY-ELSE", first
    small.write(archive / "else.dcm", ds)
    summary = small.run(archive, out)
    assert (summary.withdrawn, summary.analysed) == (1, 0)
    assert told(out) == {third: ("", "none")}
    assert first not in (out / store.study_folder(third) / "review.js").read_text()
    assert page(out, third)["earlier"]["studies"] == []
    with contextlib.closing(sqlite3.connect(out / NAME)) as db:
        assert db.execute("SELECT study FROM todo").fetchall() == []
        assert db.execute("SELECT study FROM people").fetchall() == [(third,)]
    assert second  # is not in this archive


def test_a_report_without_sources_stops_naming_a_study_of_somebody_else(story, tmp_path):
    """All files of the later study are gone; then the earlier one turns out to be another patient's."""
    root, (first, _, third), _ = story
    archive, out = tmp_path / "archive", tmp_path / "out"
    archive.mkdir()
    for name in ("c.dcm", "a.dcm"):
        (archive / name).write_bytes((root / "archive" / name).read_bytes())
    small.run(archive, out)
    (archive / "a.dcm").unlink()
    before = (out / store.study_folder(third) / "report.pdf").read_bytes()
    small.run(archive, out)
    assert (out / store.study_folder(third) / "report.pdf").read_bytes() == before  # gone is no reason to make it again
    ds = pydicom.dcmread(archive / "c.dcm")
    ds.PatientID = "SOMEBODY-ELSE"
    small.write(archive / "c.dcm", ds)
    small.run(archive, out)
    assert told(out) == {first: ("", "none"), third: ("", "none")}
    assert first not in (out / store.study_folder(third) / "review.js").read_text()
    images = {r["study_instance_uid"]: r["flags"] for r in small.table(out, "images")}
    assert "source-gone" in images[third]


def test_reports_of_one_patient_are_made_once_in_the_order_of_their_dates(story):
    """Their UIDs are in no order; none was made again for what another one said."""
    _, uids, summary = story
    assert summary.studies == 3
    assert summary.removed == 0
    assert any(a > b for a, b in itertools.pairwise(uids))
