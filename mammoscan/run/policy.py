"""How identities are kept and written: as the archive has them, or as keyed pseudonyms.

Everything that plans and analyses works with identities as they are. What is kept, listed or reported goes through a
policy, so that no step asks which one it is.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mammoscan.run.deidentify import Deidentifier, earlier

if TYPE_CHECKING:
    from mammoscan.core.domain import Failed, Header, Scored
    from mammoscan.run.plan import StudyPlan

_NONCE = 12  # bytes (NIST SP 800-38D 8.2)


class Policy(Protocol):
    """What a policy says."""

    @property
    def anonymous(self) -> bool:
        """Whether nothing that is written may name a person."""

    @property
    def fingerprint(self) -> str:
        """What binds a results folder to this policy."""

    def path(self, relative: str) -> str:
        """A file's place below the archive as it is listed; a different one for every place."""

    def stamp(self, mtime_ns: int) -> int:
        """A file's time as it is kept, to be compared only."""

    def uid(self, uid: str) -> str:
        """A UID as it is kept and written."""

    def person(self, patient_id: str, issuer: str) -> str:
        """A digest of an identifier and its issuer; '' without an identifier."""

    def day(self, date: str, patient_id: str, issuer: str) -> str:
        """A date (YYYYMMDD) of a patient with an identifier as it is kept."""

    def detail(self, detail: str) -> str:
        """A detail, which may quote a path or a value of a file, as it is listed."""

    def digest(self, *parts: object) -> str:
        """A digest of JSON values for the state file."""

    def content(self, sha256: bytes) -> bytes:
        """The digest of a file's content as it is kept."""

    def seal(self, facts: bytes) -> bytes:
        """Facts of a header as they are kept."""

    def unseal(self, sealed: bytes) -> bytes:
        """The facts that were sealed.

        Raises
        ------
        ValueError
            When they cannot be opened.
        """

    def plan(self, plan: StudyPlan) -> tuple[StudyPlan, int]:
        """A study as it is written, and by how many days its dates are moved earlier."""

    def scored(self, scored: Scored, header: Header) -> Scored:
        """A result as it is kept. header: as it is written."""

    def failed(self, failed: Failed, header: Header) -> Failed:
        """A failure as it is kept. header: as it is written."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Identities as the archive has them."""

    anonymous: bool = False
    fingerprint: str = ""

    def path(self, relative: str) -> str:
        return relative

    def stamp(self, mtime_ns: int) -> int:
        return mtime_ns

    def uid(self, uid: str) -> str:
        return uid

    def person(self, patient_id: str, issuer: str) -> str:
        return self.digest("person", patient_id, issuer)[:32] if patient_id else ""

    def day(self, date: str, patient_id: str, issuer: str) -> str:
        return date

    def detail(self, detail: str) -> str:
        return detail

    def digest(self, *parts: object) -> str:
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()

    def content(self, sha256: bytes) -> bytes:
        return sha256

    def seal(self, facts: bytes) -> bytes:
        return facts

    def unseal(self, sealed: bytes) -> bytes:
        if not isinstance(sealed, bytes):
            raise ValueError("no bytes")
        return sealed

    def plan(self, plan: StudyPlan) -> tuple[StudyPlan, int]:
        return plan, 0

    def scored(self, scored: Scored, header: Header) -> Scored:
        return scored

    def failed(self, failed: Failed, header: Header) -> Failed:
        return failed


class Pseudonymous:
    """Keyed pseudonyms; what must be known as it was is encrypted under the same key (AES-256-GCM)."""

    anonymous = True

    def __init__(self, key: bytes) -> None:
        self._mask = Deidentifier(key)
        self._cipher = AESGCM(bytes.fromhex(self._mask.digest("facts")))
        self.fingerprint = self._mask.fingerprint()

    def path(self, relative: str) -> str:
        return self._mask.file_name(relative)

    def stamp(self, mtime_ns: int) -> int:
        return int(self._mask.digest("time", mtime_ns)[:15], 16)

    def uid(self, uid: str) -> str:
        return self._mask.uid(uid)

    def person(self, patient_id: str, issuer: str) -> str:
        return self.digest("person", patient_id, issuer)[:32] if patient_id else ""

    def day(self, date: str, patient_id: str, issuer: str) -> str:
        return earlier(date, self._mask.days(self._mask.patient_code(patient_id, issuer, "")))

    def detail(self, detail: str) -> str:
        return ""

    def digest(self, *parts: object) -> str:
        return self._mask.digest(*parts)

    def content(self, sha256: bytes) -> bytes:
        return bytes.fromhex(self._mask.digest("content", sha256.hex()))

    def seal(self, facts: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE)
        return nonce + self._cipher.encrypt(nonce, facts, None)

    def unseal(self, sealed: bytes) -> bytes:
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
        except (InvalidTag, TypeError) as error:
            raise ValueError("facts that cannot be opened") from error

    def plan(self, plan: StudyPlan) -> tuple[StudyPlan, int]:
        return self._mask.plan(plan), self._mask.days(self._mask.plan_code(plan))

    def scored(self, scored: Scored, header: Header) -> Scored:
        return self._mask.scored(scored, header)

    def failed(self, failed: Failed, header: Header) -> Failed:
        return self._mask.failed(failed, header)
