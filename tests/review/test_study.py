"""The page of a study: what its script says, and that no text of a header can be more than text."""

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from mammoscan.core import kinds
from mammoscan.core.domain import Flag
from mammoscan.image import analyse
from mammoscan.report import pdf_image
from mammoscan.review import scripts, study
from mammoscan.run import previews
from tests.report import results
from tests.review import folders


def said(files):
    text = files[study.SCRIPT].decode("ascii")
    assert text.startswith("mammoscan.study(")
    assert text.endswith(");\n")
    return json.loads(text[len("mammoscan.study(") : -3])


def test_a_study_says_what_its_tables_and_its_pdf_say():
    result = folders.with_pictures(results.with_findings())
    found = said(study.render(result, results.CONTEXT, ("report.pdf", kinds.BY_NAME["cad-sr"].file)))
    assert (found["uid"], found["patient"], found["age"]) == ("1.2.3.4.5", "DEMO-1", 66.0)
    assert [(b["side"], b["score"], b["above"]) for b in found["breasts"]] == [("L", 0.8, True), ("R", 0.05, False)]
    left = found["images"][0]
    first = left["findings"][0]
    assert (left["side"], left["view"], left["width"], left["height"], left["wall"]) == ("L", "CC", 900, 1200, "left")
    assert (first["number"], first["score"], first["above"], first["size"]) == (1, 0.8, True, "12 x 8")
    assert first["box"] == [239.8, 359.5, 360.2, 440.5]
    finding = result.images[0].findings[0]
    assert (first["id"], first["uid"]) == (finding.tracking_id, finding.tracking_uid)
    assert len(first["outline"].split()) == len(finding.region.contour)
    assert len(first["features"]) == len(found["features"]) == len(finding.features)
    assert ["Age at study", "66 years", "PatientAge"] in found["facts"]
    assert [title for _, title in found["files"]] == ["Mammography CAD SR (TID 4000)", "Report (PDF)"]


def test_heat_is_shown_of_the_findings_that_the_report_shows_it_of():
    found = said(study.render(folders.with_pictures(results.with_findings()), results.CONTEXT, ()))
    heated = [f["number"] for image in found["images"] for f in image["findings"] if f["heat"]]
    below = [f["number"] for image in found["images"] for f in image["findings"] if not f["heat"]]
    assert len(heated) == 3  # two above; of the right MLO, which has none above, its first
    assert len(below) == 1


def test_pictures_are_named_as_they_are_written_and_dense_tissue_is_laid_over_them():
    files = study.render(folders.with_pictures(results.with_findings()), results.CONTEXT, ())
    images = said(files)["images"]
    assert {image["picture"] for image in images} == set(files) - {study.SCRIPT}
    with Image.open(io.BytesIO(base64.b64decode(images[0]["dense"].removeprefix("data:image/png;base64,")))) as shown:
        alpha = np.asarray(shown.convert("RGBA"))[:, :, 3]
    assert (alpha > 0).sum() == 40 * 40
    assert alpha[200, 150] > 0


@pytest.mark.parametrize("case", ["some-failed", "all-failed", "none"])
def test_what_failed_is_said_with_its_reason_and_remedy(case):
    result = results.outcomes()[case]
    found = said(study.render(result, results.CONTEXT, ()))
    assert len(found["failed"]) == len(result.failed)
    assert all(f["code"] == "truncated" and f["remedy"] for f in found["failed"])
    assert (found["score"] is None) == (case == "all-failed")


def test_an_image_that_is_gone_has_no_picture_and_says_why():
    result = results.with_findings()
    gone = [dataclasses.replace(p, flags=(Flag.SOURCE_GONE,)) for p in result.images]
    found = said(study.render(dataclasses.replace(result, images=tuple(gone)), results.CONTEXT, ()))
    assert {(i["picture"], i["missing"]) for i in found["images"]} == {("", pdf_image.GONE)}


def test_no_text_of_a_header_ends_a_script_or_leaves_ascii():
    patient = dataclasses.replace(results.PATIENT, name=folders.HOSTILE, patient_id=folders.HOSTILE)
    content = study.render(results.with_findings(patient=patient), results.CONTEXT, ())[study.SCRIPT]
    assert b"<" not in content
    assert content.isascii()
    assert said({study.SCRIPT: content})["patient"] == folders.HOSTILE


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        scripts.literal(float("nan"))


def test_an_estimated_density_is_no_readers_word():
    found = said(study.render(results.with_findings(), results.CONTEXT, ()))
    assert {image["density"] for image in found["images"]} == {""}


@pytest.mark.parametrize("name", sorted(results.awkward()))
def test_awkward_sources_have_a_page(name):
    found = said(study.render(folders.with_pictures(results.awkward()[name]), results.CONTEXT, ()))
    assert found["images"]


# --------------------------------------------------------------------------- the large picture


def _prepared(image):
    class Stub:
        header = image.header

    return Stub


def _image(rows, columns, *, noise):
    from mammoscan.core.domain import Image as Pixels

    rng = np.random.default_rng(3)
    pixels = np.tile(np.linspace(0, 1, columns, dtype=np.float32), (rows, 1))
    if noise:
        pixels = rng.random((rows, columns), dtype=np.float32)
    return Pixels(results.header(rows=rows, columns=columns), pixels, np.zeros((rows, columns), bool))


def test_a_large_picture_has_1600_rows_and_is_never_enlarged():
    sizes = {}
    for rows, columns in ((3200, 2400), (1200, 900), (2000, 8000)):
        image = _image(rows, columns, noise=False)
        with Image.open(io.BytesIO(analyse.enlarged(image, _prepared(image), anonymous=False))) as shown:
            assert shown.mode == "L"
            sizes[rows] = shown.size
    assert sizes[3200] == (1200, 1600)
    assert sizes[1200] == (900, 1200)
    assert sizes[2000][0] * sizes[2000][1] <= 1.001 * analyse.LARGE_PIXELS


def test_grey_levels_of_a_large_picture_are_those_of_the_image():
    image = _image(1600, 1200, noise=False)
    with Image.open(io.BytesIO(analyse.enlarged(image, _prepared(image), anonymous=False))) as shown:
        levels = np.asarray(shown, float)
    assert np.abs(levels - 255 * image.pixels).max() <= 3


def test_a_noisy_picture_is_squeezed_harder():
    image = _image(1600, 1200, noise=True)
    assert len(analyse.enlarged(image, _prepared(image), anonymous=False)) < 3 * analyse.LARGE_BYTES


def test_a_picture_is_read_back_with_its_large_one(tmp_path):
    preview = folders.picture(results.prediction(results.header())).preview
    previews.write(tmp_path / "a", preview)
    found = previews.read(tmp_path / "a")
    assert found.large == preview.large
    assert np.array_equal(found.pixels, preview.pixels)
    assert np.array_equal(found.dense, preview.dense)
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-1])
    assert previews.read(tmp_path / "a") is None


def test_four_views_of_a_film_stay_below_a_megabyte():
    """The bound follows from that of a picture: marks and numbers of a full study are added here."""
    result = folders.four()
    files = study.render(result, results.CONTEXT, ("report.pdf",))
    own = sum(len(content) for name, content in files.items() if not name.endswith(".jpg"))
    assert own + 4 * analyse.LARGE_BYTES < 1_000_000
