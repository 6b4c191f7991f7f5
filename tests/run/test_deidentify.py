"""De-identified results: not one output byte tells who, and all that is no identity stays right."""

import base64
import csv
import dataclasses
import datetime as dt
import io
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence

from mammoscan.core import kinds
from mammoscan.core.config import AnalysisConfig
from mammoscan.core.console import Console
from mammoscan.core.domain import Age, AgeSource, Density, Laterality, View
from mammoscan.core.errors import ExitCode, Reason, Stage, UsageError
from mammoscan.image import analyse
from mammoscan.run import deidentify, keyfile, pipeline, previews
from mammoscan.run.config import RunConfig
from mammoscan.run.deidentify import Deidentifier
from mammoscan.run.plan import StudyPlan
from mammoscan.synthetic import phantom
from mammoscan.synthetic.dicom import Shown, Subject, code, file_bytes, mammogram_dataset
from tests.report import checkers, results, sources

NAMES = {
    "family name": "Zyxplanted",
    "given name": "Quorraplant",
    "ideographic name": "植田花子",
    "patient identifier": "PLANTED-4711-QX",
    "issuer": "PLANTISSUER",
    "birth date": "19430217",
    "birth date as people write it": "1943-02-17",
    "accession number": "ACCPLANT99",
    "study identifier": "STUPLANT7",
    "physician": "Drplanted",
    "description": "Plantdesc",
    "institution": "Plantclinic",
    "operator": "Opplanted",
    "device serial number": "SERPLANT1",
    "station": "STAPLANT",
    "folder": "plantfolder",
    "file": "plantfile",
    "study date": "20190423",
    "study date as people write it": "2019-04-23",
    "study date, German": "23.04.2019",
    "second study date": "20200501",
    "view modifier": "plantmodifier",
    "table explanation": "Plantlut",
    "modality": "PLANTMOD",
}  # fmt: skip
# What a run without pseudonyms writes; the others it never does.
WRITTEN = set(NAMES) - {
    "institution", "operator", "device serial number", "station", "study date, German", "second study date",
}  # fmt: skip
SUBJECT = Subject(
    NAMES["patient identifier"], "Zyxplanted^Quorraplant=植田花子", birth_date="19430217", age="076Y", study_key="STUPLANT7",
    date="20190423", time="101500", accession="ACCPLANT99",
)  # fmt: skip
LATER = dataclasses.replace(SUBJECT, study_key="second", date="20200501", accession="ACC2")
NAMELESS = Subject("", "Zyxplanted^Quorraplant", birth_date="19250101", age="094Y", study_key="third", date="20190423")
FOLDER = "Zyxplanted_Quorraplant/2019-04-23 plantfolder 23.04.2019"
MOST = AnalysisConfig(threshold=0.0)  # every finding is to be presented, so that presentation states are written


