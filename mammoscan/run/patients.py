"""Which studies of a results folder are of one person, and what they say of one another: a table of the state file.

One person is an identifier with its issuer, and no word against it: another sex, another birth date, ages that do not fit
the dates, names without a word in common. Where no issuer is stated one identifier may be two people's, of two hospitals
that count from 1: then sex, and birth date or age, must also be known and agree. And where a third study under the
identifier contradicts one of two studies and not the other, they are not held to be of one person either.

Facts about persons are kept as digests (keyed where the run is de-identified), to be compared only.
"""

from __future__ import annotations

import logging
import re
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from mammoscan.core.domain import Earlier, NoEarlier, Sex
from mammoscan.core.values import as_date
from mammoscan.model import priors
from mammoscan.model.priors import Known

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from mammoscan.run.plan import PlannedImage
    from mammoscan.run.policy import Policy

log = logging.getLogger(__name__)

# The studies that are reported. claims: a digest of what each of them says of the others.
TABLES = """
CREATE TABLE IF NOT EXISTS people (
    study TEXT PRIMARY KEY, person TEXT NOT NULL, claims TEXT NOT NULL, facts BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS people_person ON people (person, claims)
"""
# Studies under one identifier beyond which it is nobody's: a woman has fewer in her life, `ANONYMOUS` has more.
MOST = 100
AGES_AGREE = 1.1  # years that two ages may differ beside the time between: whole years, and leap days
_OLDEST = 90.0  # with pseudonyms nobody is older (``deidentify``)
_YEAR = 365.25
_WORD = re.compile(r"\w{2,}")


class Person(NamedTuple):
    """Whose study it is. code: of identifier and issuer, '' without an identifier. issued: whether an issuer is stated.

    sexes, births: all that its images state. born: year of birth that the age and the study's date come to.
    names: the words of the patient's name.
    """

    code: str
    issued: bool
    sexes: tuple[str, ...]
    births: tuple[str, ...]
    born: float | None
    names: tuple[str, ...]


NOBODY = Person("", False, (), (), None, ())


class Visit(NamedTuple):
    """A study with whose it is."""

    person: Person
    study: Known


def person_of(images: Sequence[PlannedImage], policy: Policy) -> Person:
    """Whose study it is, as the headers of all its images (one at least) say."""
    patients = [image.header.patient for image in images]
    identifier = next((p.patient_id for p in patients if p.patient_id), "")
    issuer = next((p.issuer for p in patients if p.issuer), "")
    code = policy.person(identifier, issuer)

    def digests(what: str, values: set[str]) -> tuple[str, ...]:
        # With the code, so that nothing of two persons can be compared.
        return tuple(sorted(policy.digest(what, code, value)[:16] for value in values if value))

    words = {w for p in patients for w in _WORD.findall(p.name.casefold())}
    return Person(
        code,
        bool(issuer),
        tuple(sorted({p.sex.value for p in patients} - {Sex.UNKNOWN.value})),
        digests("birth", {p.birth_date for p in patients}),
        _born(images, anonymous=policy.anonymous),
        digests("name", words),
    )


def _born(images: Sequence[PlannedImage], *, anonymous: bool) -> float | None:
    """When a patient was born by age and date of the study, in years; None where that is not known."""
    date = as_date(images[0].written.study.study_date)
    age = next((image.written.age for image in images if image.written.age is not None), None)
    if date is None or age is None or (anonymous and age.years >= _OLDEST):
        return None
    return round(date.toordinal() / _YEAR - age.years, 3)


def contradict(one: Person, other: Person) -> bool:
    """Whether something that two studies state cannot be of one person. What is not stated contradicts nothing."""
    births = {*one.births, *other.births}
    if len({*one.sexes, *other.sexes}) > 1 or len(births) > 1:
        return True
    if one.names and other.names and not set(one.names) & set(other.names):
        return True
    return one.born is not None and other.born is not None and abs(one.born - other.born) > AGES_AGREE


def one_person(one: Person, other: Person) -> bool:
    """Whether two studies are held to be of one person, as far as the two alone say."""
    if not one.code or one.code != other.code or contradict(one, other):
        return False
    if one.issued:
        return True
    agreed = bool(one.births and other.births) or (one.born is not None and other.born is not None)
    return bool(one.sexes and other.sexes) and agreed


def said(own: Visit, others: Sequence[Visit]) -> Earlier:
    """What is said of a study in the light of all others under its identifier."""
    if not own.person.code:
        return Earlier(NoEarlier.NO_PATIENT)
    found = priors.earlier(own.study, [other.study for other in _certain(own, others)])
    if found.none is not NoEarlier.NONE:
        return found
    doubted = priors.earlier(own.study, [other.study for other in others])
    return Earlier(NoEarlier.UNCERTAIN) if doubted.studies else found


def _certain(own: Visit, others: Sequence[Visit]) -> list[Visit]:
    """The studies that are held to be of the same person."""
    return [
        other
        for other in others
        if one_person(own.person, other.person)
        and all(contradict(x.person, own.person) == contradict(x.person, other.person) for x in others)
    ]


def packed(visit: Visit) -> bytes:
    """A visit as it is kept."""
    return zlib.compress(msgspec.msgpack.encode(visit))


