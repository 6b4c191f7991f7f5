"""Results folders with review pages, made without running anything."""

import dataclasses
import random

import cv2
import numpy as np

from mammoscan.core import store
from mammoscan.core.domain import Age, AgeSource, Laterality, Patient, Sex
from mammoscan.model import priors
from mammoscan.report.tables import COLUMNS, header_line, lines, rows_of_study
from mammoscan.review import study, worklist
from mammoscan.run import patients
from mammoscan.run.plan import PlannedImage
from mammoscan.run.policy import Plain
from tests.report import results

# Everything that a page could take for something else than text.
HOSTILE = "<img src=x onerror=alert(1)>\u2028</script><script>document.title='hit'</script>'\"&amp;`${1}"
TABLED = HOSTILE.replace("\u2028", " ")  # tables have no line ends in their cells


def picture(prediction):
    """A prediction with the large picture that a run draws: a bright square at (300, 400) in source pixels."""
    h = prediction.header
    pixels = np.full((h.rows, h.columns), 40, np.uint8)
    pixels[360:440, 240:360] = 220
    _, jpeg = cv2.imencode(".jpg", pixels)
    return dataclasses.replace(prediction, preview=dataclasses.replace(prediction.preview, large=jpeg.tobytes()))


def with_pictures(result):
    return dataclasses.replace(result, images=tuple(map(picture, result.images)))


def four(number=1, *, patient="", date="20260101", scores=(0.8, 0.4, 0.0, 0.05), name="Demo^Ada", age=66.0, **facts):
    """A study of four views with findings of these scores: left CC (two), left MLO, right CC (none at 0), right MLO."""
    known = None if age is None else Age(age, AgeSource.PATIENT_AGE)
    said = "" if age is None else f"{int(age):03d}Y"
    who = Patient(patient or f"DEMO-{number}", name, "", "19600229", Sex.FEMALE, said)
    what = dataclasses.replace(
        results.STUDY, study_instance_uid=f"1.2.3.4.{number}", study_date=date, accession_number=f"ACC{number}", **facts
    )
    made = []
    for n, (side, view) in enumerate(results.VIEWS, 1):
        h = results.header(side, view, n, patient=who, study=what, age=known)
        h = dataclasses.replace(
            h,
            sop_instance_uid=f"{what.study_instance_uid}.1.{n}",
            file=dataclasses.replace(h.file, relative=f"{number}/{n}.dcm"),
        )
        score = scores[n - 1]
        found = [results.finding(h, 1, score)] if score else []
        if n == 1:
            found.append(results.finding(h, 2, score / 8, x=600))
        made.append(results.prediction(h, found))
    whole = results.study(made, patient=who, facts=what)
    return with_pictures(dataclasses.replace(whole, age=known))


def write(out, made, context=results.CONTEXT):
    """The tables, the pages and the work list of some studies."""
    rows = {name: [] for name in ("images", "findings", "studies")}
    for result in sorted(with_earlier(made, context), key=lambda r: r.study.study_instance_uid):
        below = store.study_folder(result.study.study_instance_uid)
        for name, content in study.render(result, context, ("report.pdf", "tid1500-sr.dcm")).items():
            store.write_if_changed(out / below / name, content)
        for name, found in rows_of_study(result, context, below).items():
            rows[name] += found
    tables(out, rows)
    worklist.write(out)
    return out


def with_earlier(made, context=results.CONTEXT):
    """Studies with what they say of one another, as a run finds it."""
    visits = []
    for result in made:
        headers = [p.header for p in result.images] + [f.header for f in result.failed]
        images = [PlannedImage(h, h, "", None) for h in headers]
        visits.append(patients.Visit(patients.person_of(images, Plain()), priors.known(result, context)))
    return [
        dataclasses.replace(
            result,
            earlier=patients.said(visit, [v for v in visits if v is not visit and v.person.code == visit.person.code]),
        )
        for result, visit in zip(made, visits, strict=True)
    ]


def tables(out, rows):
    out.mkdir(parents=True, exist_ok=True)
    for name, found in rows.items():
        (out / f"{name}.csv").write_bytes(header_line(COLUMNS[name]) + lines(found, COLUMNS[name]))


def many(out, count):
    """The tables of so many studies, of whom no page exists."""
    drawn = random.Random(7)
    studies, images = [], []
    for n in range(count):
        uid, patient, date = (
            f"1.2.{n:08d}",
            f"P{drawn.randrange(count):08d}",
            f"20{drawn.randrange(10, 26)}0{drawn.randrange(1, 9)}15",
        )
        left, right = (drawn.random() ** 4 for _ in range(2))
        facts = {
            "patient_id": patient, "study_instance_uid": uid, "study_date": date, "accession_number": f"A{n:08d}", "age": "55.5",
            "images_analysed": "4", "images_failed": "0", "files_skipped": "1", "malignancy": f"{max(left, right):.6g}",
            "malignancy_left": f"{left:.6g}", "malignancy_right": f"{right:.6g}", "above_threshold": "yes" if max(left, right) >= 0.379 else "no",
            "threshold": "0.379", "operating_point": "specificity-0.90", "findings_above": "1", "findings_below": "2",
            "folder": f"studies/{uid}", "created": "20260101000000", "model_sha256": "ab" * 32, "config_digest": "cd" * 32,
        }  # fmt: skip
        studies.append([facts.get(c.name, "") for c in COLUMNS["studies"]])
        for side in (Laterality.LEFT, Laterality.RIGHT):
            image = {
                **facts,
                "laterality": side.value,
                "density": drawn.choice("abcd"),
                "density_source": "pixel-estimate",
                "sex": "F",
                "flags": drawn.choice(["", "", "implant", "lossy-compression"]),
            }
            images.append([image.get(c.name, "") for c in COLUMNS["images"]])
    tables(out, {"studies": studies, "images": images, "findings": []})
    return out
