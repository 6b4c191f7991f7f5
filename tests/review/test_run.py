"""The review page among the results of a run: written with them, redone with them, and gone with them."""

import json

from mammoscan.core import store
from mammoscan.run import tasks
from mammoscan.run.ledger import Ledger
from tests import small


def _lying(out):
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and p.suffix not in {".sqlite", ".lock"}
    }


def test_a_run_writes_the_page_keeps_it_as_it_is_and_takes_it_away(tmp_path, monkeypatch):
    archive, out = small.archive(tmp_path / "archive"), tmp_path / "out"
    small.run(archive, out)
    before = _lying(out)
    (study,) = (row["study_instance_uid"] for row in small.table(out, "studies") if row["patient_id"] == "ANNA-1")
    below = store.study_folder(study)
    own = {name for name in before if name.startswith(f"{below}/review")}
    assert own == {f"{below}/{name}" for name in ("review.js", "review-01.jpg", "review-02.jpg")}
    with Ledger(out) as ledger:
        assert own < {output.path for output in ledger.outputs(study)}
    assert "index.html" in before
    (listed,) = (content.decode() for name, content in before.items() if name.startswith("review/studies-"))
    assert listed.count("ANNA-1") == listed.count("BERTA-2") == 1
    content = json.loads(before[f"{below}/review.js"].decode().removeprefix("mammoscan.study(").removesuffix(");\n"))
    assert {image["path"] for image in content["images"]} == {"anna-cc.dcm", "anna-mlo.dcm"}

    # What was lost comes back as it was, without analysing anything.
    for name in ("index.html", f"{below}/review-02.jpg"):
        (out / name).unlink()

    def never(*_):
        raise AssertionError("nothing was to be analysed")

    with monkeypatch.context() as patched:
        patched.setattr(tasks, "analyse_file", never)
        small.run(archive, out)
    assert {n: c for n, c in _lying(out).items() if n != "run.json"} == {
        n: c for n, c in before.items() if n != "run.json"
    }

    small.run(archive, out, review=False)
    left = _lying(out)
    assert not [name for name in left if "review" in name or name == "index.html"]
    reports = [name for name in before if name.startswith("studies/") and "/review" not in name]
    assert all(left[name] == before[name] for name in reports)
