"""Every file of a tree is found once, whatever the tree."""

import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mammoscan.archive import discover
from mammoscan.core.domain import Failed, Header, Laterality, Skipped, SourceFile, View
from mammoscan.core.errors import Reason
from mammoscan.synthetic.dicom import Subject, file_bytes, mammogram_dataset
from tests import headers


def _listed(found):
    return {(f if isinstance(f, SourceFile) else f.file).relative: f for f in found}


def _walk(root, **options):
    found = list(discover.walk(root, out=options.pop("out", None), **options))
    listed = _listed(found)
    assert len(listed) == len(found)
    return listed


def _mammogram(path, number=1):
    ds = mammogram_dataset(
        np.full((300, 300), 100, np.uint16), laterality=Laterality.LEFT, view=View.CC, subject=Subject("P1"),
        instance=number,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file_bytes(ds))


def test_files_come_sorted_by_name_and_folders_after_the_files_beside_them(tmp_path):
    for name in ("b/2", "b/1", "a/z/1", "c", "a/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [f.relative for f in discover.walk(tmp_path, out=None)] == ["c", "a/y", "a/z/1", "b/1", "b/2"]


def test_loops_end_and_a_linked_folder_is_listed_where_it_lies(tmp_path):
    (tmp_path / "z" / "in").mkdir(parents=True)
    (tmp_path / "z" / "in" / "file").write_text("x")
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "z" / "in" / "up").symlink_to(tmp_path)
    listed = _walk(tmp_path)
    assert isinstance(listed["z/in/file"], SourceFile)
    assert {name for name, f in listed.items() if isinstance(f, Skipped)} == {"a", "z/in/up"}
    assert listed["a"].reason is Reason.LINK_LOOP


def test_folders_that_all_link_to_each_other_are_entered_once_each(tmp_path):
    names = [f"d{i}" for i in range(12)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    began = time.monotonic()
    listed = _walk(tmp_path)
    assert sum(isinstance(f, SourceFile) for f in listed.values()) == 12
    assert time.monotonic() - began < 10


def test_a_link_out_of_the_archive_is_followed_unless_told_otherwise(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("x")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "link").symlink_to(tmp_path / "elsewhere")
    assert isinstance(_walk(tmp_path / "archive")["link/file"], SourceFile)
    listed = _walk(tmp_path / "archive", follow_links=False)
    assert listed["link"].detail == "links are not followed"


def test_a_link_to_nowhere_or_to_itself_is_skipped(tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    assert {f.reason for f in _walk(tmp_path).values()} == {Reason.LINK_LOOP}


def test_pipes_and_sockets_are_listed_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        listed = _walk(tmp_path)
    assert {f.detail for f in listed.values()} == {"not a regular file"}
    assert set(listed) == {"pipe", "socket"}


def test_the_output_folder_is_left_out_and_said_so_once(tmp_path):
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "mine").write_text("x")
    (tmp_path / "alias").symlink_to(tmp_path / "out")
    listed = _walk(tmp_path, out=tmp_path / "out")
    assert {name: f.reason for name, f in listed.items()} == {"out": Reason.OUTPUT, "alias": Reason.OUTPUT}


def test_a_folder_that_cannot_be_read_fails(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "file").write_text("x")
    listdir = os.listdir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    listed = _walk(tmp_path)
    assert isinstance(listed["closed"], Failed)
    assert (listed["closed"].reason, listed["closed"].detail) == (Reason.UNREADABLE, "Permission denied")
    assert isinstance(listed["open/file"], SourceFile)


def test_a_root_that_is_gone_fails(tmp_path):
    (only,) = discover.walk(tmp_path / "gone", out=None)
    assert (only.reason, only.file.relative) == (Reason.UNREADABLE, ".")


def test_folders_may_nest_deeper_than_calls(tmp_path):
    path = str(tmp_path)
    for _ in range(1400):
        path += "/d"
        os.mkdir(path)  # noqa: PTH102 a path too deep for pathlib
    Path(path, "file").write_text("x")
    try:
        assert [f.relative[-6:] for f in discover.walk(tmp_path, out=None)] == ["d/file"]
    finally:
        Path(path, "file").unlink()
        while path != str(tmp_path):
            os.rmdir(path)  # noqa: PTH106
            path = path[:-2]


def test_a_name_that_is_no_utf8_can_be_read_and_shown(tmp_path):
    _mammogram(tmp_path / "x")
    os.rename(tmp_path / "x", os.fsencode(tmp_path) + b"/caf\xe9.dcm")  # noqa: PTH104 bytes
    (found,) = discover.walk(tmp_path, out=None)
    assert found.relative == r"caf\xe9.dcm"
    (result,) = headers.read([found])
    assert isinstance(result, Header)


@given(st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=6, unique=True))
def test_shown_paths_are_printable_and_differ_as_the_paths_do(names):
    raw = [n.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for n in names]
    shown = [discover.shown(n) for n in raw]
    assert len(set(shown)) == len(set(raw))
    assert all(c.isprintable() for s in shown for c in s)