def _image(subject, side, view, *, seed=1, burned_in="NO"):
    lesion = phantom.Lesion(results.RegionKind.MASS, malignant=True, radius_mm=9.0)
    pixels, _ = phantom.render(phantom.Spec(side, view, Density.B, (lesion,), marker=True, patient=seed), seed)
    shown = Shown(lut=tuple(np.linspace(0, 65535, 4096).astype(int).tolist()))
    ds = mammogram_dataset(
        pixels, laterality=side, view=view, subject=subject, shown=shown, spacing_mm=0.27, series=seed
    )
    ds.IssuerOfPatientID, ds.InstitutionName, ds.OperatorsName = "PLANTISSUER", "Plantclinic", "Opplanted^Otto"
    ds.ReferringPhysicianName, ds.StudyDescription, ds.SeriesDescription = "Drplanted^Ophelia", "Plantdesc", "Plantdesc"
    ds.DeviceSerialNumber, ds.StationName, ds.BurnedInAnnotation = "SERPLANT1", "STAPLANT", burned_in
    ds.StudyID = subject.study_key
    ds.VOILUTSequence[0].LUTExplanation = "Plantlut"
    ds.ViewCodeSequence[0].ViewModifierCodeSequence = Sequence([code("1", "99PLANT", "Plantmodifier")])
    return ds


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two studies of one patient, one of somebody without an identifier, and files that are skipped or fail."""
    root = tmp_path_factory.mktemp("source")
    folder = root / FOLDER
    folder.mkdir(parents=True)
    for number, ds in enumerate(
        (
            _image(SUBJECT, Laterality.LEFT, View.CC),
            _image(SUBJECT, Laterality.RIGHT, View.MLO, burned_in="YES"),
            _image(LATER, Laterality.LEFT, View.CC, seed=2),
            _image(NAMELESS, Laterality.LEFT, View.CC, seed=3),
        )
    ):
        (folder / f"plantfile{number}.dcm").write_bytes(file_bytes(ds))
    shutil.copy(folder / "plantfile0.dcm", folder / "plantfile0-again.dcm")  # its reason quotes the other's path
    other = _image(SUBJECT, Laterality.LEFT, View.MLO, seed=4)
    other.Modality = "PLANTMOD"
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    (folder / "plantfile-other.dcm").write_bytes(file_bytes(other))
    broken = file_bytes(_image(SUBJECT, Laterality.LEFT, View.MLO, seed=5))
    (folder / "plantfile-broken.dcm").write_bytes(broken[: len(broken) // 2])
    (folder / "plantfile of Zyxplanted.txt").write_text("Zyxplanted was here")
    return root


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "secret"
    path.write_text("0123456789abcdef" * 4)
    path.chmod(0o600)
    return path


def _run(archive, out, **options):
    config = RunConfig(archive=archive, out=out, settle_seconds=0, analysis=MOST, **{"write": kinds.NAMES, **options})
    return pipeline.run(config, Console(quiet=True))


@pytest.fixture(scope="module")
def named(archive, tmp_path_factory):
    """A run without pseudonyms: the control."""
    out = tmp_path_factory.mktemp("named") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(previews, "remove", lambda _: None)
        patch.setattr(previews, "remove_all", lambda _: None)
        _run(archive, out)
    return out


# The pictures that are written between analysis and report stay, so that they can be looked at.
_KEEPING = "import mammoscan.run.previews as p\np.remove = p.remove_all = lambda _: None\n"


@pytest.fixture(scope="module")
def masked(archive, key, tmp_path_factory):
    """A run from the command line, and what it said."""
    folder = tmp_path_factory.mktemp("masked")
    (folder / "code").mkdir()
    (folder / "code" / "sitecustomize.py").write_text(_KEEPING)
    done = subprocess.run(
        [sys.executable, "-m", "mammoscan", "run", str(archive), "--out", str(folder / "out"), "--deidentify",
         "--deidentify-key", str(key), "--write", "all", "--threshold", "0", "--settle-seconds", "0",
         "--log-file", str(folder / "log")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(folder / "code")},
    )  # fmt: skip
    assert done.returncode == ExitCode.SOME_FAILED, done.stderr
    (folder / "said").write_text(done.stdout + done.stderr)
    return folder / "out"


def _table(out, name):
    with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# --------------------------------------------------------------------------- every byte


def _contents(path):
    """The bytes of a file, of everything packed into it, and the words of its PDF pages."""
    content = path.read_bytes()
    yield from _unpacked(content)
    if path.suffix == ".dcm":
        document = pydicom.dcmread(path).get("EncapsulatedDocument")
        if document:
            yield from _pdf(document)
    if path.suffix == ".pdf":
        yield from _pdf(content)
    if path.suffix == ".sqlite":
        database = sqlite3.connect(path)
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f"SELECT * FROM {table}"):  # noqa: S608 (names from the database itself)
                for value in row:
                    yield from _unpacked(value if isinstance(value, bytes) else str(value).encode())
        database.close()


def _unpacked(content):
    yield content
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in packed.namelist():
                yield packed.read(name)


def _pdf(content):
    yield content
    for begin in re.finditer(rb"stream\r?\n", content):
        stream = content[begin.end() : content.find(b"endstream", begin.end())]
        try:
            yield zlib.decompressobj().decompress(stream)
        except zlib.error:
            yield stream  # a picture as JPEG
    if shutil.which("pdftotext"):  # fonts are subsets with codes of their own: their words show only so
        yield subprocess.run(["pdftotext", "-layout", "-", "-"], input=content, capture_output=True, check=True).stdout


def _forms(word):
    """A word as it may be written: UTF-8 and 16, hexadecimal (paths in the state file), base64, escaped in JSON."""
    plain = word.encode()
    yield plain.lower()
    yield word.encode("utf-16-le").lower()
    yield word.encode("utf-16-be").lower()
    yield plain.hex().encode()
    yield json.dumps(word).strip('"').encode().lower()
    for shift in range(3):  # base64 depends on where the word begins
        coded = base64.b64encode(b"\0" * shift + plain)
        yield coded[4 * bool(shift) : -4].lower()


def _found(folder, words):
    """Which of the words, by name, stand somewhere below a folder: in the files' bytes or names."""
    assert all(len(word.encode()) >= 8 for word in words.values())  # shorter ones stand in pictures by chance
    forms = {name: [f for f in _forms(word) if len(f) >= 8] for name, word in words.items()}
    found = {}
    for path in folder.rglob("*"):
        pieces = [str(path.relative_to(folder)).encode()]
        if path.is_file():
            pieces += list(_contents(path))
        for piece in pieces:
            lower = piece.lower()
            for name, several in forms.items():
                if any(form in lower for form in several):
                    found.setdefault(name, path.name)
    return found


