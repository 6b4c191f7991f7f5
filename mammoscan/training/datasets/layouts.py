"""What ``mammoscan train`` reads, as the manual lists it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """One layout of a set. recognised: by what. truth: what is taken from it, and how. cite: the source."""

    name: str
    recognised: str
    truth: str
    cite: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a manifest."""

    name: str
    needed: bool
    meaning: str


PREPARED, MIAS, CBIS, INBREAST, MANIFEST_CSV = "prepared", "mini-MIAS", "CBIS-DDSM", "INbreast", "manifest"

LAYOUTS = (
    Layout(
        PREPARED,
        "`labels.csv` and `images/` in a folder `mias`, `cbis-mass`, `cesm`, `cesm-cc` or `rsna`, or with the columns of one",
        "boxes, circles (`mias`) or `masks/` (`cesm`, and `cbis-mass` beside its boxes); `cesm-cc`: the class of the view, "
        "`rsna`: cancer by breast, no places; `cbis-mass` and `rsna` are stretched to a square, which is undone, by each film's "
        "own ratio where `aspect.csv` has it",
        "as the sets below; CDD-CESM (10.7937/29kw-ae92), RSNA 2022",
    ),
    Layout(
        MIAS,
        "`Info.txt` that lists films `mdb001` ...; `mdb001.pgm` ... beside it or below (1024 x 1024, 0.2 mm)",
        "circles with class and severity, y counted from the bottom edge; `NORM` films; F, G, D; films 2n-1 (right) and 2n "
        "(left) are one patient",
        "Suckling et al. 1994, Excerpta Medica ICS 1069",
    ),
    Layout(
        CBIS,
        "any of `mass_` and `calc_case_description_train_set.csv` and `_test_set.csv`; case folders "
        "`Mass-Training_P_00001_LEFT_CC` ... up to 6 folders below, inside as TCIA or as the NBIA Data Retriever lays them out",
        "pathology by region (BENIGN_WITHOUT_CALLBACK is benign), place from its mask: the file with two grey levels, "
        "whichever column names it, scaled to the image's size; kind by table and mass shape; official parts are not used",
        "Lee et al. 2017, 10.7937/K9/TCIA.2016.7O02S9CY",
    ),
    Layout(
        INBREAST,
        "`INbreast.csv` (or `.xls`, `.xlsx`), `AllDICOMs/`, `AllXML/`",
        "by the image's BI-RADS category, as usual for this set: 1 normal, 2 and 3 benign, 4 to 6 malignant; outlines of "
        "masses, clusters, distortions, asymmetries; single calcifications are places of uncertain class; patients by the "
        "code in the DICOM's name",
        "Moreira et al. 2012, 10.1016/j.acra.2011.09.014",
    ),
    Layout(MANIFEST_CSV, "`manifest.csv`", "the columns below", "your own"),
)

MANIFEST = (
    Column(
        "path",
        True,
        "image, relative to the table: DICOM, PNG, JPEG or PGM (8 or 16 bits); several rows: several lesions",
    ),
    Column("patient", True, "code of the patient; never the same for two, since folds are made by it"),
    Column("laterality", True, "L or R; may be empty where unknown or in the DICOM file, which it may not contradict"),
    Column("view", True, "CC, MLO or another ViewPosition; as laterality"),
    Column("label", True, "normal, benign or malignant: of the lesion, or of the image where the row has no place"),
    Column("density", False, "a to d or 1 to 4 (BI-RADS)"),
    Column("age", False, "years"),
    Column("x0", False, "box of the lesion in pixels of the image as stored, from its top left corner: left edge"),
    Column("y0", False, "top edge"),
    Column("x1", False, "right edge"),
    Column("y1", False, "bottom edge"),
    Column("contour", False, "instead of a box, the outline: `x y; x y; x y` in the same pixels"),
    Column("kind", False, "mass, calcification, architectural distortion or asymmetry"),
    Column("assessment", False, "BI-RADS category"),
    Column("subtlety", False, "1 (subtle) to 5 (obvious)"),
    Column("pixel_mm", False, "size of a pixel in millimetres, where the file doesn't state it"),
)
