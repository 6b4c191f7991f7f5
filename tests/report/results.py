"""Realistic study results for tests of reports, without running anything."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from mammoscan.core import uids
from mammoscan.core.domain import (
    Age,
    AgeSource,
    Density,
    DensityReading,
    DensitySource,
    Failed,
    Finding,
    Geometry,
    Header,
    ImageFeatures,
    Laterality,
    ModelIdentity,
    Patient,
    Prediction,
    Preview,
    Region,
    RegionKind,
    ReportContext,
    Scores,
    Sex,
    SourceFile,
    Spacing,
    SpacingSource,
    StudyFacts,
    StudyResult,
    View,
)
from mammoscan.core.errors import Reason, Stage
from mammoscan.image.features import REGION_FEATURES
from mammoscan.model import rule
from mammoscan.model.findings import breasts, number
from mammoscan.model.scores import RegionScore, Score

# A model's scores of a region, an image and a breast.
SCORES = (
    RegionScore(*[Score(("linear_lesion", "saliency_order"), np.zeros(2), np.ones(2), np.ones(2), 0.0)] * 2),
    Score(("highest",), np.zeros(1), np.ones(1), np.ones(1), -1.0),
    Score(("highest", "age_decades"), np.zeros(2), np.ones(2), np.ones(2), -1.0),
)
CONTEXT = ReportContext(
    software_version="0.1.0",
    model=ModelIdentity(
        "mammoscan-resnet50", "0.1.0", "ab" * 32, ("Trained on films.",), "Research only.", rule.sentences(*SCORES)
    ),
    config_digest="cd" * 32,
    created=("20260102", "030405"),
    threshold=0.3,
    breast_threshold=0.3,
    finding_threshold=0.3,
    threshold_name="sensitivity-0.90",
)
INCLUDE = ("implant", "partial", "secondary-capture")
PATIENT = Patient("DEMO-1", "Demo^Ada", "", "19600229", Sex.FEMALE, "066Y")
STUDY = StudyFacts("1.2.3.4.5", "20260101", "101112", "ACC1", "ID1", "Screening", "Demo^Doctor", "")


def header(laterality=Laterality.LEFT, view=View.CC, n=1, **changes) -> Header:
    made = Header(
        file=SourceFile(Path(f"/archive/{n}.dcm"), f"{n}.dcm", 10, 20),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.2",
        sop_instance_uid=f"1.2.3.4.5.1.{n}",
        series_instance_uid=f"1.2.3.4.5.{n % 2 + 1}",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        modality="MG",
        series_number=1,
        instance_number=n,
        patient=PATIENT,
        study=STUDY,
        age=Age(66.0, AgeSource.PATIENT_AGE),
        laterality=laterality,
        view=view,
        view_modifiers=(),
        density=None,
        manufacturer="Maker",
        manufacturer_model="M1",
        spacing=Spacing(0.1, 0.1, SpacingSource.IMAGER),
        presentation_intent="FOR PRESENTATION",
        photometric="MONOCHROME2",
        rows=1200,
        columns=900,
        bits_stored=12,
        patient_orientation=("A", "F"),
        content_date="20260101",
        content_time="101112",
        acquisition_date="20260101",
        implant=False,
        partial_view=False,
        magnification=None,
        burned_in=None,
        lossy=None,
        flags=(),
        skip=None,
    )
    return dataclasses.replace(made, **changes)


def finding(h: Header, n: int, score: float, *, x=300.0, y=400.0, kind=RegionKind.MASS) -> Finding:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    contour = np.column_stack([x + 60.25 * np.cos(angle), y + 40.5 * np.sin(angle)])
    area = float(np.pi * 60.25 * 40.5)
    region = Region(
        kind, contour, (x - 60.25, y - 40.5, x + 60.25, y + 40.5), (x, y), area,
        area * 0.01 if h.spacing else None, 1.0, 7 if kind is RegionKind.CALCIFICATION else 0,
    )  # fmt: skip
    identifier, unique = uids.tracking(h, kind, n, CONTEXT.model.sha256, CONTEXT.config_digest)
    return Finding(
        n, identifier, unique, region, Scores(0.2, 0.3, 0.5, score), score >= CONTEXT.threshold,
        np.linspace(0, 1, len(REGION_FEATURES)), np.linspace(0, 1, 49, dtype=np.float32).reshape(7, 7),
        (x - 96, y - 96, x + 96, y + 96),
    )  # fmt: skip


def prediction(h: Header, findings=()) -> Prediction:
    worst = max((f.scores.malignancy for f in findings), default=0.0)
    grey = np.tile(np.linspace(0, 200, 450, dtype=np.uint8), (600, 1))
    dense = np.zeros((600, 450), bool)
    dense[180:220, 130:170] = True
    return Prediction(
        header=h,
        geometry=Geometry(h.columns, h.rows, False, 0, 0, 0.5, 0.5, 450, 600, 0.2, h.spacing is not None),
        image_features=ImageFeatures(12000.0 if h.spacing else None, 24.5, Density.B),
        density=DensityReading(Density.B, DensitySource.ESTIMATE, h.laterality),
        scores=Scores(1 - worst, 0.0, worst, worst),
        findings=tuple(findings),
        candidates=20,
        preview=Preview(grey, dense, 0.5),
        flags=h.flags,
        seconds=(("pixels", 0.1),),
    )


def failure(h: Header) -> Failed:
    return Failed(h.file, Stage.PIXELS, Reason.TRUNCATED, "half", h.study.study_instance_uid, h.sop_instance_uid, h)


def study(images, failed=(), patient=PATIENT, facts=STUDY) -> StudyResult:
    numbered = number(images)
    return StudyResult(
        patient, facts, Age(66.0, AgeSource.PATIENT_AGE), numbered, tuple(failed), (), breasts(numbered, None, None),
        max((p.scores.malignancy for p in numbered), default=None),
    )  # fmt: skip


VIEWS = (
    (Laterality.LEFT, View.CC),
    (Laterality.LEFT, View.MLO),
    (Laterality.RIGHT, View.CC),
    (Laterality.RIGHT, View.MLO),
)


def four_views(**changes) -> list[Header]:
    return [header(side, view, n, **changes) for n, (side, view) in enumerate(VIEWS, 1)]


def with_findings(**changes) -> StudyResult:
    a, b, c, d = four_views(**changes)
    return study(
        [
            prediction(a, [finding(a, 1, 0.8), finding(a, 2, 0.1, x=500)]),
            prediction(b, [finding(b, 1, 0.4, kind=RegionKind.CALCIFICATION)]),
            prediction(c),
            prediction(d, [finding(d, 1, 0.05)]),
        ],
        patient=a.patient,
        facts=a.study,
    )


def outcomes() -> dict[str, StudyResult]:
    """All four outcomes of a study."""
    a, b, c, d = four_views()
    return {
        "findings": with_findings(),
        "none": study([prediction(h) for h in (a, b, c, d)]),
        "some-failed": study([prediction(a, [finding(a, 1, 0.7)]), prediction(b)], [failure(c), failure(d)]),
        "all-failed": study([], [failure(h) for h in (a, b, c, d)]),
    }


def awkward() -> dict[str, StudyResult]:
    """Sources that break writers."""
    empty = Patient("", "", "", "", Sex.UNKNOWN, "")
    nothing = StudyFacts("1.2.3.4.6", "", "", "", "", "", "", "")
    long_uid = "1.2." + "3" * 60
    return {
        "empty": with_findings(patient=empty, study=nothing, patient_orientation=(), spacing=None, content_date="",
                               content_time="", manufacturer=""),
        "japanese": with_findings(patient=dataclasses.replace(PATIENT, name="Yamada^Hanako=山田^花子=やまだ^はなこ")),
        "cyrillic": with_findings(patient=dataclasses.replace(PATIENT, name="Иванова^Анна")),
        "latin": with_findings(patient=dataclasses.replace(PATIENT, name="Müller^Änne")),
        "long-uid": with_findings(study=dataclasses.replace(STUDY, study_instance_uid=long_uid)),
        "unknown-side": study(
            [prediction(h, [finding(h, 1, 0.9)]) for h in [header(Laterality.UNKNOWN, View.UNKNOWN, 1)]]
        ),
    }  # fmt: skip
