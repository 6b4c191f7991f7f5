"""Several readers' feedback as one table of labels, with where they disagree and how far they agree."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mammoscan.core import store
from mammoscan.core.errors import LabelError
from mammoscan.report.tables import rows_of, safe
from mammoscan.review.opinions import AGREE, BREAST, COLUMNS, DISAGREE, FINDING, MISSED, Opinion, labelled, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mammoscan.review.opinions import Box

# Two drawn places are one lesion where their boxes share this part of what they cover together.
SAME_PLACE = 0.25
DISAGREEMENTS = (
    "study_instance_uid",
    "sop_instance_uid",
    "laterality",
    "view",
    "about",
    "finding_number",
    "what",
    "who",
)


@dataclass(frozen=True, slots=True)
class Item:
    """What several readers said of one thing: a finding, a missed place, or a breast as one image shows it.

    said: by reader. silent: readers who said something about the image and drew nothing at this place, of a missed one.
    """

    said: Mapping[str, Opinion]
    silent: tuple[str, ...] = ()

    @property
    def first(self) -> Opinion:
        return self.said[min(self.said)]


def write(results: Path, files: Sequence[Path], out: Path) -> list[str]:
    """Merge exports of the review page of ``results``; the lines to be said.

    ``out`` becomes the table of labels; its paths are absolute where the archive of the results is known, so that it is
    a manifest wherever it lies. Disagreements are listed beside it.

    Raises
    ------
    LabelError
        Where a file is no export, or nothing in them is about these results.
    OSError
        When a table cannot be written.
    """
    rows = [row for path in files for row in read(path)]
    known = _studies(results)
    own = [row for row in rows if row.cells["study_instance_uid"] in known]
    if not own:
        raise LabelError(
            "no row is about a study of these results",
            path=files[0],
            remedy="give the --out folder of the run that was reviewed",
        )
    items = _items(own)
    readers = sorted({row.reader for row in own})
    disagreements = [line for item in items if (line := _disagreement(item))]
    merged = _merged(items)
    archive = _archive(results)
    table = [_written(row, archive) for row in merged]
    listed = out.with_name(f"{out.stem}-disagreements.csv")
    store.write_if_changed(out, _csv(COLUMNS, table))
    store.write_if_changed(listed, _csv(DISAGREEMENTS, disagreements))
    labels = [row for row in merged if row.cells["label"]]
    said = [
        f"readers: {', '.join(readers)}; rows: {len(own)}"
        + (
            f"; left out, of studies that are not in these results: {len(rows) - len(own)}"
            if len(own) < len(rows)
            else ""
        ),
        f"labels: {len(labels)}, of {len({row.image for row in labels})} images: {out}",
        f"disagreements: {len(disagreements)}, of which none became a label unless more than half of the readers settle it: {listed}",
    ]
    return said + [_agreement(items, *pair) for pair in itertools.combinations(readers, 2)]


def _studies(results: Path) -> set[str]:
    try:
        return {row["study_instance_uid"] for row in rows_of(results / "studies.csv")}
    except FileNotFoundError:
        raise LabelError(
            "no studies.csv in this folder", path=results, remedy="give the --out folder of `mammoscan run`"
        ) from None


def _archive(results: Path) -> str:
    try:
        return str(json.loads((results / "run.json").read_bytes())["archive"])
    except (FileNotFoundError, KeyError):
        return ""


# --------------------------------------------------------------------------- who said what of the same thing


def _items(rows: Iterable[Opinion]) -> list[Item]:
    """Things that were judged, by image. Of one reader's rows about the same thing the one written last counts."""
    named: dict[tuple[str, str, str], dict[str, Opinion]] = defaultdict(dict)
    drawn: dict[str, list[Opinion]] = defaultdict(list)
    about: dict[str, set[str]] = defaultdict(set)
    for row in sorted(rows, key=lambda r: (r.cells["written"], r.reader)):
        about[row.image].add(row.reader)
        if row.about == MISSED:
            drawn[row.image].append(row)
        else:
            named[row.image, row.about, row.cells["tracking_uid"]][row.reader] = row
    items = [Item(said) for said in named.values()]
    for image, places in drawn.items():
        for said in _clusters(places):
            items.append(Item(said, tuple(sorted(about[image] - set(said)))))
    return sorted(
        items, key=lambda i: (i.first.cells["study_instance_uid"], i.first.image, i.first.about, _number(i.first))
    )


def _number(row: Opinion) -> tuple[int, Box]:
    return int(row.cells["finding_number"] or 0), row.box or (0.0, 0.0, 0.0, 0.0)


def _clusters(places: list[Opinion]) -> list[dict[str, Opinion]]:
    """Places of different readers that are one lesion; a reader's own are never one."""
    out: list[dict[str, Opinion]] = []
    for place in sorted(places, key=lambda p: (p.reader, p.box)):
        own = [
            c for c in out if place.reader not in c and any(_shared(place.box, o.box) >= SAME_PLACE for o in c.values())
        ]
        if own:
            own[0][place.reader] = place
        else:
            out.append({place.reader: place})
    return out


