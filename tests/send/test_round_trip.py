"""From a PACS and back: the demo archive through Orthanc, analysed, its results sent back to their studies."""

import pytest
import requests

from mammoscan.core import kinds
from mammoscan.core.console import Console
from mammoscan.run import pipeline
from mammoscan.run.config import RunConfig
from mammoscan.send.destination import SendConfig, parse
from tests.send.peers import ORTHANC, Orthanc


def _export(peer, folder):
    folder.mkdir()
    for instance in peer.get("instances"):
        content = requests.get(f"http://127.0.0.1:{peer.http}/instances/{instance}/file", timeout=60).content
        (folder / f"{instance}.dcm").write_bytes(content)


def _web(peer, path):
    headers = {"Accept": "application/dicom+json"}
    response = requests.get(f"{peer.web}{path}", headers=headers, timeout=60)
    response.raise_for_status()
    return response.json()


@ORTHANC
@pytest.mark.outside
def test_the_demo_goes_to_orthanc_and_its_results_come_back_under_the_right_studies(demo, tmp_path):
    with Orthanc(tmp_path / "orthanc") as peer:
        taken = 0
        for path in sorted((demo / "archive").rglob("*")):
            if path.is_file():
                answer = requests.post(f"http://127.0.0.1:{peer.http}/instances", data=path.read_bytes(), timeout=60)
                taken += answer.status_code == 200
        assert taken > 20
        _export(peer, tmp_path / "export")
        before = peer.instances()
        config = RunConfig(
            archive=tmp_path / "export", out=tmp_path / "out", settle_seconds=0, write=kinds.NAMES,
            send=SendConfig((parse(peer.web),), attempts=2, backoff=0.1),
        )  # fmt: skip
        first = pipeline.run(config, Console(quiet=True))
        assert first.analysed > 20
        assert first.unsent == 0
        assert first.sent == len(peer.instances() - before) == len(list((tmp_path / "out").rglob("*.dcm")))
        for folder in (tmp_path / "out" / "studies").iterdir():
            series = _web(peer, f"/{folder.name}/series")
            modalities = [s["00080060"]["Value"][0] for s in series]
            assert modalities.count("SR") >= 2, folder.name  # one study of the demo has a report of its own
            assert modalities.count("DOC") == 1
            assert "OT" in modalities
            assert "MG" in modalities
            ours = {i["00080018"]["Value"][0] for i in _web(peer, f"/{folder.name}/instances")} - before
            assert len(ours) == len(list(folder.glob("*.dcm")))
        second = pipeline.run(config, Console(quiet=True))
        assert (second.analysed, second.sent, second.unsent) == (0, 0, 0)
        # Exported again, now with the results among the images: they are known as our own and change nothing.
        arrivals = peer.arrivals()
        content = {p: p.read_bytes() for p in (tmp_path / "out" / "studies").rglob("*") if p.is_file()}
        for instance in peer.get("instances"):
            target = tmp_path / "export" / f"{instance}.dcm"
            if not target.exists():
                target.write_bytes(
                    requests.get(f"http://127.0.0.1:{peer.http}/instances/{instance}/file", timeout=60).content
                )
        third = pipeline.run(config, Console(quiet=True))
        assert (third.analysed, third.sent, third.unsent) == (0, 0, 0)
        assert {p: p.read_bytes() for p in content} == content
        assert peer.arrivals() == arrivals
