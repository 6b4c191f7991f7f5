"""One self-contained HTML page: no network, no scripts."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mammoscan import NOTICE, __version__
from mammoscan.audit import gallery as gallery_module
from mammoscan.audit import words
from mammoscan.audit.gallery import Card, Gallery
from mammoscan.audit.links import link_to, report_of
from mammoscan.audit.measure import LevelAudit, Measure, reaches
from mammoscan.audit.metrics import ClassReport
from mammoscan.audit.story import Audit
from mammoscan.audit.subgroups import FACTORS

REFUSED = "not given"  # how ``words`` begins where there is no value


@cache
def _templates() -> Environment:
    """The package's templates; what they show is escaped, and what they name must be there."""
    return Environment(
        loader=PackageLoader("mammoscan.audit"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(audit: Audit, vectors: Mapping[str, str], galleries: Sequence[Gallery], out: Path) -> bytes:
    """The page; links to reports are relative to ``out``. ``vectors``: figures as SVG by title."""
    results = audit.joined.results
    sections = [("Figures", "figures"), ("Misses and false alarms", "cases")]
    sections += [("Baseline", "baseline")] if audit.comparisons else []
    sections += [("All metrics", "metrics"), ("Classes", "classes")]
    sections += [("Subgroups", "subgroups")] if audit.groups else []
    sections += [("How to read this", "notes")]
    first = audit.primary.cases.level
    return (
        _templates()
        .get_template("audit.html")
        .render(
            refused=REFUSED,
            notice=NOTICE,
            version=__version__,
            name=results.name,
            labels=audit.config.labels.name,
            joined_by=audit.joined.key.value,
            model=results.model[:16] or "not stated",
            level_names=[a.cases.level for a in audit.levels],
            lead=[{"text": text, "bad": words.alarming(text)} for text in words.summary(audit)],
            sections=sections,
            figures=[_figure(number, title, vector) for number, (title, vector) in enumerate(vectors.items())],
            galleries=[_gallery(g, audit, out) for g in galleries],
            comparison=_comparisons(audit, out) if audit.comparisons else None,
            levels=[_level(a) for a in (audit.primary, *(a for a in audit.levels if a is not audit.primary))],
            froc=[
                (m.label, words.number(m), words.cases_of(m), f"{m.n:,}", _method(m), m.note.partition("; ")[2])
                for m in audit.froc
            ],
            classes=[_classes(*c) for c in audit.classes if c[0] == first],
            other_classes=[_classes(*c) for c in audit.classes if c[0] != first],
            subgroups=_groups(audit),
            differences=_differences(audit),
            caveats=words.caveats(audit),
        )
        .encode()
    )


def _method(m: Measure) -> str:
    return m.interval.method if m.interval else ""


def _figure(number: int, title: str, svg: str) -> dict[str, str]:
    # Ids repeat between matplotlib's figures; within one page they must not.
    for what in ('id="', 'href="#', "url(#"):
        svg = svg.replace(what, f"{what}f{number}-")
    label = Markup("<svg role='img' aria-label='{}'").format(title)
    shape = "wide" if title.startswith("Subgroups") else "slim" if title.startswith("Conf") else ""
    return {"title": title, "shape": shape, "svg": Markup(svg.replace("<svg", label, 1))}  # noqa: S704 (drawn here)


def _level(level: LevelAudit) -> dict[str, object]:
    n, positives = len(level.cases.truth), int(level.cases.truth.sum())
    parts = []
    for threshold in ("", *(t.name for t in level.thresholds)):
        title = ""
        if threshold:
            value = next(t.value for t in level.thresholds if t.name == threshold)
            tp, fp, fn, tn = level.tables[threshold]
            title = f"{threshold} (score {value:.4g} and above): TP {tp:,}, FP {fp:,}, FN {fn:,}, TN {tn:,}"
        rows = [
            (m.label, words.number(m), words.cases_of(m), m.unit, _method(m), m.note)
            for m in level.measures
            if m.threshold_name == threshold
        ]
        parts.append({"title": title, "rows": rows})
    return {
        "title": f"{level.cases.level.capitalize()} level: {n:,} cases, {positives:,} positive",
        "parts": parts,
        "reaches": [
            (f"{100 * r.wanted:.0f} %", f"{r.threshold:.4g}", f"{100 * r.sensitivity:.1f} %", _percent(r.specificity), f"{r.flagged:,}")
            for r in reaches(level.cases)
        ],
    }  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "undefined"


def _classes(level: str, how: str, report: ClassReport) -> dict[str, object]:
    names = [r.name for r in report.rows]
    return {
        "title": f"{level.capitalize()} level, by {how}: accuracy {words.three(report.accuracy)}",
        "rows": [
            (r.name, words.three(r.precision), words.three(r.recall), words.three(r.f1), r.support)
            for r in (*report.rows, report.macro, report.weighted)
        ],
        "matrix_head": ("", *(f"called {n}" for n in names)),
        "matrix": [(f"truth {name}", *(f"{v:,}" for v in row)) for name, row in zip(names, report.matrix, strict=True)],
    }


def _groups(audit: Audit) -> list[tuple[str, ...]]:
    labels = {f.name: f.label for f in FACTORS}
    rows: list[tuple[str, ...]] = []
    for g in audit.groups:
        value = f"not given ({g.refused})" if g.value is None else f"{g.value:.3f}"
        if g.value is not None and g.interval:
            value += f" ({g.interval.lower:.3f} to {g.interval.upper:.3f})"
        small = "small group" if g.small else ""
        metric = words.NAMES.get(g.metric, g.metric)
        rows.append((g.level, labels[g.factor], g.group, metric, value, f"{g.positives}/{g.n}", small))
    return rows


def _differences(audit: Audit) -> list[tuple[object, ...]]:
    labels = {f.name: f.label for f in FACTORS}
    rows: list[tuple[object, ...]] = []
    for d in audit.differences:
        known = math.isfinite(d.p)
        statistic = f"{d.statistic:.2f}" if d.freedom and known else "undefined"
        p = f"{d.p:.3g}" + " (small groups: unreliable)" * d.small if known else ""
        rows.append((d.level, labels[d.factor], words.NAMES.get(d.metric, d.metric), statistic, d.freedom, p))
    return rows


def _comparisons(audit: Audit, out: Path) -> dict[str, object]:
    rows = []
    for c in audit.comparisons:
        auc = "not given: " + c.refused
        if c.auc is not None:
            span = c.auc.interval
            auc = f"{c.auc.auc:.3f}, baseline {c.auc.baseline:.3f}: difference {c.auc.difference:+.3f} ({span.lower:+.3f} to {span.upper:+.3f}), p = {c.auc.p:.3g}"
        test = "" if c.mcnemar is None else words.mcnemar(c.mcnemar)
        rows.append((c.level, f"{c.positives}/{c.n}", auc, test, len(c.changed)))
    shown = words.shown_comparison(audit)
    found = words.changed(audit, shown) if shown is not None else ()
    lines = found[: words.MOST_CHANGED]
    level = shown.level if shown is not None else ""
    return {
        "name": audit.baseline.name if audit.baseline else "",
        "rows": rows,
        "thresholds": words.both_thresholds(audit),
        "changed_title": f"Changed sides, {level} level: {len(lines):,} of {len(found):,} (all levels: changed.csv)",
        "changed": [
            (words.changed_line(c), _link(audit, report_of(audit, c.image.study_instance_uid, c.image.folder), out))
            for c in lines
        ],
    }


def _link(audit: Audit, report: str, out: Path) -> str:
    return link_to(audit, report, out) if report else ""


def _gallery(gallery: Gallery, audit: Audit, out: Path) -> dict[str, object]:
    colours = ((gallery_module.TRUTH, "malignant"), (gallery_module.BENIGN, "benign"), (gallery_module.MARK, "marks"))
    return {
        "title": gallery.title,
        "shown": f"{len(gallery.cards)} of {gallery.total:,}" if gallery.total else "none",
        "legend": [(bgr[::-1], what) for bgr, what in colours] if any(card.picture for card in gallery.cards) else [],
        "cards": [_card(card, audit, out) for card in gallery.cards],
    }


def _card(card: Card, audit: Audit, out: Path) -> dict[str, str]:
    return {
        "picture": "" if card.picture is None else base64.b64encode(card.picture).decode(),
        "missing": card.missing,
        "score": f"{card.score:.3f}",
        "truth": card.truth,
        "who": card.who,
        "image": card.image,
        "link": _link(audit, card.report, out),
    }
