"""The pass over an archive: every header is read once and kept, in worker processes or in this one."""

import pytest

from mammoscan.archive import discover
from mammoscan.core.console import Console
from mammoscan.core.domain import Header
from mammoscan.core.errors import Reason
from mammoscan.run import pipeline
from mammoscan.run.config import RunConfig
from mammoscan.run.inventory import Status
from mammoscan.run.ledger import Ledger
from mammoscan.run.policy import Plain
from tests import headers, small


def _taken_stock(archive, out, workers):
    """What the inventory holds after a pass: the lines of ``files.csv``, and the headers by path."""
    out.mkdir()
    config = RunConfig(archive=archive, out=out, settle_seconds=0, workers=workers)
    console = Console(quiet=True)
    with Ledger(out) as ledger, pipeline._workplace(config, console) as workplace:
        run = pipeline.Run(config, console, ledger, Plain(), None, None, 0.0, workplace)
        run._take_stock()
        return list(run.inventory.lines()), {h.file.relative: h for h in run.inventory.headers()}


@pytest.fixture
def archive(tmp_path):
    """More files than two tasks have; every third is no image."""
    folder = tmp_path / "archive"
    whole = small.write(folder / "0000", small.image(small.ANNA)).read_bytes()
    for number in range(1, 2 * pipeline.CHUNK + 5):
        (folder / f"{number:04d}").write_bytes(whole if number % 3 else b"no image")
    (folder / "nowhere").symlink_to(tmp_path / "gone")
    return folder


def test_what_is_kept_of_headers_is_the_same_however_many_workers_read_them(archive, tmp_path):
    alone, together = (_taken_stock(archive, tmp_path / f"out-{n}", n) for n in (1, 2))
    assert alone == together
    lines, found = alone
    assert [line.path for line in lines] == sorted(path.name for path in archive.iterdir())
    assert set(found) == {line.path for line in lines if line.status is Status.PENDING}
    # What came through a worker and the state file is what the header stage says.
    expected = {h.file.relative: h for h in headers.read(discover.walk(archive, out=None), include=None)}
    assert found == {path: h for path, h in expected.items() if isinstance(h, Header)}
    assert len(found) > pipeline.CHUNK


def test_what_the_walk_decided_is_kept_as_it_is(archive, tmp_path):
    lines, _ = _taken_stock(archive, tmp_path / "out", 1)
    (line,) = [line for line in lines if line.path == "nowhere"]
    assert (line.status, line.code) == (Status.SKIPPED, Reason.LINK_LOOP.code)
