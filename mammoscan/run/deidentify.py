"""Identities to keyed pseudonyms, before anything is written (PS3.15 Annex E). Pure functions.

Basic Application Confidentiality Profile with the options Retain Longitudinal Temporal Information Modified
Dates and Retain Patient Characteristics: sex stays, age stays up to 90 years, times of day stay, all dates of
a patient are moved earlier by the same secret number of days. Manufacturer and model stay: the profile does
not list them. Everything secret comes from HMAC-SHA-256 under the user's key, so the same key gives the same
pseudonyms in every run, and without it no guess of a name, an identifier or a path can be confirmed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mammoscan.core import codes, uids
from mammoscan.core.domain import Age, Failed, Header, Patient, Scored, Skipped, SourceFile, StudyFacts
from mammoscan.core.values import as_date
from mammoscan.run.plan import StudyPlan

if TYPE_CHECKING:
    from mammoscan.image.display import Display
    from mammoscan.image.luts import Lut

OLDEST = 90  # years: higher ages are so rare that they point to a person
LEAST_DAYS, MOST_DAYS = 31, 3650  # that a patient's dates are moved earlier
_INTENTS = ("FOR PRESENTATION", "FOR PROCESSING")
_MODALITIES = ("MG", "CR", "DX", "DR", "RG", "SC", "OT")  # of images of a mammography class; others are free text
_MODIFIERS = frozenset(codes.MODIFIERS.values())
# Defined terms of Modality LUT Type and Rescale Type (PS3.3 C.11.1.1.2); anything else is somebody's free text.
_OUTPUT_UNITS = frozenset({"OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})


@dataclass(frozen=True, slots=True)
class Deidentifier:
    """Maps what carries an identity to what carries none, always the same way under the same key."""

    key: bytes

    # ------------------------------------------------------------------ keyed values

    def fingerprint(self) -> str:
        """What tells keys apart without revealing them, 32 hexadecimal digits."""
        return self._secret("fingerprint").hex()[:32]

    def digest(self, *parts: object) -> str:
        """A keyed digest of JSON values, 64 hexadecimal digits: no guess of the parts can be confirmed by it."""
        return self._secret("digest", json.dumps(parts, ensure_ascii=True)).hex()

    def uid(self, original: str) -> str:
        """The pseudonym of a UID, below 2.25 (PS3.5 B.2); '' stays ''."""
        if not original:
            return ""
        digest = bytearray(self._secret("uid", original)[:16])
        digest[6] = digest[6] & 0x0F | 0x50
        digest[8] = digest[8] & 0x3F | 0x80
        return f"2.25.{int.from_bytes(digest, 'big')}"

    def patient_code(self, patient_id: str, issuer: str, study_instance_uid: str) -> str:
        """The pseudonym of a patient: of the identifier and its issuer, or of the study where there is none.

        Two patients are never merged: without an identifier nothing says that two studies are of one person.
        """
        known = ("id", patient_id, issuer) if patient_id else ("study", study_instance_uid)
        return f"P{self._secret('patient', *known).hex()[:20].upper()}"

    def days(self, patient_code: str) -> int:
        """By how many days all dates of a patient are moved earlier."""
        number = int.from_bytes(self._secret("days", patient_code)[:8], "big")
        return LEAST_DAYS + number % (MOST_DAYS - LEAST_DAYS + 1)

    def _secret(self, *parts: str) -> bytes:
        # Lengths before the parts, so that no two lists of parts give one text.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

    # ------------------------------------------------------------------ types of the domain

    def plan(self, plan: StudyPlan) -> StudyPlan:
        """A study as it is written. Headers keep ``file.path``: their pixels are still to be read."""
        code = self.plan_code(plan)
        return StudyPlan(
            self.uid(plan.study_instance_uid),
            tuple(self.header(h, code) for h in plan.headers),
            tuple(self.skipped(s) for s in plan.skipped),
            tuple(self.failed(f) for f in plan.failed),
            plan.densities,
        )

    def plan_code(self, plan: StudyPlan) -> str:
        """The pseudonym of a study's patient. Some images of a study may lack the issuer that others state."""
        first = plan.headers[0].patient.patient_id if plan.headers else ""
        issuer = next((h.patient.issuer for h in plan.headers if h.patient.issuer), "")
        return self.patient_code(first, issuer, plan.study_instance_uid)

    def header(self, header: Header, patient_code: str) -> Header:
        """A header without its identities; its path stays until the header is kept (``prediction``)."""
        days = self.days(patient_code)
        study = header.study
        known_syntax = header.transfer_syntax_uid.startswith("1.2.840.10008.")
        return replace(
            header,
            file=replace(self.file(header.file), path=header.file.path),
            sop_instance_uid=self.uid(header.sop_instance_uid),
            series_instance_uid=self.uid(header.series_instance_uid),
            transfer_syntax_uid=header.transfer_syntax_uid if known_syntax else "",
            modality=header.modality if header.modality in _MODALITIES else "",
            series_number=None,
            instance_number=None,
            patient=Patient(
                patient_id=patient_code,
                name=patient_code,
                issuer="",
                birth_date="",
                sex=header.patient.sex,
                age_string=_capped(header.patient.age_string, header.age),
            ),
            study=StudyFacts(
                study_instance_uid=self.uid(study.study_instance_uid),
                study_date=earlier(study.study_date, days),
                study_time=study.study_time,
                accession_number="",
                study_id="",
                study_description="",
                referring_physician_name="",
                timezone_offset="",
            ),
            age=replace(header.age, years=min(header.age.years, float(OLDEST))) if header.age else None,
            # What is no term of the standard is free text of whoever wrote it.
            view_modifiers=tuple(m for m in header.view_modifiers if m in _MODIFIERS),
            presentation_intent=header.presentation_intent if header.presentation_intent in _INTENTS else "",
            content_date=earlier(header.content_date, days),
            acquisition_date=earlier(header.acquisition_date, days),
        )

    def scored(self, scored: Scored, header: Header) -> Scored:
        """A result about ``header`` (mapped already) to be kept: no path, findings named by the new UID."""
        findings = []
        for finding in scored.findings:
            # The original's tracking UID is made from the original's SOPInstanceUID: who knows that could tell.
            unique = self.uid(finding.tracking_uid)
            words = uids.tracking_id(header, finding.region.kind, finding.number, unique)
            findings.append(replace(finding, tracking_id=words, tracking_uid=unique))
        return replace(scored, header=without_path(header), findings=tuple(findings))

    def failed(self, failed: Failed, header: Header | None = None) -> Failed:
        """A failure to be kept. Its detail may quote a path or a value of the file and is left out."""
        return replace(
            failed,
            file=self.file(failed.file),
            detail="",
            study_instance_uid=self.uid(failed.study_instance_uid),
            sop_instance_uid=self.uid(failed.sop_instance_uid),
            header=without_path(header) if header else None,
        )

    def skipped(self, skipped: Skipped) -> Skipped:
        """A file that is left out by rule, without what its detail might quote."""
        return replace(
            skipped,
            file=self.file(skipped.file),
            detail="",
            study_instance_uid=self.uid(skipped.study_instance_uid),
            sop_instance_uid=self.uid(skipped.sop_instance_uid),
            patient=("", ""),
        )

    def file(self, file: SourceFile) -> SourceFile:
        """A file with a name that says nothing: folders and names often carry those of patients, times their dates."""
        return SourceFile(Path(), self.file_name(file.relative), file.size, 0)

    def file_name(self, relative: str) -> str:
        """The name of a file of that place in the archive."""
        return f"file-{self._secret('file', relative).hex()[:20]}"


def earlier(date: str, days: int) -> str:
    """A date (YYYYMMDD) moved earlier; '' where there is none, or none that can be moved."""
    found = as_date(date)
    if found is None:
        return ""
    try:
        moved = found - timedelta(days=days)
    except OverflowError:
        return ""  # before the year 1
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


def without_path(header: Header) -> Header:
    """A header that no longer says where its file lies."""
    return replace(header, file=replace(header.file, path=Path()))


def display(shown: Display) -> Display:
    """How an image is displayed, without free text about it."""
    rescale = shown.rescale
    return replace(
        shown,
        rescale=rescale and (*rescale[:2], rescale[2] if rescale[2] in _OUTPUT_UNITS else "US"),
        modality_lut=_unexplained(shown.modality_lut),
        voi_lut=_unexplained(shown.voi_lut),
    )


def _unexplained(lut: Lut | None) -> Lut | None:
    return lut and replace(lut, explanation="", kind=lut.kind if lut.kind in _OUTPUT_UNITS else "")


def _capped(written: str, age: Age | None) -> str:
    """PatientAge up to 90 years (PS3.5 6.2 AS)."""
    return f"{OLDEST:03d}Y" if written and age is not None and age.years > OLDEST else written