def _original_uids(archive):
    uids = {}
    for path in archive.rglob("*.dcm"):
        ds = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            uids[f"{keyword} {ds[keyword].value}"] = str(ds[keyword].value)
    return uids


def test_no_output_byte_holds_an_identity(masked, archive):
    assert len(list(masked.rglob("*.dcm"))) >= 15
    assert {p.name.split("-")[0] for p in masked.rglob("*.dcm")} >= {
        "mammography", "tid1500", "report", "presentation", "segmentation", "overlay",
    }  # fmt: skip
    assert _found(masked, {**NAMES, **_original_uids(archive)}) == {}


def test_the_same_search_finds_them_where_there_are_no_pseudonyms(named, archive):
    found = _found(named, {**NAMES, **_original_uids(archive)})
    assert set(NAMES) & set(found) >= WRITTEN
    analysed = {row["sop_instance_uid"] for row in _table(named, "images")}
    assert {f"SOPInstanceUID {uid}" for uid in analysed} <= set(found)
    # A UID of a finding is a hash of the image's: who has the image could tell. It must not be the same either.


def test_nothing_that_a_run_says_or_logs_holds_an_identity(masked):
    assert "failed" in (masked.parent / "log").read_text()
    for name in ("log", "said"):
        said = (masked.parent / name).read_text().encode()
        assert [n for n, word in NAMES.items() if any(form in said.lower() for form in _forms(word))] == []


# An error of our own that quotes what it stumbled over, in the process that does it: a worker's analysis, or the parent's
# classification. Every interpreter of the run imports this by itself.
_STUMBLING = {
    "worker": """
import mammoscan.image.preprocess
def prepare(image):
    patient = image.header.patient
    try:
        raise KeyError(patient.patient_id)
    except KeyError as error:
        raise ValueError(f"cannot place {patient.name} of {image.header.file.path}") from error
mammoscan.image.preprocess.prepare_upright = prepare
""",
    "parent": """
import mammoscan.run.score
def add(self, image, analysed):
    header = image.header
    raise ValueError(f"cannot score {header.patient.name}, {header.patient.patient_id} of {header.file.path}")
mammoscan.run.score.Scorer.add = add
""",
}


