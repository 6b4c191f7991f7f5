"""mini-MIAS as published: places from the bottom left corner, pairs of films, notes, errors with their line."""

import pytest

from mammoscan.core.domain import Laterality, View
from mammoscan.core.errors import LabelError
from mammoscan.training.datasets import mias_original
from tests.training.datasets import made

PROSE = """                MAMMOGRAPHIC IMAGE ANALYSIS SOCIETY
                     MiniMammographic Database

INFORMATION:

This file lists the films in the MIAS database and provides
appropriate details as follows:

\t1st column:\tMIAS database reference number.
"""
FIRST = PROSE.count("\n") + 1  # line of the first film
AT = (100, 700, 140, 740)  # bright square of mdb001, from the top left


def _write(folder, *lines, films=("mdb001", "mdb002"), below="", prose=PROSE):
    (folder / "Info.txt").write_text(prose + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name in films:
        made.write_image(folder / below / f"{name}.pgm", made.grey((1024, 1024), AT))
    info = mias_original.info_file(folder)
    assert info is not None
    return info


def test_a_place_is_counted_from_the_bottom_edge(tmp_path):
    film, _ = mias_original.read(_write(tmp_path, "mdb001 G CIRC B 120 304 20 ", "mdb002 G NORM "))
    ((label, box),) = film.findings()
    assert (label, box) == ("benign", AT)
    assert made.bright(film.image().pixels) == AT
    (lesion,) = film.lesions()
    assert (lesion.kind, lesion.size_mm) == ("mass", pytest.approx(8.0))


def test_published_lines_are_read(tmp_path):
    info = _write(
        tmp_path,
        "mdb005 F CIRC B 477 133 30",
        "mdb005 F CIRC B 500 168 26",
        "mdb006 F NORM",
        "mdb058 D MISC M 318 359 27",
        "mdb059 F CIRC B *NOTE 3*",
        "mdb216 D CALC M",
        "mdb115 G ARCH M 461 532 117",
        "mdb072 G ASYM M 266 517 28",
        films=("mdb005", "mdb006", "mdb058", "mdb059", "mdb072", "mdb115", "mdb216"),
        below="all-mias",
    )
    films = {film.name: film for film in mias_original.read(info)}
    assert [len(films[n].lesions()) for n in ("mdb005", "mdb006", "mdb059", "mdb216")] == [2, 0, 0, 0]
    assert {n: f.label for n, f in films.items()} == {
        "mdb005": "benign", "mdb006": "normal", "mdb058": "malignant", "mdb059": "benign", "mdb072": "malignant",
        "mdb115": "malignant", "mdb216": "malignant",
    }  # fmt: skip
    assert [n for n, f in films.items() if f.is_normal()] == ["mdb006"]
    assert [films[n].lesions()[0].kind for n in ("mdb058", "mdb072", "mdb115")] == [
        "mass", "asymmetry", "architectural distortion",
    ]  # fmt: skip
    assert films["mdb005"].findings()[0][1] == (447.0, 861.0, 507.0, 921.0)
    assert (films["mdb005"].density, films["mdb216"].density, films["mdb115"].density) == ("F", "D", "G")
    assert (films["mdb005"].row, films["mdb006"].row) == (FIRST, FIRST + 2)


def test_odd_films_are_right_even_films_left_and_a_pair_is_a_patient(tmp_path):
    films = mias_original.read(
        _write(tmp_path, *(f"mdb{n:03d} D NORM" for n in (1, 2, 3)), films=("mdb001", "mdb002", "mdb003"))
    )
    assert [f.header.laterality for f in films] == [Laterality.RIGHT, Laterality.LEFT, Laterality.RIGHT]
    assert [f.patient for f in films] == ["mias/mias001", "mias/mias001", "mias/mias002"]
    assert {f.header.view for f in films} == {View.MLO}
    assert films[0].header.spacing.row_mm == 0.2


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ("mdb001 X CIRC B 120 304 20", "tissue"),
        ("mdb001", "tissue"),
        ("mdb001 G LUMP B 120 304 20", "class"),
        ("mdb001 G CIRC Q 120 304 20", "severity"),
        ("mdb001 G CIRC", "severity"),
        ("mdb001 G NORM B", "severity"),
        ("mdb001 G CIRC B 120 1304 20", "y"),
        ("mdb001 G CIRC B many 304 20", "x"),
        ("mdb001 G CIRC B 120 304 0", "radius"),
        ("mdb001 G CIRC B 120 304", "radius"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, column):
    info = _write(tmp_path, "mdb002 G NORM", line)
    with pytest.raises(LabelError, match=rf"Info.txt: row {FIRST + 1}, column '{column}'.*\(.+\)"):
        mias_original.read(info)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("mdb001 G NORM", "mdb001 G CIRC B 120 304 20"), rf"row {FIRST + 1}.*contradicts line {FIRST}"),
        (("mdb001 G CIRC B 1 3 2", "mdb001 F CIRC B 120 304 20"), rf"row {FIRST + 1}.*contradicts row {FIRST}"),
        (("mdb002 G NORM", "mdb009 G NORM"), rf"row {FIRST + 1}.*no file mdb009.pgm"),
    ],
)
def test_contradictions_and_missing_films_are_named(tmp_path, lines, text):
    info = _write(tmp_path, *lines)
    with pytest.raises(LabelError, match=text):
        mias_original.read(info)


def test_a_film_of_another_size_or_none_at_all_is_named(tmp_path):
    info = _write(tmp_path, "mdb001 G NORM")
    made.write_image(tmp_path / "mdb001.pgm", made.grey((300, 200), (1, 1, 2, 2)))
    with pytest.raises(LabelError, match=rf"row {FIRST}.*200 x 300"):
        mias_original.read(info)
    (tmp_path / "mdb001.pgm").write_bytes(b"not a picture")
    with pytest.raises(LabelError, match=rf"row {FIRST}.*mdb001.pgm cannot be read"):
        mias_original.read(info)


def test_a_truncated_film_is_found_when_it_is_read(tmp_path):
    (film,) = mias_original.read(_write(tmp_path, "mdb001 G NORM", films=("mdb001",)))
    content = film.path.read_bytes()
    film.path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LabelError, match=rf"mdb001.pgm.*cannot be read.*row {FIRST} of Info.txt"):
        film.image()


def test_a_text_that_lists_no_film_is_no_info_file(tmp_path):
    (tmp_path / "Info.txt").write_text("about something else\n")
    assert mias_original.info_file(tmp_path) is None