def unpacked(content: bytes) -> Visit:
    """A visit that was kept.

    Raises
    ------
    ValueError
        When the bytes cannot be read back.
    """
    try:
        return msgspec.msgpack.decode(zlib.decompress(content), type=Visit)
    except (zlib.error, msgspec.MsgspecError, TypeError) as error:
        raise ValueError(f"a study that cannot be read back: {error}") from error


class Patients:
    """The studies of a state file by person.

    waiting: UIDs of studies of which something else is to be said by now: they are to be planned again in this run, and stand
    in the table of studies to be done, so that a run that is cut off loses none.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.waiting: set[str] = set()

    def others(self, person: str, study: str) -> tuple[bytes, ...]:
        """What is kept of the other studies under an identifier, by UID; ``MOST`` times nothing where there are more."""
        if not person or self._crowded(person):
            return (b"",) * MOST if person else ()
        rows = self._db.execute(
            "SELECT facts FROM people WHERE person = ? AND study <> ? ORDER BY study", (person, study)
        )
        return tuple(facts for (facts,) in rows)

    def _crowded(self, person: str) -> bool:
        (count,) = self._db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM people WHERE person = ? LIMIT ?)", (person, MOST + 1)
        ).fetchone()
        return bool(count > MOST)

    def claims(self, study: str) -> str:
        """A digest of what is to be said of a reported study as things stand; '' for nothing."""
        row = self._db.execute("SELECT person, facts FROM people WHERE study = ?", (study,)).fetchone()
        if row is None:
            return ""
        own = _read(row[1])
        return "" if own is None else priors.digest(said_of(own, self.others(row[0], study)))

    def untrue(self, study: str) -> bool:
        """Whether the report of a study names an earlier one that is not held to be of the same person any more."""
        row = self._db.execute("SELECT person, claims, facts FROM people WHERE study = ?", (study,)).fetchone()
        if row is None or not priors.named(row[1]):
            return False
        own, others = _read(row[2]), self.others(row[0], study)
        if own is None or len(others) >= MOST:
            return True
        certain = _certain(own, [v for v in map(_read, others) if v is not None])
        return not set(priors.named(row[1])) <= {v.study.study_instance_uid for v in certain}

    def keep(self, study: str, content: bytes, person: str, claims: str) -> None:
        """A study is reported, and says so much of others: others, or itself, may have to say something else now."""
        before = self._db.execute("SELECT person, facts FROM people WHERE study = ?", (study,)).fetchone()
        self._db.execute("INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?)", (study, person, claims, content))
        if before != (person, content):
            self._look_at({person, before[0] if before else ""})
        else:
            self._look_at_one(study)

    def forget(self, study: str) -> None:
        """A study is no result any more."""
        before = self._db.execute("SELECT person FROM people WHERE study = ?", (study,)).fetchone()
        self._db.execute("DELETE FROM people WHERE study = ?", (study,))
        self._look_at({before[0] if before else ""})

    def _look_at(self, persons: set[str]) -> None:
        for person in sorted(persons - {""}):
            if self._crowded(person):
                self._nobodys(person)
                continue
            rows = self._db.execute(
                "SELECT study, claims, facts FROM people WHERE person = ? ORDER BY study", (person,)
            ).fetchall()
            for study, claims, facts in rows:
                if _differs(claims, facts, tuple(f for s, _, f in rows if s != study)):
                    self._to_do(study)

    def _look_at_one(self, study: str) -> None:
        claims, person, facts = self._db.execute(
            "SELECT claims, person, facts FROM people WHERE study = ?", (study,)
        ).fetchone()
        if _differs(claims, facts, self.others(person, study)):
            self._to_do(study)

    def _nobodys(self, person: str) -> None:
        """Under an identifier of too many studies nothing is said of any."""
        uncertain = priors.digest(Earlier(NoEarlier.UNCERTAIN))
        for (study,) in self._db.execute(
            "SELECT study FROM people WHERE person = ?1 AND claims < ?2 UNION ALL "
            "SELECT study FROM people WHERE person = ?1 AND claims > ?2",
            (person, uncertain),
        ).fetchall():
            self._to_do(study)

    def _to_do(self, study: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO todo VALUES (?)", (study,))
        self.waiting.add(study)

    def taken(self) -> list[str]:
        """The studies to be planned again, which are forgotten here."""
        found, self.waiting = sorted(self.waiting), set()
        return found


def said_of(own: Visit, others: Sequence[bytes]) -> Earlier:
    """What is said of a study, from what is kept of the others."""
    if own.person.code and len(others) >= MOST:
        return Earlier(NoEarlier.UNCERTAIN)
    return said(own, [v for v in map(_read, others) if v is not None])


def _differs(claims: str, facts: bytes, others: Sequence[bytes]) -> bool:
    own = _read(facts)
    return own is not None and priors.digest(said_of(own, others)) != claims


def _read(facts: bytes) -> Visit | None:
    """What is kept of a study, None where it cannot be read back: then nothing is said of it."""
    try:
        return unpacked(facts)
    except ValueError:
        log.warning("what is kept of a study to compare others with cannot be read back")
        return None
