"""Which precision a run takes: what is asked for, what stands, and what the machine and the model allow."""

import dataclasses
import json
import shutil

import pytest

from mammoscan.core.console import Console
from mammoscan.model import bundle
from mammoscan.model.precision import CHOICES, Precision, chosen, cpu_flags, vector_units

FIGURES = {"crops": 2000, "moved_p99": 0.004, "moved_most": 0.01}


@pytest.fixture
def machine(tmp_path):
    """A /proc/cpuinfo of a processor with some flags."""

    def made(*flags):
        path = tmp_path / "cpuinfo"
        path.write_text(f"processor\t: 0\nflags\t\t: fpu {' '.join(flags)} amx\nbugs\t\t: amx_bf16\n")
        return path

    return made


@pytest.fixture
def model():
    return bundle.load(None)


@pytest.fixture
def sound(model):
    return dataclasses.replace(model, precisions={"bfloat16": FIGURES})


def test_auto_is_bfloat16_only_where_the_processor_has_matrix_units_and_the_model_is_measured_in_it(
    machine, model, sound, tmp_path
):
    assert chosen("auto", sound, cpuinfo=machine("amx_bf16", "avx2")) is Precision.BFLOAT16
    assert chosen("auto", sound, cpuinfo=machine("avx512_bf16", "avx512_vnni")) is Precision.FLOAT32
    assert chosen("auto", dataclasses.replace(model, precisions={}), cpuinfo=machine("amx_bf16")) is Precision.FLOAT32
    assert chosen("auto", sound, cpuinfo=tmp_path / "none") is Precision.FLOAT32


def test_auto_stays_with_what_stands_whatever_the_machine(machine, model, sound):
    assert chosen("auto", sound, before="float32", cpuinfo=machine("amx_bf16")) is Precision.FLOAT32
    assert chosen("auto", sound, before="bfloat16", cpuinfo=machine()) is Precision.BFLOAT16
    unmeasured = dataclasses.replace(model, precisions={})
    assert chosen("auto", unmeasured, before="bfloat16", cpuinfo=machine("amx_bf16")) is Precision.FLOAT32


@pytest.mark.parametrize("wanted", [name for name in CHOICES if name != "auto"])
def test_what_is_asked_for_is_taken(machine, model, wanted):
    assert chosen(wanted, model, before="bfloat16", cpuinfo=machine()).value == wanted


def test_units_that_decide_how_it_is_computed_are_told_in_one_order(machine):
    assert vector_units(machine("amx_int8", "sse2", "avx2")) == ("avx2", "amx_int8")
    assert vector_units(machine().parent / "none") == ()


def test_flags_are_those_of_the_processor_and_not_its_bugs(machine):
    assert cpu_flags(machine("sse2")) == {"fpu", "sse2", "amx"}


def test_the_precisions_of_a_model_are_read_from_its_description(model, tmp_path):
    for name in ("model.json", "ranking.npz", "outlines.npz"):
        shutil.copy2(model.weights_path.parent / name, tmp_path / name)
    facts = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(facts | {"precisions": {"bfloat16": FIGURES}}))
    assert bundle.load(tmp_path).precisions == {"bfloat16": FIGURES}


class _Ledger:
    """The notes of a results folder, with so many reported studies."""

    def __init__(self, studies=0, **notes):
        self.studies, self.notes = studies, notes

    def fact(self, name):
        return self.notes.get(name, "")

    def note(self, name, value):
        self.notes[name] = value

    def totals(self):
        return self.studies, 0


@pytest.mark.parametrize(
    ("ledger", "wanted", "found", "said"),
    [
        (_Ledger(), "auto", "float32", []),
        (_Ledger(3), "float32", "float32", []),
        (_Ledger(3), "auto", "float32", []),
        (_Ledger(3), "bfloat16", "bfloat16", ["were computed in float32; all are made again in bfloat16 (--precision"]),
        (_Ledger(3, precision="bfloat16"), "bfloat16", "bfloat16", []),
        (_Ledger(3, precision="bfloat16"), "auto", "float32", ["again in float32 (this model is not said to hold in b"]),
        (_Ledger(3, precision="bfloat16"), "float32", "float32", ["computed in bfloat16; all are made again in float32"]),
    ],
)  # fmt: skip
def test_a_folder_whose_precision_changes_is_told_of_once(model, ledger, wanted, found, said, capsys):
    from mammoscan.run.precision import settled

    plain = dataclasses.replace(model, precisions={})
    assert settled(wanted, plain, ledger, Console()).value == found
    told = capsys.readouterr().err
    assert all(text in told for text in said)
    assert ("all are made again" in told) == bool(said)
    assert ("does not say that its scores hold in bfloat16" in told) == (found == "bfloat16")
    assert ledger.notes["precision"] == found
    settled("auto", dataclasses.replace(plain, precisions={"bfloat16": FIGURES}), ledger, Console())
    assert capsys.readouterr().err == ""
    assert ledger.notes["precision"] == found
