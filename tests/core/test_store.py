"""Whole files, safe names, one run a folder."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mammoscan.core import store
from mammoscan.core.errors import LockedError


@given(st.text(max_size=300))
def test_a_safe_name_stays_in_its_folder(identifier):
    name = store.safe_name(identifier)
    assert name
    assert not name.startswith(".")
    assert "/" not in name
    assert len(name) < 200
    assert name == name.lower()


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_identifiers_never_share_a_name(first, second):
    if first != second:
        assert store.safe_name(first) != store.safe_name(second)


def test_a_uid_is_its_own_name():
    assert store.safe_name("1.2.840.10008.1") == "1.2.840.10008.1"


def test_a_file_is_replaced_whole_and_nothing_else_is_left(tmp_path):
    target = tmp_path / "a" / "report.pdf"
    store.write_atomic(target, b"first")
    store.write_atomic(target, b"second")
    assert target.read_bytes() == b"second"
    assert [p.name for p in target.parent.iterdir()] == ["report.pdf"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "report.pdf"
    store.write_atomic(target, b"old")
    monkeypatch.setattr(os, "replace", _refuse)
    with pytest.raises(OSError, match="no space"):
        store.write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.pdf"]


def _refuse(*_):
    raise OSError("no space")


def test_an_unchanged_file_is_not_written(tmp_path):
    target = tmp_path / "images.csv"
    assert store.write_if_changed(target, b"x")
    before = target.stat().st_mtime_ns, target.stat().st_ino
    assert not store.write_if_changed(target, b"x")
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == before


def test_partial_files_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / (store.TEMPORARY_PREFIX + "x")).write_bytes(b"half")
    (tmp_path / "studies" / "whole").write_bytes(b"whole")
    assert store.remove_partial_files(tmp_path) == 1
    assert [p.name for p in (tmp_path / "studies").iterdir()] == ["whole"]


def test_a_second_lock_is_refused_and_a_dead_process_frees_it(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom mammoscan.core import store\n"
        "with store.output_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match="another run"), store.output_lock(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with store.output_lock(tmp_path):
        pass