@pytest.mark.parametrize("place", _STUMBLING)
def test_an_internal_error_that_quotes_a_name_reaches_neither_log_nor_terminal_with_it(archive, key, tmp_path, place):
    code, log = tmp_path / "code", tmp_path / "log"
    code.mkdir()
    (code / "sitecustomize.py").write_text(_STUMBLING[place])

    def run(*options):
        done = subprocess.run(
            [sys.executable, "-m", "mammoscan", "run", str(archive), "--out", str(tmp_path / f"out{len(options)}"),
             "--settle-seconds", "0", "--workers", "2", "--log-file", str(log), *options],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(code)},
        )  # fmt: skip
        said = (log.read_text() + done.stdout + done.stderr).encode()
        log.unlink()
        return done, said, {n for n, word in NAMES.items() if any(form in said.lower() for form in _forms(word))}

    # Without pseudonyms a failed file is told with its path. The error itself did quote a name: see above.
    _, said, quoted = run()
    assert b"ValueError" in said
    assert place == "parent" or {"folder", "file"} <= quoted
    done, said, quoted = run("--deidentify", "--deidentify-key", str(key))
    assert done.returncode not in {ExitCode.ALL_ANALYSED, ExitCode.USAGE}
    assert b"ValueError" in said, "the log must tell what happened"
    assert quoted == set()
    if (tmp_path / "out3" / "ledger.sqlite").exists():
        assert _found(tmp_path / "out3", NAMES) == {}


def test_no_hash_of_an_identity_without_the_key_is_kept(named, masked):
    """Keys of the state file and tracking UIDs are made from paths and UIDs: they must not be the same."""

    def kept(out):
        with sqlite3.connect(out / "ledger.sqlite") as db:
            values = {v for row in db.execute("SELECT sop_instance_uid, key FROM images") for v in row}
            values |= {v for row in db.execute("SELECT study_instance_uid, key, results FROM studies") for v in row}
            values |= {v for row in db.execute("SELECT hex(content), hex(facts), stamp FROM files") for v in row}
            values |= {v for row in db.execute("SELECT path, study, instance FROM files") for v in row}
            values |= {v for row in db.execute("SELECT hex(content) FROM images WHERE content <> x''") for v in row}
        values |= {row["tracking_uid"] for row in _table(out, "findings")}
        for path in out.rglob("*.dcm"):
            ds = pydicom.dcmread(path, stop_before_pixels=True)
            values |= {ds.SOPInstanceUID, ds.SeriesInstanceUID, str(ds.get("FrameOfReferenceUID", "-"))} - {"-"}
        return values - {"", 0}

    assert kept(named)
    assert kept(named) & kept(masked) == set()


# --------------------------------------------------------------------------- what stays right


def test_scores_findings_and_places_are_those_of_the_run_without_pseudonyms(named, masked):
    columns = (
        "laterality",
        "view",
        "density",
        "percent_density",
        "breast_area_mm2",
        "sex",
        "manufacturer",
        "candidates",
    )

    def images(out):
        return sorted((*(row[c] for c in columns), round(float(row["malignancy"]), 3)) for row in _table(out, "images"))

    assert images(named) == images(masked)

    def studies(out):
        # One patient is over 90: her breasts' scores, which take the age, are the same all the same.
        names = ("malignancy", "malignancy_left", "malignancy_right", "above_threshold")
        return sorted(tuple(row[n] for n in names) for row in _table(out, "studies"))

    assert studies(named) == studies(masked)
    assert sorted(r["contour"] for r in _table(named, "findings")) == sorted(
        r["contour"] for r in _table(masked, "findings")
    )
    assert sorted(r["code"] for r in _table(named, "files")) == sorted(r["code"] for r in _table(masked, "files"))


