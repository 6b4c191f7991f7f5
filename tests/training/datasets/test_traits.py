"""What training decides by a set is what the set's reader declares, and for the known sets what it always was."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mammoscan.core.domain import Density, Laterality, View
from mammoscan.model import bundle
from mammoscan.synthetic.phantom import Spec, render
from mammoscan.training import datasets, dense_fit, evaluate, examples, release, train
from mammoscan.training.datasets import cbis_tcia, folders, images, inbreast, mias_original
from mammoscan.training.datasets.film import Film, of_sets
from mammoscan.training.datasets.traits import Readings, Traits
from tests.training.datasets import made, test_find, test_folders, test_manifest

KNOWN = folders.TRAITS | {"cbis-ddsm": cbis_tcia.TRAITS, "inbreast": inbreast.TRAITS}
# Candidates of a film that are classified (None: all), terms, and whether films are drawn and random places left out,
# as they were decided by name before.
DECIDED = {
    "mias": (None, "research only", False),
    "cbis-mass": (3, "CC BY 3.0", False),
    "cbis-ddsm": (3, "CC BY 3.0", False),
    "cesm": (6, "CC BY 4.0", False),
    "cesm-cc": (None, "CC BY 4.0", False),
    "rsna": (10, "non-commercial research", True),
    "inbreast": (None, "research only", False),
}


def _shipped():
    return json.loads((bundle.load(None).weights_path.parent / "model.json").read_text(encoding="utf-8"))


def test_each_known_set_is_treated_as_it_was():
    assert {name: (t.classified, t.terms, t.screening) for name, t in KNOWN.items()} == DECIDED
    assert {name for name, t in KNOWN.items() if t.limits} == {"mias", "cbis-mass"}


def test_every_reader_gives_its_sets_traits_to_its_films(tmp_path):
    test_find._all(tmp_path)
    test_folders._write(tmp_path, "cesm")
    test_folders._write(tmp_path, "cesm-cc")
    found = of_sets(datasets.read(tmp_path))
    assert found == {**{name: KNOWN[name] for name in DECIDED}, "manifest": Traits()}


def test_both_forms_of_a_set_declare_the_same():
    assert folders.TRAITS["mias"] is mias_original.TRAITS
    (film,) = _films("mias", "p", "")
    with pytest.raises(ValueError, match="two kinds of mias"):
        of_sets([film, replace(film, traits=Traits())])


def test_the_shipped_models_figures_have_the_bars_that_are_declared():
    """Its description was written when bars stood by name in the evaluation."""
    stated = {f["name"]: f["bar"] for f in _shipped()["evaluation"] if "calibration error" not in f["name"]}
    assert {name: evaluate.bar_of(name, KNOWN) for name in stated} == stated
    declared = {f"{name}: {figure}" for name, traits in KNOWN.items() for figure, _ in traits.bars}
    assert declared == {name for name, bar in stated.items() if bar is not None}


def test_the_shipped_models_licence_and_citations_are_those_that_are_declared():
    facts = _shipped()
    sets = {name: KNOWN[name] for name in facts["training"]["sets"]}
    assert release.licence(sets) == facts["licence"]
    assert {name: traits.cite for name, traits in sets.items()} == facts["training"]["sets"]


def test_only_free_terms_alone_make_free_weights():
    assert release.licence({"cesm": KNOWN["cesm"], "cbis-mass": KNOWN["cbis-mass"]}).startswith("With attribution")
    assert release.licence({"cesm": KNOWN["cesm"], "own": Traits()}) == (
        "Non-commercial research only: trained on cesm (CC BY 4.0), own (terms of its owner)."
    )


def _films(source, *patients_and_labels):
    header = images.plain_header(
        Path("x.png"), name="x", patient="", laterality=Laterality.LEFT, view=View.CC, rows=10,
        columns=10,
    )  # fmt: skip
    pairs = list(zip(patients_and_labels[::2], patients_and_labels[1::2], strict=True))
    return [
        Film(source, f"{patient}-{n}", patient, Path("x.png"), header, label, "", Path("t"), n,
                     traits=KNOWN.get(source, Traits()))
        for n, (patient, label) in enumerate(pairs)
    ]  # fmt: skip


def test_of_screening_whole_patients_are_drawn_with_and_without_cancer_in_turn_and_all_films_of_others_are_used():
    screened = _films("rsna", *[v for p in range(20) for v in (f"p{p}", "malignant" if p < 5 else "normal") * 2])
    others = _films("manifest", *[v for p in range(30) for v in (f"m{p}", "normal")])
    used = examples.choose([*screened, *others], screening=8, seed=1)
    assert [film for film in used if film.source == "manifest"] == others
    drawn = [film for film in used if film.source == "rsna"]
    by_patient = {film.patient: film.label for film in drawn}
    assert len(drawn) == 8
    assert sorted(by_patient.values()) == ["malignant", "malignant", "normal", "normal"]
    assert all(sum(film.patient == p for film in drawn) == 2 for p in by_patient)


def test_random_places_are_taken_from_normal_films_but_not_from_those_of_screening(tmp_path):
    spec = Spec(Laterality.LEFT, View.MLO, Density.B, height=600, width=480)
    pixels, _ = render(spec, 1)
    made.write_image(tmp_path / "a" / "film.png", (pixels / pixels.max() * 255).astype(np.uint8))
    test_manifest._table(tmp_path, test_manifest._row(label="normal"))
    (film,) = datasets.read(tmp_path)
    other = replace(film, source="screened", name="other", traits=Traits(screening=True, classified=4))
    found = examples.make(
        [film, other], tmp_path / "out", cut=train.CROP, regions=20, versions=0, searched=0, seed=1, jobs=1,
        rankings=(), tracers=(), fold=[0, 0],
    )  # fmt: skip
    assert found.clear.all()
    assert [(kind, film) for kind, film in zip(found.kind, found.film, strict=True)] == [("random", 0)] * 2
    assert found.judged.tolist() == [20, 4]


def test_percent_density_is_fitted_on_the_sets_and_weights_that_the_shipped_function_was():
    assert {name: r.weight for name, r in dense_fit.READINGS.items()} == {
        "cbis-mass": 1.0, "rsna": 1.0, "cesm": 1.2, "cesm-cc": 1.2, "mias": 0.3,
    }  # fmt: skip
    assert set(dense_fit.SOURCES) == set(dense_fit.READINGS)
    assert {name for name, r in dense_fit.READINGS.items() if r.cuts} == {"cbis-mass", "rsna"}
    assert Readings(1.0).cuts is False


@pytest.mark.parametrize(
    ("change", "shown"),
    [({}, True), ({"site": "2"}, False), ({"implant": "1"}, False)],
    ids=["plain", "site", "implant"],
)
def test_an_implant_and_a_site_without_readings_say_nothing_of_percent_density(tmp_path, change, shown):
    assert test_folders._one(tmp_path, "rsna", change).shows_density() is shown


def test_no_code_of_training_but_the_readers_compares_with_a_sets_name():
    """Names may stand in words and in the list of folders that ``dense_fit`` reads, which decides nothing."""
    names = {*DECIDED, "cesm-cc", "manifest"}
    found = []
    folder = Path(examples.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.ops and [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            parts = [*parts, *(node.keys if isinstance(node, ast.Dict) else [])]
            inside = [n for part in parts if part is not None for n in ast.walk(part)]
            if any(isinstance(n, ast.Constant) and n.value in names for n in inside):
                found.append(f"{path.name}:{node.lineno}")
    assert not found