def test_nothing_in_the_archive_is_opened_for_writing(tmp_path):
    _mammogram(tmp_path / "a" / "b")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}
    for path in [*before, tmp_path]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        results = list(headers.read(discover.walk(tmp_path, out=None)))
    finally:
        for path in [tmp_path, *before]:
            path.chmod(0o700)
    assert isinstance(results[0], Header)
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in tmp_path.rglob("*")}


TREES = st.recursive(
    st.sampled_from(["file", "nowhere", "up", "pipe"]),
    lambda inner: st.dictionaries(st.sampled_from("abcde"), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=st.dictionaries(st.sampled_from("abcde"), TREES, max_size=5))
def test_every_entry_of_any_tree_is_listed_once(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")
    expected = set()

    def build(folder, content, prefix):
        for name, kind in content.items():
            path = folder / name
            if isinstance(kind, dict):
                path.mkdir()
                build(path, kind, f"{prefix}{name}/")
                continue
            expected.add(prefix + name)
            if kind == "file":
                path.write_text("x")
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to(root if kind == "up" else root / "gone")

    build(root, tree, "")
    assert set(_walk(root)) == expected


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_vanishes_fails_and_the_rest_goes_on(tmp_path, kind, monkeypatch):
    (tmp_path / "a").mkdir() if kind == "folder" else (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")

    def vanish(path, *arguments, **options):
        if path.endswith("/a"):
            (tmp_path / "a").rmdir() if kind == "folder" else (tmp_path / "a").unlink()
        return real(path, *arguments, **options)

    real = discover._entry
    monkeypatch.setattr(discover, "_entry", vanish)
    listed = _walk(tmp_path)
    assert isinstance(listed["b"], SourceFile)
    assert listed["a"].reason is Reason.UNREADABLE


def test_what_is_known_is_asked_for_and_left_out(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b", "c"):
        (tmp_path / name).write_text(name)
    asked = {}

    def known(relative, size, mtime_ns):
        asked[relative] = (size, mtime_ns)
        return relative == "sub/b"

    found = [item.relative for item in discover.walk(tmp_path, out=None, known=known)]
    assert found == ["a", "c"]
    assert asked == {n: ((tmp_path / n).stat().st_size, (tmp_path / n).stat().st_mtime_ns) for n in ("a", "c", "sub/b")}


def test_a_folder_that_is_linked_from_below_itself_is_listed_once(tmp_path):
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "file").write_text("x")
    (tmp_path / "root" / "up").symlink_to(tmp_path)
    found = list(discover.walk(tmp_path / "root", out=None))
    assert [f.relative for f in found if isinstance(f, SourceFile)] == ["sub/file"]
    assert [f.file.relative for f in found if isinstance(f, Skipped)] == ["up/root"]