def test_one_patient_has_one_pseudonym_and_keeps_the_days_between_studies(masked):
    by_patient = {}
    for row in _table(masked, "studies"):
        by_patient.setdefault(row["patient_id"], []).append(dt.date.fromisoformat(_iso(row["study_date"])))
    assert sorted(map(len, by_patient.values())) == [1, 2]
    (both,) = (sorted(dates) for dates in by_patient.values() if len(dates) == 2)
    assert both[1] - both[0] == dt.date(2020, 5, 1) - dt.date(2019, 4, 23)
    days = {(dt.date(2019, 4, 23) - min(dates)).days for dates in by_patient.values()}
    assert len(days) == 2  # each patient's own
    assert all(deidentify.LEAST_DAYS <= d <= deidentify.MOST_DAYS for d in days)


def _iso(date):
    return f"{date[:4]}-{date[4:6]}-{date[6:]}"


def test_ages_stay_and_end_at_ninety(masked):
    assert sorted(row["age"] for row in _table(masked, "images")) == ["76", "76", "76", "90"]
    ages = {str(pydicom.dcmread(p, stop_before_pixels=True).PatientAge) for p in masked.rglob("*.dcm")}
    assert ages == {"076Y", "090Y"}


def test_every_object_says_what_was_done_to_the_identities(masked):
    for path in masked.rglob("*.dcm"):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert ds.PatientIdentityRemoved == "YES"
        assert ds.DeidentificationMethod
        codes = [(i.CodeValue, i.CodingSchemeDesignator) for i in ds.DeidentificationMethodCodeSequence]
        assert codes == [("113100", "DCM"), ("113107", "DCM"), ("113108", "DCM")]
        assert ds.LongitudinalTemporalInformationModified == "MODIFIED"
        assert ds.PatientID == ds.PatientName
        assert ds.PatientBirthDate == ds.AccessionNumber == ds.StudyID == ds.ReferringPhysicianName == ""
        assert "StudyDescription" not in ds
        assert "IssuerOfPatientID" not in ds
        # The day of the run, unmoved, would tell by how much a study of the day before was moved.
        assert ds.InstanceCreationDate < dt.datetime.now().astimezone().strftime("%Y%m%d")


def test_references_between_objects_lead_to_the_same_pseudonymous_images(masked):
    images = {
        (r["study_instance_uid"], r["series_instance_uid"], r["sop_instance_uid"]) for r in _table(masked, "images")
    }
    for path in masked.rglob("*-sr.dcm"):
        ds = pydicom.dcmread(path)
        (study,) = ds.CurrentRequestedProcedureEvidenceSequence
        assert study.StudyInstanceUID == ds.StudyInstanceUID == path.parent.name
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                at = (study.StudyInstanceUID, series.SeriesInstanceUID, item.ReferencedSOPInstanceUID)
                failed = {r["sop_instance_uid"] for r in _table(masked, "files") if r["status"] == "failed"}
                assert at in images or at[2] in failed
    assert all(uid.startswith("2.25.") for place in images for uid in place)


@checkers.NEEDED
@pytest.mark.outside
def test_every_object_is_valid(masked):
    for path in masked.rglob("*.dcm"):
        assert checkers.iod_complaints(path) == [], path.name
    for folder in (masked / "studies").iterdir():
        said = checkers.entity_complaints(sorted(folder.glob("*.dcm")))
        # The images themselves stay in the archive under their own UIDs.
        said = [line for line in said if "that was referenced" not in line and not line.startswith("status")]
        assert said == []


