"""One self-contained HTML page: no network, no scripts."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from mammoscan.audit import figures, words
from mammoscan.audit.gallery import Card, Gallery
from mammoscan.audit.measure import LevelAudit
from mammoscan.audit.metrics import ClassReport
from mammoscan.audit.story import Audit
from mammoscan.audit.subgroups import FACTORS

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #ccc;padding-bottom:.2rem}
h3{font-size:1.02rem;margin:1.2rem 0 .4rem}.lead{background:#f3f7fa;border-left:4px solid #0072B2;padding:.8rem 1.2rem}
.lead p{margin:.35rem 0}.muted{color:#595959;font-size:.87rem}table{border-collapse:collapse;font-size:.84rem;margin:.4rem 0 1rem}
th,td{padding:.22rem .6rem;border-bottom:1px solid #e3e3e3;text-align:left;vertical-align:top}th{background:#f6f6f6}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}.figures{display:flex;flex-wrap:wrap;gap:1.2rem}
figure{margin:0;flex:1 1 460px;max-width:520px}figure.wide{flex:1 1 100%;max-width:760px}figure svg{width:100%;height:auto}
figcaption{font-weight:600;font-size:.92rem}.cards{display:flex;flex-wrap:wrap;gap:.9rem}
.card{border:1px solid #ddd;border-radius:5px;padding:.5rem;width:225px;font-size:.8rem;overflow-wrap:anywhere}
.card img{width:100%;height:auto;background:#000}.none{background:#f1f1f1;color:#595959;padding:2.2rem .5rem;text-align:center}
.small{color:#9a5b00}.bad{color:#b3261e;font-weight:600}.scroll{overflow-x:auto}
details{margin:.4rem 0}summary{cursor:pointer;font-weight:600}
@media print{details{display:block}.card{break-inside:avoid}}
"""


