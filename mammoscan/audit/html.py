"""One self-contained HTML page: no network, no scripts."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from mammoscan import NOTICE, __version__
from mammoscan.audit import gallery as gallery_module
from mammoscan.audit import words
from mammoscan.audit.gallery import Card, Gallery
from mammoscan.audit.links import link_to, report_of
from mammoscan.audit.measure import LevelAudit, reaches
from mammoscan.audit.metrics import ClassReport
from mammoscan.audit.story import Audit
from mammoscan.audit.subgroups import FACTORS

REFUSED = "not given"  # how ``words`` begins where there is no value
STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.25rem;margin:2.2rem 0 .6rem;border-bottom:1px solid #ccc;padding-bottom:.2rem}
h3{font-size:1.02rem;margin:1.2rem 0 .4rem}.lead{background:#f3f7fa;border-left:4px solid #0072B2;padding:.8rem 1.2rem}
.lead p{margin:.35rem 0}.lead p:first-child{font-size:1.1rem;font-weight:600}
.muted{color:#595959;font-size:.87rem}.notice{color:#7a1500;font-weight:600;font-size:.87rem;margin:.2rem 0}
nav{font-size:.9rem;margin:.5rem 0 1rem}nav a{margin-right:1rem}a{color:#005a8d}
table{border-collapse:collapse;font-size:.84rem;margin:.4rem 0 1rem}
th,td{padding:.22rem .6rem;border-bottom:1px solid #e3e3e3;text-align:left;vertical-align:top}th{background:#f6f6f6}
td.n{font-variant-numeric:tabular-nums;white-space:nowrap}td.r{color:#595959;max-width:15rem}td.m{min-width:15rem}
.figures{display:flex;flex-wrap:wrap;gap:1.2rem}figure{margin:0;flex:1 1 460px;max-width:520px}
figure.wide{flex:1 1 100%;max-width:1040px}figure.slim{flex:0 1 330px}figure svg{width:100%;height:auto}
figcaption{font-weight:600;font-size:.92rem}.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:.9rem}
.card{border:1px solid #ddd;border-radius:5px;padding:.5rem;font-size:.85rem;overflow-wrap:anywhere}
.card img{width:100%;height:420px;object-fit:contain;background:#000;display:block;margin-bottom:.3rem}
.none{background:#f1f1f1;color:#595959;padding:2.2rem .5rem;text-align:center;margin-bottom:.3rem}
.bad{color:#b3261e;font-weight:600}.scroll{overflow-x:auto}.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .8em}
details{margin:.4rem 0}summary{cursor:pointer;font-weight:600}
@media print{.card,figure{break-inside:avoid}nav{display:none}}
"""


def page(audit: Audit, vectors: Mapping[str, str], galleries: Sequence[Gallery], out: Path) -> bytes:
    """The page; links to reports are relative to ``out``. ``vectors``: figures as SVG by title."""
    results = audit.joined.results
    sections = [("Figures", "figures"), ("Misses and false alarms", "cases")]
    sections += [("Baseline", "baseline")] if audit.comparisons else []
    sections += [("All metrics", "metrics"), ("Classes", "classes")]
    sections += [("Subgroups", "subgroups")] if audit.groups else []
    sections += [("How to read this", "notes")]
    parts = [
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width,initial-scale=1'>",
        f"<title>Audit of {escape(results.name)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Audit of {escape(results.name)}</h1>",
        f"<p class='notice'>{escape(NOTICE)}</p>",
        (
            f"<p class='muted'>Labels: {escape(audit.config.labels.name)}, joined by {escape(audit.joined.key.value)}. "
            f"Model: {escape(results.model[:16] or 'not stated')}. Levels: {', '.join(a.cases.level for a in audit.levels)}. "
            f"mammoscan {__version__}.</p>"
        ),
        "<div class='lead'>",
        *(f"<p{_bad(text)}>{escape(text)}</p>" for text in words.summary(audit)),
        "</div>",
        "<nav>" + "".join(f"<a href='#{anchor}'>{title}</a>" for title, anchor in sections) + "</nav>",
        "<h2 id='figures'>Figures</h2><div class='figures'>",
        *(_figure(number, title, vector) for number, (title, vector) in enumerate(vectors.items())),
        "</div><div id='cases'></div>",
    ]
    parts += [_gallery(g, audit, out) for g in galleries]
    if audit.comparisons:
        parts.append(_comparisons(audit, out))
    parts.append("<h2 id='metrics'>All metrics</h2>")
    parts += [_level(a, opened=i == 0) for i, a in enumerate(_ordered(audit))]
    if audit.froc:
        rows = [(m.label, words.number(m), words.cases_of(m), f"{m.n:,}", m.interval.method if m.interval else "",
                 m.note.partition("; ")[2]) for m in audit.froc]  # fmt: skip
        head = ("metric", "value (95 % interval)", "lesions", "images", "interval by", "note")
        parts.append("<h3>Free response</h3>" + _table(head, rows, {1, 2, 3}))
    parts.append("<h2 id='classes'>Per-class reports</h2>")
    first = audit.primary.cases.level
    parts += [_classes(*c) for c in audit.classes if c[0] == first]
    if rest := [c for c in audit.classes if c[0] != first]:
        inner = "".join(_classes(*c) for c in rest)
        parts.append(f"<details><summary>The other levels</summary>{inner}</details>")
    if audit.groups:
        parts.append(_subgroups(audit))
    parts += [
        "<h2 id='notes'>How to read this</h2><ul>",
        *(f"<li>{escape(c)}</li>" for c in words.caveats(audit)),
        f"<li>{escape(NOTICE)}</li>",
        "</ul></body></html>",
    ]
    return "\n".join(parts).encode()


