"""Broken files by the thousand: each ends once, with its reason, and none takes the run or another's result with it."""

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mammoscan.core.errors import ExitCode, Reason
from mammoscan.core.values import usable_uid, valid_uid
from tests import headers
from tests.report import checkers
from tests.storms import bars, bases, mutants

pytestmark = pytest.mark.skipif(
    not pytest.importorskip("imagecodecs", reason="no encoders of all syntaxes").HTJ2K.available,
    reason="no encoder of HTJ2K",
)

# One region an image: what is read is tried here, not how it is judged.
CHEAP = ("--max-regions", "1", "--max-findings", "1", "--json")
PART = 1000  # mutants a run
CODES = {reason.code for reason in Reason}


def _weathered(folder, seed, numbers, *options):
    """A run over mutants, held to the bars; how its files ended, by what was done to them."""
    archive, out = folder / "archive", folder / "out"
    mutants.write(seed, numbers, archive)
    done = bars.run(bars.command(archive, out, *CHEAP, "--log-file", str(folder / "log"), *options))
    assert bars.deaths(done) == []
    assert done.status in {ExitCode.SOME_FAILED, ExitCode.NOTHING_ANALYSED}, done.err
    assert bars.lost_or_twice(archive, out) == []
    assert bars.half_written(out) == []
    rows = bars.table(out, "files")
    assert {row["code"] for row in rows} <= CODES | {""}
    wrong = [f"{r['path']}: {r['detail']}" for r in rows if r["code"] == Reason.INTERNAL.code]
    assert wrong == [], "errors of our own"
    summary = json.loads(done.out)
    ended = Counter(row["status"] for row in rows)
    assert summary["files"] == len(rows) == len(numbers)
    assert (summary["failed"], summary["skipped"]) == (ended["failed"], ended["skipped"])
    return out, Counter((row["path"].split("-")[1], row["code"] or row["status"]) for row in rows)


def _complaints(out, *, whole):
    """What the checkers say of a run's objects. whole: of every one; else of one of each kind from each of some studies."""
    found = []
    folders = sorted((out / "studies").iterdir())
    for folder in folders if whole else random.Random(0).sample(folders, min(4, len(folders))):
        for path in sorted(folder.glob("*.dcm")):
            found += [f"{path.parent.name}/{path.name}: {line}" for line in checkers.iod_complaints(path)]
            if path.name.endswith("-sr.dcm"):
                found += [f"{path.parent.name}/{path.name}: {line}" for line in checkers.dump_complaints(path)]
    return [line for line in found if not _of_the_source(line)]


def _of_the_source(complaint):
    """Whether it is about a UID of the source, which is flagged as not valid and referred to as it stands."""
    named = re.search(r"UID.*<([^<>]*)>\s*$", complaint)
    return named is not None and not valid_uid(named[1]) and bool(usable_uid(named[1]))


@pytest.mark.parametrize(
    ("complaint", "of_the_source"),
    [
        ("Error - </StudyInstanceUID(0020,000d)> - Illegal root for UID = <99999999999999999999>", True),
        ("Error - </StudyInstanceUID(0020,000d)> - Illegal root for UID = <1.2.840.1>", False),
        ("Error - </PatientID(0010,0020)> - Value invalid for this VR = <99999999999999999999>", False),
    ],
)
def test_only_a_bad_uid_of_the_source_is_no_fault_of_an_object(complaint, of_the_source):
    assert _of_the_source(complaint) is of_the_source


def test_a_number_gives_the_same_bytes_in_every_process(tmp_path):
    command = [sys.executable, "-m", "tests.storms.mutants", "--seed", "5", "--first", "60", "--count", "20", "--out"]
    subprocess.run([*command, str(tmp_path)], check=True, capture_output=True, cwd=Path(__file__).parents[2])
    written = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.dcm")}
    assert len(written) == 20
    for number in range(60, 80):
        made = mutants.mutant(5, number)
        assert written[made.name] == made.content


def test_what_the_mutants_are_made_of_is_read_in_every_transfer_syntax(tmp_path):
    from mammoscan.archive import discover
    from mammoscan.core.domain import Header
    from mammoscan.image import pixels
    from mammoscan.synthetic.dicom import file_bytes

    assert {str(s) for s in bases.SYNTAXES} == {str(s) for s in (*pixels.NATIVE, *pixels.DECODERS)}
    for syntax in bases.SYNTAXES:
        for which in range(4):
            (tmp_path / f"{syntax}-{which}").write_bytes(file_bytes(bases.base(syntax, "breast", which)))
            whole = mutants.Parts.of(bases.base(syntax, "grain", which))
            assert whole.file() == file_bytes(bases.base(syntax, "grain", which)), syntax
    found = list(discover.walk(tmp_path, out=None))
    read = list(headers.read(found))
    assert len(read) == 4 * len(bases.SYNTAXES)
    for header in read:
        assert isinstance(header, Header), header
        assert pixels.read_image(header, max_pixels=10**6).pixels.max() > 0.2


@checkers.NEEDED
@pytest.mark.outside
def test_a_few_hundred_broken_files_end_once_each_with_a_reason(tmp_path):
    out, ended = _weathered(tmp_path, 11, range(320), "--write", "all")
    assert len({family for family, _ in ended}) == len(mutants.FAMILIES)
    assert len({code for _, code in ended}) >= 8
    assert _complaints(out, whole=False) == []


@pytest.mark.slow
@pytest.mark.outside
@pytest.mark.timeout(4 * 3600)
@checkers.NEEDED
def test_ten_thousand_broken_files_end_once_each_with_a_reason(tmp_path):
    """``STORM_SEED`` chooses others, ``STORM_MUTANTS`` how many, ``STORM_FIRST`` where to go on.

    All kinds of objects of the first thousand, then PDFs.
    """
    seed, count = int(os.environ.get("STORM_SEED", "1")), int(os.environ.get("STORM_MUTANTS", "10000"))
    begin = int(os.environ.get("STORM_FIRST", "0"))
    total, complaints = Counter(), []
    for first in range(begin, count, PART):
        write = "all" if not first else "pdf"
        folder = tmp_path / str(first)
        out, ended = _weathered(folder, seed, range(first, min(first + PART, count)), "--write", write)
        complaints += _complaints(out, whole=True)
        total += ended
        by_code = Counter()
        for (_, code), number in ended.items():
            by_code[code] += number
        print(f"{first}: {dict(by_code.most_common())}; {len(complaints)} complaints", flush=True)
    print(json.dumps({f"{family} {code}": n for (family, code), n in sorted(total.items())}, indent=1))
    assert sum(total.values()) == count - begin
    assert complaints == []