def page(audit: Audit, galleries: Sequence[Gallery], out: Path) -> bytes:
    """The page; links to reports are relative to ``out``."""
    results = audit.joined.results
    parts = [
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>Audit of {escape(results.name)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Audit of {escape(results.name)}</h1>",
        (
            f"<p class='muted'>Labels: {escape(audit.config.labels.name)}, joined by {escape(audit.joined.key.value)}. "
            f"Model: {escape(results.model[:16] or 'not stated')}. Levels: {', '.join(a.cases.level for a in audit.levels)}.</p>"
        ),
        "<div class='lead'>",
        *(f"<p{_bad(text)}>{escape(text)}</p>" for text in words.summary(audit)),
        "</div>",
        "<h2>Figures</h2><div class='figures'>",
        *(_figure(title, figures.svg(figure)) for title, figure in figures.all_figures(audit).items()),
        "</div>",
    ]
    parts += [_gallery(g, audit, out) for g in galleries]
    if audit.comparisons:
        parts.append(_comparisons(audit))
    parts += ["<h2>All metrics</h2>", *(_level(a, i == 0) for i, a in enumerate(_ordered(audit)))]
    if audit.froc:
        rows = [(m.label, words.number(m), f"{m.positives} lesions in {m.n} images") for m in audit.froc]
        parts.append("<h3>Free response</h3>" + _table(("metric", "value (95 % interval)", "number"), rows, {1}))
    if audit.classes:
        parts.append("<h2>Per-class reports</h2>" + "".join(_classes(*c) for c in audit.classes))
    if audit.groups:
        parts.append(_subgroups(audit))
    parts += [
        "<h2>How to read this</h2><ul>",
        *(f"<li>{escape(c)}</li>" for c in words.caveats(audit)),
        "</ul></body></html>",
    ]
    return "\n".join(parts).encode()


def _ordered(audit: Audit) -> list[LevelAudit]:
    return [audit.primary, *(a for a in audit.levels if a is not audit.primary)]


def _bad(text: str) -> str:
    return " class='bad'" if "NOT met" in text else ""


def _figure(title: str, svg: str) -> str:
    wide = " class='wide'" if title.startswith("Subgroups") else ""
    # Ids repeat between matplotlib's figures; within one page they must not.
    prefix = "f" + str(abs(sum(map(ord, title)))) + "-"
    for what in ('id="', 'href="#', "url(#"):
        svg = svg.replace(what, what + prefix)
    return f"<figure{wide}><figcaption>{escape(title)}</figcaption>{svg}</figure>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], numeric: set[int]) -> str:
    body = "".join(
        "<tr>"
        + "".join(f"<td{' class=n' if i in numeric else ''}>{escape(str(cell))}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    heads = "".join(f"<th>{escape(h)}</th>" for h in head)
    return f"<div class='scroll'><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"


def _level(level: LevelAudit, opened: bool) -> str:
    n, positives = len(level.cases.truth), int(level.cases.truth.sum())
    out = [
        f"<details{' open' if opened else ''}><summary>{level.cases.level.capitalize()} level: {n:,} cases, {positives:,} positive</summary>"
    ]
    head = ("metric", "value (95 % interval)", "unit", "interval by", "note")
    for threshold in ("", *(t.name for t in level.thresholds)):
        found = [m for m in level.measures if m.threshold_name == threshold]
        if threshold:
            value = next(t.value for t in level.thresholds if t.name == threshold)
            tp, fp, fn, tn = level.tables[threshold]
            out.append(
                f"<h3>{escape(threshold)} (score {value:.4g} and above): TP {tp:,}, FP {fp:,}, FN {fn:,}, TN {tn:,}</h3>"
            )
        rows = [(m.label, words.number(m), m.unit, m.interval.method if m.interval else "", m.note) for m in found]
        out.append(_table(head, rows, {1}))
    return "".join(out) + "</details>"


def _classes(level: str, how: str, report: ClassReport) -> str:
    rows = [
        (r.name, _three(r.precision), _three(r.recall), _three(r.f1), r.support)
        for r in (*report.rows, report.macro, report.weighted)
    ]
    title = f"{level.capitalize()} level, by {how}: accuracy {_three(report.accuracy)}"
    names = [r.name for r in report.rows]
    matrix = [(f"truth {name}", *(f"{v:,}" for v in row)) for name, row in zip(names, report.matrix, strict=True)]
    return (
        f"<h3>{escape(title)}</h3>"
        + _table(("class", "precision", "recall", "F1", "support (cases)"), rows, {1, 2, 3, 4})
        + _table(("", *(f"called {n}" for n in names)), matrix, set(range(1, len(names) + 1)))
    )


def _three(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def _subgroups(audit: Audit) -> str:
    labels = {f.name: f.label for f in FACTORS}
    rows = []
    for g in audit.groups:
        value = f"not given ({g.refused})" if g.value is None else f"{g.value:.3f}"
        if g.value is not None and g.interval:
            value += f" ({g.interval.lower:.3f} to {g.interval.upper:.3f})"
        rows.append(
            (
                g.level,
                labels[g.factor],
                g.group,
                g.metric,
                value,
                f"{g.positives}/{g.n}",
                "small group" if g.small else "",
            )
        )
    tests = [
        (d.level, labels[d.factor], d.metric, f"{d.statistic:.2f}" if d.freedom and d.p == d.p else "undefined", d.freedom, f"{d.p:.3g}" if d.p == d.p else "")
        for d in audit.differences
    ]  # fmt: skip
    return (
        "<h2>Subgroups</h2><details><summary>Every subgroup</summary>"
        + _table(("level", "by", "group", "metric", "value (95 % interval)", "positives/cases", ""), rows, {4, 5})
        + "</details><h3>Do they differ?</h3><p class='muted'>Wald test over patients that all known groups are alike; no correction for "
        "the number of tests, so expect 1 in 20 below 0.05 by chance.</p>"
        + _table(("level", "by", "metric", "chi-squared", "degrees of freedom", "p"), tests, {3, 4, 5})
    )


def _comparisons(audit: Audit) -> str:
    rows = []
    for c in audit.comparisons:
        auc = "not given: " + c.refused
        if c.auc is not None:
            span = c.auc.interval
            auc = f"{c.auc.auc:.3f} against {c.auc.baseline:.3f}: {c.auc.difference:+.3f} ({span.lower:+.3f} to {span.upper:+.3f}), p = {c.auc.p:.3g}"
        test = ""
        if c.mcnemar is not None:
            test = f"right only now {c.mcnemar.only_new_right}, only before {c.mcnemar.only_baseline_right}; p = {c.mcnemar.p:.3g}"
        rows.append((c.level, f"{c.positives}/{c.n}", auc, test, len(c.changed)))
    name = escape(audit.baseline.name) if audit.baseline else ""
    head = ("level", "positives/common cases", "AUC (paired DeLong)", "decisions (McNemar)", "changed sides")
    return (
        f"<h2>Against the baseline {name}</h2>"
        + _table(head, rows, {4})
        + "<p class='muted'>Cases that changed sides: changed.csv.</p>"
    )


def _gallery(gallery: Gallery, audit: Audit, out: Path) -> str:
    shown = f"{len(gallery.cards)} of {gallery.total:,}" if gallery.total else "none"
    cards = "".join(_card(card, audit, out) for card in gallery.cards)
    note = (
        "<p class='muted'>Green: the truth. Orange: marks with their scores, thick where flagged.</p>"
        if gallery.cards
        else ""
    )
    return f"<h2>{gallery.title} ({shown})</h2>{note}<div class='cards'>{cards}</div>"


def _card(card: Card, audit: Audit, out: Path) -> str:
    from mammoscan.audit.report import report_of

    picture = f"<div class='none'>{escape(card.missing)}</div>"
    if card.picture is not None:
        data = base64.b64encode(card.picture).decode()
        picture = f"<img alt='{escape(card.image, quote=True)}' src='data:image/png;base64,{data}'>"
    report = report_of(audit, card.study, card.folder)
    link = ""
    if report:
        target = os.path.relpath(audit.joined.results.source / report, out).replace(os.sep, "/")
        link = f"<br><a href='{quote(target)}'>report of the study</a>"
    return f"<div class='card'>{picture}<b>score {card.score:.3f}</b>, truth {escape(card.truth)}<br>{escape(card.image)}{link}</div>"