def _ordered(audit: Audit) -> list[LevelAudit]:
    return [audit.primary, *(a for a in audit.levels if a is not audit.primary)]


def _bad(text: str) -> str:
    return " class='bad'" if words.alarming(text) else ""


def _figure(number: int, title: str, svg: str) -> str:
    shape = " class='wide'" if title.startswith("Subgroups") else " class='slim'" if title.startswith("Conf") else ""
    # Ids repeat between matplotlib's figures; within one page they must not.
    for what in ('id="', 'href="#', "url(#"):
        svg = svg.replace(what, f"{what}f{number}-")
    label = escape(title, quote=True)
    svg = svg.replace("<svg", f"<svg role='img' aria-label='{label}'", 1)
    return f"<figure{shape}><figcaption>{label}</figcaption>{svg}</figure>"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]], numeric: set[int]) -> str:
    def cell(i: int, value: object) -> str:
        text = str(value)
        kind = " class=r" if text.startswith(REFUSED) else " class=n" if i in numeric else " class=m" if i == 0 else ""
        return f"<td{kind}>{escape(text)}</td>"

    body = "".join("<tr>" + "".join(cell(i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    heads = "".join(f"<th>{escape(h)}</th>" for h in head)
    return f"<div class='scroll'><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"


def _level(level: LevelAudit, *, opened: bool) -> str:
    n, positives = len(level.cases.truth), int(level.cases.truth.sum())
    out = [
        f"<details{' open' if opened else ''}><summary>{level.cases.level.capitalize()} level: {n:,} cases, {positives:,} positive</summary>"
    ]
    head = ("metric", "value (95 % interval)", "cases", "unit", "interval by", "note")
    for threshold in ("", *(t.name for t in level.thresholds)):
        found = [m for m in level.measures if m.threshold_name == threshold]
        if threshold:
            value = next(t.value for t in level.thresholds if t.name == threshold)
            tp, fp, fn, tn = level.tables[threshold]
            out.append(
                f"<h3>{escape(threshold)} (score {value:.4g} and above): TP {tp:,}, FP {fp:,}, FN {fn:,}, TN {tn:,}</h3>"
            )
        rows = [
            (m.label, words.number(m), words.cases_of(m), m.unit, m.interval.method if m.interval else "", m.note)
            for m in found
        ]
        out.append(_table(head, rows, {1, 2}))
    if found_at := reaches(level.cases):
        rows_at = [
            (f"{100 * r.wanted:.0f} %", f"{r.threshold:.4g}", f"{100 * r.sensitivity:.1f} %", _percent(r.specificity), f"{r.flagged:,}")
            for r in found_at
        ]  # fmt: skip
        out.append(
            "<h3>What threshold would give a sensitivity?</h3><p class='muted'>The highest that does on these cases; optimistic for "
            "others. <code>--sensitivity</code> gives all metrics there, with intervals.</p>"
            + _table(("wanted", "threshold", "sensitivity here", "specificity here", "flagged"), rows_at, {1, 2, 3, 4})
        )
    return "".join(out) + "</details>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if math.isfinite(share) else "undefined"


def _classes(level: str, how: str, report: ClassReport) -> str:
    rows = [
        (r.name, words.three(r.precision), words.three(r.recall), words.three(r.f1), r.support)
        for r in (*report.rows, report.macro, report.weighted)
    ]
    title = f"{level.capitalize()} level, by {how}: accuracy {words.three(report.accuracy)}"
    names = [r.name for r in report.rows]
    matrix = [(f"truth {name}", *(f"{v:,}" for v in row)) for name, row in zip(names, report.matrix, strict=True)]
    return (
        f"<h3>{escape(title)}</h3>"
        + _table(("class", "precision", "recall", "F1", "support (cases)"), rows, {1, 2, 3, 4})
        + _table(("", *(f"called {n}" for n in names)), matrix, set(range(1, len(names) + 1)))
    )


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
                words.NAMES.get(g.metric, g.metric),
                value,
                f"{g.positives}/{g.n}",
                "small group" if g.small else "",
            )
        )
    tests = [
        (d.level, labels[d.factor], words.NAMES.get(d.metric, d.metric), f"{d.statistic:.2f}" if d.freedom and d.p == d.p else "undefined", d.freedom, (f"{d.p:.3g}" + " (small groups: unreliable)" * d.small) if d.p == d.p else "")
        for d in audit.differences
    ]  # fmt: skip
    return (
        "<h2 id='subgroups'>Subgroups</h2><details open><summary>Every subgroup</summary>"
        + _table(("level", "by", "group", "metric", "value (95 % interval)", "positives/cases", ""), rows, {4, 5})
        + "</details><h3>Do they differ?</h3><p class='muted'>Wald test on log odds, over patients, that all known groups are alike; no correction for "
        "the number of tests, so expect 1 in 20 below 0.05 by chance.</p>"
        + _table(("level", "by", "metric", "chi-squared", "degrees of freedom", "p"), tests, {3, 4, 5})
    )


def _comparisons(audit: Audit, out: Path) -> str:
    rows = []
    for c in audit.comparisons:
        auc = "not given: " + c.refused
        if c.auc is not None:
            span = c.auc.interval
            auc = f"{c.auc.auc:.3f}, baseline {c.auc.baseline:.3f}: difference {c.auc.difference:+.3f} ({span.lower:+.3f} to {span.upper:+.3f}), p = {c.auc.p:.3g}"
        test = ""
        if c.mcnemar is not None:
            test = words.mcnemar(c.mcnemar)
        rows.append((c.level, f"{c.positives}/{c.n}", auc, test, len(c.changed)))
    name = escape(audit.baseline.name) if audit.baseline else ""
    head = ("level", "positives/common cases", "AUC (paired DeLong)", "decisions (McNemar)", "changed sides")
    return (
        f"<h2 id='baseline'>Against the baseline {name}</h2>"
        + _table(head, rows, {4})
        + f"<p class='muted'>{escape(words.both_thresholds(audit))}</p>"
        + _changed(audit, out)
    )


def _changed(audit: Audit, out: Path) -> str:
    comparison = words.shown_comparison(audit)
    if comparison is None or not comparison.changed:
        return ""
    found = words.changed(audit, comparison)
    lines = []
    for c in found[: words.MOST_CHANGED]:
        report = report_of(audit, c.image.study_instance_uid, c.image.folder)
        link = f" <a href='{link_to(audit, report, out)}'>report of the study</a>" if report else ""
        lines.append(f"<li>{escape(words.changed_line(c))}{link}</li>")
    title = f"Changed sides, {comparison.level} level: {len(lines):,} of {len(found):,} (all levels: changed.csv)"
    return f"<h3>{escape(title)}</h3><ul>{''.join(lines)}</ul>"


def _gallery(gallery: Gallery, audit: Audit, out: Path) -> str:
    shown = f"{len(gallery.cards)} of {gallery.total:,}" if gallery.total else "none"
    cards = "".join(_card(card, audit, out) for card in gallery.cards)
    colours = (("malignant", gallery_module.TRUTH), ("benign", gallery_module.BENIGN), ("marks", gallery_module.MARK))
    keys = "".join(f"<span class='key' style='background:rgb{bgr[::-1]}'></span>{name}" for name, bgr in colours)
    note = (
        f"<p class='muted'>{keys} with their scores, thick where flagged, thin the highest below.</p>"
        if any(card.picture for card in gallery.cards)
        else ""
    )
    return f"<h2>{escape(gallery.title)}: {shown}</h2>{note}<div class='cards'>{cards}</div>"


def _card(card: Card, audit: Audit, out: Path) -> str:
    picture = f"<div class='none'>{escape(card.missing)}</div>"
    if card.picture is not None:
        data = base64.b64encode(card.picture).decode()
        picture = f"<img alt='{escape(card.image, quote=True)}' src='data:image/jpeg;base64,{data}'>"
    link = f"<br><a href='{link_to(audit, card.report, out)}'>report of the study</a>" if card.report else ""
    return f"<div class='card'>{picture}<b>score {card.score:.3f}</b>, truth {escape(card.truth)}<br>{escape(card.who)}<br><span class='muted'>{escape(card.image)}</span>{link}</div>"