def test_pictures_show_the_breast_alone_and_none_where_annotations_are_burned_in(named, masked):
    def pictures(out):
        with sqlite3.connect(out / "ledger.sqlite") as db:
            keys = dict(db.execute("SELECT sop_instance_uid, key FROM images WHERE code = ''"))
        found = {}
        for row in _table(out, "images"):
            shown = previews.read(previews.place(out, keys[row["sop_instance_uid"]])).pixels
            found[row["laterality"], row["view"], float(row["malignancy"])] = row["flags"].split(";"), shown
        return found

    whole, cut = pictures(named), pictures(masked)
    assert len(whole) == len(cut) == 4
    for place, (flags, picture) in cut.items():
        before = next(p for k, (_, p) in whole.items() if k[:2] == place[:2] and abs(k[2] - place[2]) < 1e-3)
        if "burned-in-annotation" in flags:
            assert not picture.any()
            continue
        # The lead marker lies in the corner away from the chest wall, which a left breast never reaches.
        corner = np.s_[: picture.shape[0] // 3, picture.shape[1] * 2 // 3 :]
        assert before[corner].max() > 100
        assert picture[corner].max() == 0
        kept = picture > 0
        assert np.array_equal(picture[kept], before[kept])
        assert kept.mean() > 0.1
    for path in masked.rglob("overlay-*.dcm"):
        assert pydicom.dcmread(path).BurnedInAnnotation == "NO"


def test_a_second_run_does_no_pixel_work_and_changes_no_byte(archive, masked, key, tmp_path, monkeypatch):
    out = shutil.copytree(masked, tmp_path / "out")
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    def never(*_):
        raise AssertionError("no pixel work was to be done")

    monkeypatch.setattr(pipeline, "Pump", never)
    monkeypatch.setattr(pipeline, "Scorer", never)
    monkeypatch.setattr(previews, "remove_all", lambda _: None)
    summary = _run(archive, out, deidentify=key)
    assert (summary.analysed, summary.unchanged) == (0, 4)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_lost_report_is_written_again_with_the_same_bytes(archive, masked, key, tmp_path):
    out = shutil.copytree(masked, tmp_path / "out")
    lost = [next(out.rglob(name)) for name in ("presentation-state-L.dcm", "report.pdf")]
    content = [p.read_bytes() for p in lost]
    for path in lost:
        path.unlink()
    assert _run(archive, out, deidentify=key).analysed == 0
    assert [p.read_bytes() for p in lost] == content


def test_the_same_key_gives_the_same_names_in_another_folder_and_another_key_gives_others(
    archive, masked, key, tmp_path
):
    def names(out):
        columns = ("patient_id", "study_instance_uid", "series_instance_uid", "sop_instance_uid", "path", "study_date")
        return {name: {row[name] for row in _table(out, "images")} for name in columns}

    other = tmp_path / "other"
    other.write_text("f" * 64)
    _run(archive, tmp_path / "same", deidentify=key, write=())
    _run(archive, tmp_path / "different", deidentify=other, write=())
    assert names(tmp_path / "same") == names(masked)
    for name, values in names(tmp_path / "different").items():
        assert values & names(masked)[name] == set(), name


def test_a_folder_never_holds_results_under_two_kinds_of_names(archive, named, masked, key, tmp_path):
    other = tmp_path / "other"
    other.write_text("f" * 64)
    for made, option in ((named, key), (masked, None), (masked, other)):
        out = shutil.copytree(made, tmp_path / "copy")
        before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
        with pytest.raises(UsageError, match="other names"):
            _run(archive, out, deidentify=option)
        assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
        shutil.rmtree(out)
    # Without its state file the folder still holds the reports.
    out = shutil.copytree(named, tmp_path / "copy")
    (out / "ledger.sqlite").unlink()
    with pytest.raises(UsageError, match="other names"):
        _run(archive, out, deidentify=key)


def test_run_json_names_neither_the_archive_nor_the_day(named, masked):
    assert json.loads((named / "run.json").read_text())["deidentified"] is False
    said = json.loads((masked / "run.json").read_text())
    assert (said["deidentified"], said["archive"], said["created"]) == (True, "", "")


# --------------------------------------------------------------------------- the key


def test_a_missing_key_is_made_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "key"
    key, said = keyfile.read_or_make(path, not_below=())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in said
    assert re.fullmatch(rb"[0-9a-f]{64}", key)
    assert keyfile.read_or_make(path, not_below=()) == (key, "")
    path.chmod(0o644)
    assert "others can read" in keyfile.read_or_make(path, not_below=())[1]


def test_a_key_that_gives_itself_away_or_is_too_short_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="neither among the results"):
        keyfile.read_or_make(tmp_path / "out" / "key", not_below=(tmp_path / "out",))
    assert not (tmp_path / "out" / "key").exists()
    (tmp_path / "short").write_text("secret\n")
    with pytest.raises(UsageError, match="6 characters"):
        keyfile.read_or_make(tmp_path / "short", not_below=())
    with pytest.raises(UsageError, match="cannot be read or made"):
        keyfile.read_or_make(tmp_path, not_below=())


