"""Write an audit: metrics.json, metrics.csv, cases.csv, unmatched.csv, changed.csv, figures, HTML and PDF."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mammoscan import NOTICE, __version__
from mammoscan.audit import figures, gallery, html, pdf, words
from mammoscan.audit.curves import Ranking, decision_curve
from mammoscan.audit.intervals import Interval
from mammoscan.audit.links import report_of
from mammoscan.audit.match import Members
from mammoscan.audit.measure import LevelAudit, Measure, is_probability, reaches
from mammoscan.audit.story import Audit, as_mapping
from mammoscan.core import store

METRIC_COLUMNS = (
    "level", "metric", "meaning", "unit", "threshold_name", "threshold", "value", "lower", "upper", "interval_method",
    "other_lower", "other_upper", "other_method", "cases", "positives", "patients",
    "numerator", "denominator", "refused", "note",
)  # fmt: skip
CASE_COLUMNS = ("level", "case", "truth", "score", "patient", "rows", "images", "report")
_FORMULA = frozenset("=+-@\t\r")  # what a spreadsheet takes for the beginning of one
_PIECE = 1 << 20  # characters of a table that are written together
UNMATCHED_COLUMNS = ("kind", "identifier", "rows", "why")
CHANGED_COLUMNS = ("level", "case", "truth", "score", "baseline_score", "now", "patient", "images", "report")


def write_audit(audit: Audit, out: Path) -> tuple[Path, ...]:
    """Write every file of an audit into a folder; each appears whole."""
    pictures = gallery.galleries(audit)
    drawn = figures.all_figures(audit)
    vectors = {title: figures.svg(figure) for title, figure in drawn.items()}
    files: dict[str, Iterable[bytes]] = {
        "metrics.json": [metrics_json(audit)],
        "metrics.csv": table(METRIC_COLUMNS, (metric_row(m) for m in audit.measures)),
        "cases.csv": table(CASE_COLUMNS, case_rows(audit)),
        "unmatched.csv": table(UNMATCHED_COLUMNS, unmatched_rows(audit)),
        "audit.html": [html.page(audit, vectors, pictures, out)],
        "audit.pdf": [pdf.render(audit, drawn, pictures, out)],
    }
    for title, vector in vectors.items():
        files[f"figures/{figure_name(title)}.svg"] = [vector.encode()]
    if audit.comparisons:
        files["changed.csv"] = table(CHANGED_COLUMNS, changed_rows(audit))
    out.mkdir(parents=True, exist_ok=True)
    for name, pieces in files.items():
        fresh = store.Fresh(out / name)
        try:
            for piece in pieces:
                fresh.write(piece)
            fresh.settle()
        finally:
            fresh.abandon()
    return tuple(out / name for name in files)


def figure_name(title: str) -> str:
    """A figure's file name: its title in lower case with hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """CSV bytes, UTF-8, piece by piece; no cell of which a spreadsheet would run as a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        if text.tell() > _PIECE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _cell(value: object) -> str:
    if isinstance(value, str):
        return f"'{value}" if value[:1] in _FORMULA else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return repr(float(value))  # NumPy's own repr names its type
    if isinstance(value, int):
        return str(value)
    return _cell(str(value))


def metric_row(m: Measure) -> tuple[object, ...]:
    """A measure as the columns of metrics.csv."""
    one, two = m.interval, m.other
    return (
        m.level, m.metric, m.label, m.unit, m.threshold_name, m.threshold, m.value,
        one and one.lower, one and one.upper, one and one.method,
        two and two.lower, two and two.upper, two and two.method,
        m.n, m.positives, m.patients, m.count and m.count[0], m.count and m.count[1], m.refused, m.note,
    )  # fmt: skip


def case_rows(audit: Audit) -> Iterable[tuple[object, ...]]:
    """Every case of every level, with the label rows and images that made it."""
    pairs = audit.joined.pairs
    images, labels = pairs.images, pairs.labels
    lines, starts = labels.lines[labels.order].tolist(), labels.starts.tolist()
    of_image, of_label = pairs.image.tolist(), pairs.label.tolist()
    names = [path or name for path, name in zip(images.paths, images.ids, strict=True)]
    patients, studies, folders = images.patient_ids, images.study_instance_uids, images.folders
    report = cache(partial(report_of, audit))
    for level in audit.levels:
        cases = level.cases
        members = cases.members
        assert isinstance(members, Members)
        order, begins = members.order.tolist(), members.starts.tolist()
        facts = zip(cases.ids, cases.truth.tolist(), cases.scores.tolist(), begins, begins[1:], strict=False)
        for name, truth, score, begin, end in facts:
            found = order[begin:end]
            first = of_image[found[0]]
            rows = {line for pair in found for line in lines[starts[of_label[pair]] : starts[of_label[pair] + 1]]}
            yield (
                cases.level, name, "positive" if truth else "negative", score, patients.made(first),
                " ".join(map(str, sorted(rows))), " ".join([names[of_image[pair]] for pair in found]),
                report(studies.made(first), folders.made(first)),
            )  # fmt: skip


def unmatched_rows(audit: Audit) -> Iterable[tuple[object, ...]]:
    """Labels without a result and results without a label."""
    for label, why in audit.joined.unmatched_labels:
        yield ("label", " ".join(label.key), " ".join(map(str, label.rows)), why)
    for image in audit.joined.unmatched_results:
        yield ("result", image.path or image.id, "", f"no label by {audit.joined.key.value}")


