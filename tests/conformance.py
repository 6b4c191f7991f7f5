"""The parts of the conformance statement that are made from the code: ``python -m tests.conformance`` writes them."""

from __future__ import annotations

import re
from pathlib import Path

from pydicom.uid import UID

from tests.docs import _table

STATEMENT = Path(__file__).parent.parent / "mammoscan" / "CONFORMANCE.md"


def written() -> str:
    from mammoscan.core.kinds import KINDS

    return _table(
        ("SOP class", "UID", "Modality", "`--write`"),
        [(k.sop_class, k.sop_class_uid, k.modality, f"`{k.name}`") for k in KINDS],
    )


def read() -> str:
    from mammoscan.archive import header

    classes = [*header._PIXEL_CLASSES, *(k + "x" for k in (header._STRUCTURED_REPORT,))]
    return _table(
        ("SOP class", "UID"), [("structured reports" if c.endswith("x") else UID(c).name, c) for c in classes]
    )


def syntaxes() -> str:
    from mammoscan.image.pixels import DECODERS, NATIVE

    return _table(("transfer syntax", "UID"), [(UID(s).name, str(s)) for s in dict.fromkeys((*NATIVE, *DECODERS))])


def proposed() -> str:
    from mammoscan.send.dimse import SYNTAXES

    return _table(("transfer syntax", "UID"), [(UID(s).name, str(s)) for s in SYNTAXES])


def deidentification() -> str:
    from mammoscan.report.sr_common import DEIDENTIFICATION

    return _table(("code", "scheme", "meaning"), [(c.value, c.scheme_designator, c.meaning) for c in DEIDENTIFICATION])


PARTS = {
    "written": written,
    "read": read,
    "syntaxes": syntaxes,
    "proposed": proposed,
    "deidentification": deidentification,
}


def rendered(text: str) -> str:
    """The statement with its parts made anew."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        assert pattern.search(text), f"the statement has no part {name!r}"
        body = make()
        text = pattern.sub(lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text)
    return text


if __name__ == "__main__":
    STATEMENT.write_text(rendered(STATEMENT.read_text(encoding="utf-8")), encoding="utf-8")