def test_without_a_name_the_key_lies_in_the_users_configuration(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert keyfile.default() == tmp_path / "mammoscan" / "deidentify.key"


def test_a_key_without_pseudonyms_is_a_usage_error(tmp_path):
    from click.testing import CliRunner

    from mammoscan.cli import main

    arguments = ["run", str(tmp_path), "--out", str(tmp_path / "out"), "--deidentify-key", str(tmp_path / "key")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == ExitCode.USAGE
    assert "--deidentify" in done.output


# --------------------------------------------------------------------------- the functions

MASK = Deidentifier(b"k" * 32)


def test_two_patients_are_never_merged():
    code_of = MASK.patient_code
    assert code_of("1", "A", "s1") == code_of("1", "A", "s2")
    assert len({code_of("1", "A", "s"), code_of("1", "B", "s"), code_of("1A", "", "s"), code_of("", "", "s")}) == 4
    assert code_of("", "", "s1") != code_of("", "", "s2")


def test_uids_are_valid_and_consistent():
    made = {MASK.uid(f"1.2.{n}") for n in range(200)}
    assert len(made) == 200
    assert all(pydicom.uid.UID(uid).is_valid and len(uid) <= 64 for uid in made)
    assert MASK.uid("") == ""


@pytest.mark.parametrize(
    ("date", "days", "moved"),
    [("20200301", 1, "20200229"), ("20200101", 366, "20181231"), ("", 5, ""), ("2020", 5, ""), ("00010101", 1, ""),
     ("10000101", 1, "09991231")],
)  # fmt: skip
def test_dates_move_by_days_of_the_calendar(date, days, moved):
    assert deidentify.earlier(date, days) == moved


@pytest.mark.parametrize(("written", "years", "shown"), [("089Y", 89, "089Y"), ("090Y", 90, "090Y"),
                                                         ("101Y", 101, "090Y"), ("", 101, "")])  # fmt: skip
def test_ages_over_ninety_read_ninety(written, years, shown):
    patient = dataclasses.replace(results.PATIENT, age_string=written)
    header = results.header(patient=patient, age=Age(float(years), AgeSource.PATIENT_AGE))
    made = MASK.header(header, "P1")
    assert made.patient.age_string == shown
    assert made.age.years == min(years, 90)


def test_every_field_of_a_header_is_decided(tmp_path):
    """A field that is added to a header must be thought about here: mapped, emptied or harmless."""
    harmless = {
        "sop_class_uid", "transfer_syntax_uid", "modality", "age", "laterality", "view", "density", "manufacturer",
        "manufacturer_model", "spacing", "presentation_intent", "photometric", "rows", "columns", "bits_stored",
        "patient_orientation", "content_time", "implant", "partial_view", "magnification", "burned_in", "lossy", "flags",
        "skip", "view_modifiers",
    }  # fmt: skip
    header = results.header()
    made = MASK.header(header, "P1")
    for field in dataclasses.fields(header):
        same = getattr(made, field.name) == getattr(header, field.name)
        assert same == (field.name in harmless), field.name
    free = dataclasses.replace(
        header,
        presentation_intent="PLANTED",
        view_modifiers=("planted", "spot compression"),
        transfer_syntax_uid="1.2.3",
    )
    made = MASK.header(free, "P1")
    assert (made.presentation_intent, made.view_modifiers, made.transfer_syntax_uid) == ("", ("spot compression",), "")


def test_an_issuer_that_only_some_images_state_is_the_patients():
    without, with_issuer = results.header(n=1), results.header(
        n=2, patient=dataclasses.replace(results.PATIENT, issuer="A")
    )  # fmt: skip
    first = StudyPlan("1.2", (without, with_issuer), (), (), ())
    second = StudyPlan("1.2", (with_issuer,), (), (), ())
    assert MASK.plan_code(first) == MASK.plan_code(second)
    assert {h.patient.patient_id for h in MASK.plan(first).headers} == {MASK.plan_code(first)}


def test_failures_keep_their_reason_and_lose_what_their_detail_quotes():
    header = results.header()
    failed = dataclasses.replace(results.failure(header), detail="cannot read /archive/Zyxplanted/1.dcm")
    made = MASK.failed(failed, MASK.header(header, "P1"))
    assert (made.reason, made.stage, made.detail) == (Reason.TRUNCATED, Stage.PIXELS, "")
    assert "archive" not in repr(made)
    assert "1.dcm" not in repr(made)


def test_the_name_of_a_file_says_nothing_and_is_not_shared():
    one, two = (dataclasses.replace(results.header().file, relative=r) for r in ("a/Zyx.dcm", "b/Zyx.dcm"))
    assert MASK.file(one) == MASK.file(one)
    assert MASK.file(one).relative != MASK.file(two).relative
    assert re.fullmatch(r"file-[0-9a-f]{20}", MASK.file(one).relative)
    assert MASK.file(one).mtime_ns == 0


def test_free_text_about_a_display_is_left_out():
    from mammoscan.image.display import Display, Lut

    lut = Lut(0, 12, (0, 1), "Planted", "PLANTED")
    shown = deidentify.display(Display((1.0, 0.0, "PLANTED"), lut, (1.0, 2.0), "LINEAR", lut))
    assert shown.rescale == (1.0, 0.0, "US")
    assert shown.voi_lut == shown.modality_lut == Lut(0, 12, (0, 1), "", "")
    assert deidentify.display(Display((1.0, 0.0, "OD"))).rescale == (1.0, 0.0, "OD")


def test_a_marker_beside_the_breast_is_not_in_the_preview():
    header = results.header(rows=900, columns=720)
    picture = analyse.Preview(np.full((450, 360), 200, np.uint8), np.zeros((450, 360), bool), 0.5)
    breast = np.zeros((400, 300), bool)
    breast[100:300, :200] = True
    geometry = dataclasses.replace(results.prediction(header).geometry, x0=0, y0=50, source_width=720,
                                   source_height=900, scale_x=0.5, scale_y=0.5, width=300, height=400)  # fmt: skip
    blank = np.zeros_like(breast, np.float32)
    from mammoscan.core.domain import Prepared

    prepared = Prepared(header, geometry, blank, blank, breast, ~breast & False, ~breast, geometry, blank, ())
    shown = analyse.only_breast(picture, prepared)
    expected = np.zeros((450, 360), bool)
    expected[125:325, :200] = True  # (working / 0.5 + (0, 50)) * 0.5
    assert np.array_equal(shown.pixels > 0, expected)
    burned = dataclasses.replace(prepared, header=dataclasses.replace(header, burned_in=True))
    assert not analyse.only_breast(picture, burned).pixels.any()


def test_a_modality_that_is_free_text_is_left_out(tmp_path):
    ds = _image(SUBJECT, Laterality.LEFT, View.CC)
    ds.Modality = "PLANTMOD"
    path = tmp_path / "a"
    path.write_bytes(file_bytes(ds))
    header = sources.read(path)
    assert header.modality == "PLANTMOD"
    assert Deidentifier(b"0" * 32).header(header, "P1").modality == ""
