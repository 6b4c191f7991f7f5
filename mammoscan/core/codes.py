"""Coded terms of mammography, in SCT and in the older SRT (PS3.16 CID 244, 4014, 4015, 6000, 6022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mammoscan.core.domain import Density, Laterality, View
from mammoscan.core.values import text

if TYPE_CHECKING:
    from pydicom import Dataset

_SCHEMES = frozenset({"SCT", "SRT", "SNM3", "99SDM"})  # PS3.16 8: the last two are older names of SRT

VIEWS: dict[str, View] = {
    "399260004": View.ML, "R-10224": View.ML,
    "399368009": View.MLO, "R-10226": View.MLO,
    "399352003": View.LM, "R-10228": View.LM,
    "399099002": View.LMO, "R-10230": View.LMO,
    "399162004": View.CC, "R-10242": View.CC,
    "399196006": View.FB, "R-10244": View.FB,
    "399188001": View.SIO, "R-102D0": View.SIO,
    "441555000": View.ISO, "R-40AAA": View.ISO,
    "399192008": View.XCCL, "R-1024A": View.XCCL,
    "399101009": View.XCCM, "R-1024B": View.XCCM,
}  # fmt: skip
SPECIMEN = {"127457009", "G-8310"}

# For writing: the code and meaning of each view in SCT.
VIEW_CODES: dict[View, tuple[str, str]] = {
    View.ML: ("399260004", "medio-lateral"),
    View.MLO: ("399368009", "medio-lateral oblique"),
    View.LM: ("399352003", "latero-medial"),
    View.LMO: ("399099002", "latero-medial oblique"),
    View.CC: ("399162004", "cranio-caudal"),
    View.FB: ("399196006", "caudo-cranial (from below)"),
    View.SIO: ("399188001", "superolateral to inferomedial oblique"),
    View.ISO: ("441555000", "inferomedial to superolateral oblique"),
    View.XCCL: ("399192008", "cranio-caudal exaggerated laterally"),
    View.XCCM: ("399101009", "cranio-caudal exaggerated medially"),
}
MODIFIERS: dict[str, str] = {
    code: meaning
    for codes, meaning in (
        (("399161006", "R-102D2"), "cleavage"),
        (("399011000", "R-102D1"), "axillary tail"),
        (("399197002", "R-102D3"), "rolled lateral"),
        (("399226006", "R-102D4"), "rolled medial"),
        (("414493004", "R-102CA"), "rolled inferior"),
        (("415670009", "R-102C9"), "rolled superior"),
        (("399209000", "R-102D5"), "implant displaced"),
        (("399163009", "R-102D6"), "magnification"),
        (("399055006", "R-102D7"), "spot compression"),
        (("399110001", "R-102C2"), "tangential"),
        (("442581004", "R-40AB3"), "nipple in profile"),
        (("441752004", "P2-00161"), "anterior compression"),
        (("442593008", "R-40ABE"), "infra-mammary fold"),
        (("442580003", "R-40AB2"), "axillary tissue"),
    )
    for code in codes
}
# What comes before and after a view in the ACR's quality manual of 1999 (PS3.16 CID 4015).
ABBREVIATED_MODIFIERS = {
    "S": "spot compression",
    "M": "magnification",
    "RL": "rolled lateral",
    "RM": "rolled medial",
    "RI": "rolled inferior",
    "RS": "rolled superior",
    "ID": "implant displaced",
    "NP": "nipple in profile",
    "AC": "anterior compression",
    "IMF": "infra-mammary fold",
    "AX": "axillary tissue",
}
BREAST_COMPOSITION = {"129715009", "F-01710"}
DENSITIES: dict[str, Density] = {
    "129716005": Density.A, "F-01711": Density.A,
    "129717001": Density.B, "F-01712": Density.B,
    "129718006": Density.C, "F-01713": Density.C,
    "129719003": Density.D, "F-01714": Density.D,
}  # fmt: skip
DENSITY_CODES: dict[Density, tuple[str, str]] = {
    Density.A: ("129716005", "Almost entirely fat"),
    Density.B: ("129717001", "Scattered fibroglandular densities"),
    Density.C: ("129718006", "Heterogeneously dense"),
    Density.D: ("129719003", "Extremely dense"),
}
SIDES: dict[str, Laterality] = {
    "80248007": Laterality.LEFT, "T-04030": Laterality.LEFT,
    "73056007": Laterality.RIGHT, "T-04020": Laterality.RIGHT,
    "63762007": Laterality.BOTH, "T-04080": Laterality.BOTH,
    # CID 244: sides without their organ, as TID 1500 writes them below a finding site
    "7771000": Laterality.LEFT, "G-A101": Laterality.LEFT,
    "24028007": Laterality.RIGHT, "G-A100": Laterality.RIGHT,
    "51440002": Laterality.BOTH, "G-A102": Laterality.BOTH,
}  # fmt: skip
SIDE_CODES: dict[Laterality, tuple[str, str]] = {
    Laterality.LEFT: ("80248007", "Left breast"),
    Laterality.RIGHT: ("73056007", "Right breast"),
    Laterality.BOTH: ("63762007", "Both breasts"),
}


def value(item: Dataset) -> str:
    """The code value of a code sequence item in SCT or SRT, '' for other schemes."""
    return text(item, "CodeValue") if text(item, "CodingSchemeDesignator").upper() in _SCHEMES else ""


def dcm_value(item: Dataset) -> str:
    """The code value of a code sequence item in DICOM's own terminology (PS3.16 Annex D), '' for other schemes."""
    return text(item, "CodeValue") if text(item, "CodingSchemeDesignator").upper() == "DCM" else ""
