"""Which sets a folder holds, however they lie."""

import logging
import pickle

import pytest

from mammoscan.core.errors import LabelError
from mammoscan.training import datasets
from tests.training.datasets import made, test_cbis_tcia, test_folders, test_inbreast, test_manifest, test_mias_original


def _all(root):
    """One film of every layout below one folder."""
    test_folders._write(root, "rsna")
    test_folders._write(root, "cbis-mass", name="renamed")
    (root / "original").mkdir()
    test_mias_original._write(root / "original", "mdb001 G NORM", films=("mdb001",))
    test_cbis_tcia._nbia(root / "tcia" / "manifest-1" / "CBIS-DDSM")
    test_cbis_tcia._table(root / "tcia", test_cbis_tcia._row())
    release = root / "INbreast Release 1.0"
    release.mkdir()
    test_inbreast._one(release)
    mine = root / "tcia" / "mine"
    mine.mkdir()
    test_manifest._image(mine)
    test_manifest._table(mine, test_manifest._row(**test_manifest.BOX))


def test_every_set_below_a_folder_is_recognised_and_read(tmp_path, caplog):
    _all(tmp_path)
    found = {(f.layout, f.path.relative_to(tmp_path).as_posix()) for f in datasets.find(tmp_path)}
    assert found == {
        ("prepared", "rsna"),
        ("prepared", "renamed"),
        ("mini-MIAS", "original/Info.txt"),
        ("CBIS-DDSM", "tcia"),
        ("INbreast", "INbreast Release 1.0/INbreast.csv"),
        ("manifest", "tcia/mine/manifest.csv"),
    }
    with caplog.at_level(logging.INFO):
        films = datasets.read(tmp_path)
    assert sorted(f.source for f in films) == ["cbis-ddsm", "cbis-mass", "inbreast", "manifest", "mias", "rsna"]
    assert "Info.txt: mini-MIAS, 1 images" in caplog.text
    # CBIS-DDSM in two forms: one patient, so that no fold holds her on both sides.
    assert len({f.patient for f in films}) == 5


def test_films_reach_worker_processes_whole(tmp_path):
    _all(tmp_path)
    for film in datasets.read(tmp_path):
        again = pickle.loads(pickle.dumps(film))  # noqa: S301 - written here
        assert again.findings() == film.findings()
        assert (again.image().pixels == film.image().pixels).all()


def test_a_set_itself_and_a_table_itself_can_be_given(tmp_path):
    _all(tmp_path)
    assert [f.source for f in datasets.read(tmp_path / "rsna")] == ["rsna"]
    assert [f.source for f in datasets.read(tmp_path / "tcia" / "mine" / "manifest.csv")] == ["manifest"]


def test_a_film_that_two_sets_hold_is_an_error(tmp_path):
    made.write_image(tmp_path / "mias" / "images" / "mdb005.png", made.grey((1024, 1024), (1, 1, 9, 9)))
    test_folders._write(tmp_path, "mias")
    (tmp_path / "original").mkdir()
    test_mias_original._write(tmp_path / "original", "mdb005 G NORM", films=("mdb005",))
    with pytest.raises(LabelError, match=r"mdb005 of mias is already in .*keep one of the two"):
        datasets.read(tmp_path)


def test_linked_folders_are_followed_once(tmp_path):
    test_folders._write(tmp_path / "real", "rsna")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "rsna").symlink_to(tmp_path / "real" / "rsna")
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert len(datasets.read(tmp_path / "data")) == 1


def test_a_folder_with_nothing_known_says_what_is_known(tmp_path):
    (tmp_path / "labels.csv").write_text("id,verdict\n1,2\n")
    with pytest.raises(LabelError, match=r"no labelled images.*mini-MIAS: .*INbreast: .*manifest"):
        datasets.read(tmp_path)