def changed_rows(audit: Audit) -> Iterable[tuple[object, ...]]:
    """Cases that one of two results flags and the other does not."""
    for comparison in audit.comparisons:
        for c in words.changed(audit, comparison):
            report = report_of(audit, c.image.study_instance_uid, c.image.folder)
            yield (
                comparison.level, c.case, "positive" if c.positive else "negative", c.score, c.baseline, c.state,
                c.image.patient_id, " ".join(c.images), report,
            )  # fmt: skip


def metrics_json(audit: Audit) -> bytes:
    """Everything that was found, for machines; null where a number is undefined."""
    joined = audit.joined
    data = {
        "notice": NOTICE,
        "software": f"mammoscan {__version__}",
        "results": joined.results.name,
        "model": joined.results.model,
        "labels": audit.config.labels.name,
        "joined_by": joined.key.value,
        "notes": list(joined.notes),
        "settings": dict(as_mapping(audit.config.settings)),
        "counts": {
            "pairs": len(joined.pairs),
            "unmatched_labels": len(joined.unmatched_labels),
            "unmatched_results": len(joined.unmatched_results),
        },
        "metrics": [dict(zip(METRIC_COLUMNS, metric_row(m), strict=True)) for m in audit.measures],
        "levels": [_level(level) for level in audit.levels],
        "region_level": audit.region_note,
        "class_reports": [_classes(*entry) for entry in audit.classes],
        "subgroups": [
            {
                "level": g.level, "factor": g.factor, "group": g.group, "metric": g.metric,
                "threshold_name": g.threshold_name, "value": g.value, **_interval(g.interval),
                "cases": g.n, "positives": g.positives, "small": g.small, "refused": g.refused,
            }
            for g in audit.groups
        ],
        "subgroup_tests": [
            {"level": d.level, "factor": d.factor, "metric": d.metric, "chi_squared": d.statistic, "degrees_of_freedom": d.freedom, "p": d.p, "small": d.small}
            for d in audit.differences
        ],
        "comparisons": [_comparison(c) for c in audit.comparisons],
        "bars": [
            {"bar": v.bar.text, "level": v.level, "value": v.value, "met": v.met, **_interval(v.interval), "refused": v.refused}
            for v in audit.verdicts
        ],
        "exit_status": int(audit.exit),
    }  # fmt: skip
    return (json.dumps(_finite(data), indent=1, ensure_ascii=False) + "\n").encode()


def _level(level: LevelAudit) -> dict[str, object]:
    cases = level.cases
    return {
        "level": cases.level,
        "cases": len(cases.truth),
        "positives": int(cases.truth.sum()),
        "notes": list(cases.notes),
        "tables": {name: dict(zip(("tp", "fp", "fn", "tn"), t, strict=True)) for name, t in level.tables.items()},
        # What threshold would give a sensitivity: read off these cases, so optimistic for new ones.
        "threshold_for_sensitivity": [
            {
                "wanted": r.wanted, "threshold": r.threshold, "sensitivity": r.sensitivity,
                "specificity": r.specificity, "flagged": r.flagged,
            }
            for r in reaches(cases)
        ],
        "decision_curve": _decision_curve(level),
    }  # fmt: skip


def _decision_curve(level: LevelAudit) -> list[dict[str, float]] | None:
    """Net benefit in true positives per case at threshold probabilities 0.01 to 0.99; None without probabilities."""
    cases = level.cases
    if not is_probability(cases.scores):
        return None
    thresholds = np.arange(1, 100) / 100
    by_score, everyone = decision_curve(Ranking.of(cases.truth, cases.scores), thresholds)
    return [
        {"threshold": float(t), "recall_by_score": float(a), "recall_everyone": float(b)}
        for t, a, b in zip(thresholds, by_score, everyone, strict=True)
    ]


def _classes(level: str, how: str, report: Any) -> dict[str, object]:
    def line(row: Any) -> dict[str, object]:
        return {"precision": row.precision, "recall": row.recall, "f1": row.f1, "support": row.support}

    return {
        "level": level,
        "decided_by": how,
        "classes": {row.name: line(row) for row in report.rows},
        "accuracy": report.accuracy,
        "macro": line(report.macro),
        "weighted": line(report.weighted),
        "confusion_matrix": report.matrix.tolist(),
    }


def _comparison(c: Any) -> dict[str, object]:
    return {
        "level": c.level,
        "common_cases": c.n,
        "positives": c.positives,
        "only_in_results": c.only_new,
        "only_in_baseline": c.only_baseline,
        "auc": c.auc and {
            "results": c.auc.auc, "baseline": c.auc.baseline, "difference": c.auc.difference, **_interval(c.auc.interval),
            "z": c.auc.z, "p": c.auc.p,
        },
        "refused": c.refused,
        "threshold_name": c.threshold and c.threshold.name,
        "threshold": c.threshold and c.threshold.value,
        "baseline_threshold": c.baseline_threshold and c.baseline_threshold.value,
        "mcnemar": c.mcnemar and {
            "only_results_right": c.mcnemar.only_new_right, "only_baseline_right": c.mcnemar.only_baseline_right,
            "chi_squared": c.mcnemar.statistic, "p": c.mcnemar.p, "exact": c.mcnemar.exact,
            "clustered_by_patient": c.mcnemar.clustered,
        },
        "changed_sides": len(c.changed),
    }  # fmt: skip


def _interval(interval: Interval | None) -> dict[str, object]:
    if interval is None:
        return {"lower": None, "upper": None, "interval_method": None}
    return {"lower": interval.lower, "upper": interval.upper, "interval_method": interval.method}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
