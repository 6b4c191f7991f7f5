"""The parts of the conformance statement that are made from the code: ``python -m tests.docs`` writes them."""

from __future__ import annotations

from pydicom.uid import UID

from tests.markdown import table


def written() -> str:
    from mammoscan.core.kinds import KINDS

    return table(
        ("SOP class", "UID", "Modality", "`--write`"),
        [(k.sop_class, k.sop_class_uid, k.modality, f"`{k.name}`") for k in KINDS],
    )


def read() -> str:
    from mammoscan.archive import header

    classes = [*header._PIXEL_CLASSES, *(k + "x" for k in (header._STRUCTURED_REPORT,))]
    return table(("SOP class", "UID"), [("structured reports" if c.endswith("x") else UID(c).name, c) for c in classes])


def syntaxes() -> str:
    from mammoscan.image.pixels import DECODERS, NATIVE

    return table(("transfer syntax", "UID"), [(UID(s).name, str(s)) for s in dict.fromkeys((*NATIVE, *DECODERS))])


def proposed() -> str:
    from mammoscan.send.dimse import SYNTAXES

    return table(("transfer syntax", "UID"), [(UID(s).name, str(s)) for s in SYNTAXES])


def deidentification() -> str:
    from mammoscan.report.sr_common import DEIDENTIFICATION

    return table(("code", "scheme", "meaning"), [(c.value, c.scheme_designator, c.meaning) for c in DEIDENTIFICATION])


PARTS = {
    "written": written,
    "read": read,
    "syntaxes": syntaxes,
    "proposed": proposed,
    "deidentification": deidentification,
}