def _shared(one: Box | None, other: Box | None) -> float:
    """Intersection over union of two boxes."""
    assert one is not None
    assert other is not None
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = ((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return wide * high / (sum(areas) - wide * high)


# --------------------------------------------------------------------------- what they agree on


def _settled(words: Iterable[str], voters: int) -> str:
    """The word of more than half of so many readers, '' where there is none."""
    ((word, count),) = Counter(words).most_common(1) or [("", 0)]
    return word if 2 * count > voters else ""


def _class(item: Item) -> str:
    """The class that more than half of those state who state one; of a missed place, of those who looked at the image."""
    stated = [row.stated for row in item.said.values() if row.stated]
    return _settled(stated, len(stated) + len(item.silent))


def _in_doubt(item: Item) -> bool:
    """Whether somebody states a lesion that is not settled: then nothing is truth about its image."""
    return any(row.stated for row in item.said.values()) and not _class(item)


def _merged(items: Iterable[Item]) -> list[Opinion]:
    by_image: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_image[item.first.image].append(item)
    out = []
    for of_image in by_image.values():
        rows = [_together(item) for item in of_image]
        doubt = any(_in_doubt(item) for item in of_image)
        for row in labelled(rows):
            out.append(Opinion({**row.cells, "label": "" if doubt else row.cells["label"]}, row.box))
    return out


def _together(item: Item) -> Opinion:
    said, first = list(item.said.values()), item.first
    boxes = [row.box for row in said if row.box]
    # A finding's box is the same for all; of drawn places the mean.
    box = (
        tuple(round(sum(values) / len(boxes), 1) for values in zip(*boxes, strict=True)) if boxes else ("", "", "", "")
    )
    decisions = [row.decision for row in said if row.decision in {AGREE, DISAGREE}]
    cells = {
        **first.cells,
        "reader": "+".join(sorted(item.said)),
        "decision": MISSED if first.about == MISSED else _settled(decisions, len(decisions)) or "none",
        "stated": _class(item),
        "kind": _settled([k for row in said if (k := row.cells["kind"])], sum(bool(row.cells["kind"]) for row in said)),
        "note": "; ".join(f"{row.reader}: {row.cells['note']}" for row in said if row.cells["note"]),
        "written": max(row.cells["written"] for row in said),
        **dict(zip(("x0", "y0", "x1", "y1"), map(str, box), strict=True)),
    }
    return Opinion(cells, box if boxes else None)


def _disagreement(item: Item) -> list[str] | None:
    """A line about readers who say different things of one item, None where they do not."""
    said, first = item.said, item.first
    different = []
    for what, words in (("decision", {AGREE, DISAGREE}), ("stated", None)):
        found = {
            r: row.cells[what] for r, row in said.items() if row.cells[what] and (not words or row.cells[what] in words)
        }
        if len(set(found.values())) > 1:
            different.append((what, found))
    if item.silent:
        different.append(("seen", dict.fromkeys(said, "drawn") | dict.fromkeys(item.silent, "not drawn")))
    if not different:
        return None
    who = "; ".join(f"{reader}: {word}" for _, found in different for reader, word in sorted(found.items()))
    facts = [first.cells[name] for name in DISAGREEMENTS[:6]]
    return [*facts, ", ".join(what for what, _ in different), who]


def _agreement(items: Iterable[Item], one: str, other: str) -> str:
    """How far two readers agree, in words."""
    from sklearn.metrics import cohen_kappa_score

    both = [
        (i.said[one], i.said[other])
        for i in items
        if one in i.said and other in i.said and i.first.about in {FINDING, BREAST}
    ]
    parts = []
    for what, column, words in (("agree or disagree", "decision", {AGREE, DISAGREE}), ("true class", "stated", None)):
        pairs = list({
            # A breast is one thing, however many images show it.
            (a.cells["study_instance_uid"], a.cells["laterality"] if a.about == BREAST else a.cells["tracking_uid"]): (
                a.cells[column], b.cells[column]
            )
            for a, b in both
            if all(row.cells[column] and (not words or row.cells[column] in words) for row in (a, b))
        }.values())  # fmt: skip
        if not pairs:
            parts.append(f"{what}: nothing that both judged")
            continue
        same = sum(a == b for a, b in pairs)
        # All alike leaves nothing to agree on by chance or otherwise.
        kappa = (
            f"{cohen_kappa_score(*zip(*pairs, strict=True)):.2f}"
            if len({w for p in pairs for w in p}) > 1
            else "not defined"
        )
        parts.append(f"{what}: {same} of {len(pairs)} alike, kappa {kappa}")
    return f"{one} and {other}: {'; '.join(parts)}"


# --------------------------------------------------------------------------- bytes


def _written(row: Opinion, archive: str) -> list[str]:
    path = row.cells["path"]
    cells = {**row.cells, "path": f"{archive}/{path}" if archive else path}
    return [cells[name] for name in COLUMNS]


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([head, *([safe(cell) for cell in row] for row in rows)])
    return out.getvalue().encode("utf-8")
