"""What is to be done with a study, from the inventory's rows: its plan, the keys of its results, what stands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mammoscan import __version__
from mammoscan.archive import density
from mammoscan.archive.header import apply_rules
from mammoscan.core.domain import Header
from mammoscan.core.errors import Reason
from mammoscan.model.precision import Precision
from mammoscan.run import plan as plans
from mammoscan.run import tasks
from mammoscan.run.inventory import Status
from mammoscan.run.plan import PlannedImage, StudyPlan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mammoscan.archive.clinical import ClinicalTable
    from mammoscan.archive.density import DensityTable
    from mammoscan.core.clinical import Values
    from mammoscan.core.domain import DensityReading, Failed, OperatingPoint, Skipped
    from mammoscan.run.inventory import Inventory, Row
    from mammoscan.run.ledger import ImageRecord, Ledger
    from mammoscan.run.policy import Policy


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides results beside the files: settings, model and operating point, and which kinds are written."""

    include: tuple[str, ...]
    digest: str  # of the configuration
    model: str  # SHA-256 of its description
    point: OperatingPoint
    kinds: tuple[str, ...]
    retry_failed: bool
    densities: DensityTable | None
    precision: Precision = Precision.FLOAT32  # of the network
    clinical: ClinicalTable | None = None  # None: the model takes no clinical data

    def key(self, policy: Policy) -> str:
        """A digest of all that decides results; ``retry_failed`` does not."""
        rows = sorted((list(map(str, k)), v.value) for k, v in self.densities.rows.items()) if self.densities else []
        point = self.point
        return policy.digest(
            self.include, self.digest, self.model, point.image, point.breast, point.finding, point.name,
            sorted(self.kinds), rows, __version__, *self._of_precision(), *self._of_clinical(),
        )  # fmt: skip

    def image_key(self, header: Header, known: DensityReading, policy: Policy) -> str:
        """The key of an image's result: everything that decides it but the content of the file."""
        said = (known.density.value, known.source.value)
        return policy.digest(
            header.sop_instance_uid, said, self.digest, self.model, __version__, *self._of_precision(),
        )  # fmt: skip

    def _of_clinical(self) -> tuple[object, ...]:
        """Nothing for a model that takes no clinical data, as for the precision."""
        if self.clinical is None:
            return ()
        return (sorted((list(map(str, key)), values) for key, values in self.clinical.rows.items()),)

    def _of_precision(self) -> tuple[str, ...]:
        """Nothing for float32, so that results of before there was another stand under their keys."""
        return () if self.precision is Precision.FLOAT32 else (self.precision.value,)


@dataclass(frozen=True, slots=True)
class PlannedStudy:
    """A study of the archive as it is to be worked on.

    uid: as it is written. plan: as it is written; its headers are those of ``images``, in their order; none where no
    image is to be analysed. days: by how many days its dates are moved earlier. others: the files that are no images
    to analyse, with their numbers in the inventory, as the archive has them; also those of no study that share an
    instance with it. clinical: what the user's table says of its patient, for the scores of its breasts; () where the
    model takes nothing of the kind.
    """

    uid: str
    plan: StudyPlan
    days: int
    images: tuple[PlannedImage, ...]
    others: tuple[tuple[int, Skipped | Failed], ...]
    clinical: Values = ()

    def own(self, policy: Policy) -> list[Skipped | Failed]:
        """The files of this study that are no images to analyse, as the archive has them."""
        return [other for _, other in self.others if policy.uid(other.study_instance_uid) == self.uid]


class Planner:
    """Plans studies and says what stands."""

    def __init__(self, inventory: Inventory, ledger: Ledger, policy: Policy, rules: Rules) -> None:
        self._inventory = inventory
        self._ledger = ledger
        self._policy = policy
        self.rules = rules
        self._unreadable: dict[str, str] = {}

    def study(self, uid: str) -> PlannedStudy:
        """A study by its UID as it is written."""
        rows = self._inventory.rows(uid)
        there = {row.result.file.relative: row for row in rows if not row.gone}
        results = [self._ruled(row) for row in there.values()]
        found, loose = plans.plan_studies(results, self._same)
        plan = next((p for p in found if self._policy.uid(p.study_instance_uid) == uid), None)
        if plan is None:
            plan = StudyPlan(uid, (), (), (), ())
        others = [(there[r.file.relative].id, r) for r in (*plan.skipped, *plan.failed, *loose)]
        gone = self._gone(uid, [row for row in rows if row.gone], plan)
        headers = tuple(sorted((*plan.headers, *gone.values()), key=plans.in_order))
        if not headers:
            return PlannedStudy(uid, plan, 0, (), tuple(others))
        original = headers[0].study.study_instance_uid
        written, days = self._policy.plan(replace(plan, study_instance_uid=original, headers=headers))
        numbers = {id(header): number for number, header in gone.items()}
        images = tuple(
            self._image(header, shown, plan.densities, there.get(header.file.relative), numbers.get(id(header)))
            for header, shown in zip(headers, written.headers, strict=True)
        )
        table = self.rules.clinical
        clinical = table.find(headers[0]) if table is not None else ()
        return PlannedStudy(uid, written, days, images, tuple(others), clinical)

    def _ruled(self, row: Row) -> Header | Skipped | Failed:
        result = row.result
        return apply_rules(result, self.rules.include) if isinstance(result, Header) else result

    def _gone(self, uid: str, rows: list[Row], plan: StudyPlan) -> dict[int, Header]:
        """Images of the study that are not in the archive any more and whose results stand beside those that are.

        Where the archive says of another patient, its word counts alone. Where nothing of the study is left there, its
        report stands as it was made, with its pictures, unless it names an earlier study that is another person's.
        """
        own_rows = [r.result for r in rows if isinstance(r.result, Header)]
        alone = not (plan.headers or plan.failed or plan.skipped)
        if not own_rows or not (plan.headers or (alone and self._ledger.patients.untrue(uid))):
            return {}
        known = plan.headers or tuple(h for h in own_rows if self._policy.uid(h.study.study_instance_uid) == uid)
        patients = [(h.patient.patient_id, h.patient.issuer) for h in known]
        present = {h.sop_instance_uid for h in plan.headers}
        found: dict[int, Header] = {}
        for row in rows:
            header = self._ruled(row)
            if not isinstance(header, Header) or self._policy.uid(header.study.study_instance_uid) != uid:
                continue
            own = (header.patient.patient_id, header.patient.issuer)
            same = own[0] == patients[0][0] and not plans.differ([*patients, own])
            record = self._ledger.image(self._policy.uid(header.sop_instance_uid))
            key = self.image_key(header, self._density(header, plan.densities))
            if same and header.sop_instance_uid not in present and record and not record.reason and record.key == key:
                found[row.id] = header
        return found

    def _image(
        self, header: Header, written: Header, reported: tuple[DensityReading, ...], row: Row | None, gone: int | None
    ) -> PlannedImage:
        known = self._density(header, reported)
        key = self.image_key(header, known)
        if gone is not None or row is None:
            return PlannedImage(header, written, key, known, gone or 0, gone=True)
        return PlannedImage(header, written, key, known, row.id, row.content)

    def _density(self, header: Header, reported: tuple[DensityReading, ...]) -> DensityReading:
        return density.best_density(header, reported, self.rules.densities, None)

    # ------------------------------------------------------------------ twins

    def unjudged(self, uid: str) -> list[tuple[str, tuple[Header, ...]]]:
        """Instances of a study that lie in several files which were not compared yet, with their headers."""
        by_instance: dict[str, list[Header]] = {}
        for row in self._inventory.rows(uid):
            result = self._ruled(row)
            if isinstance(result, Header) and not row.gone:
                by_instance.setdefault(result.sop_instance_uid, []).append(result)
        return [
            (instance, tuple(twins))
            for instance, twins in by_instance.items()
            if len(twins) > 1 and self._verdict(twins) is None
        ]

    def judge(self, headers: tuple[Header, ...], verdict: str) -> None:
        """Note what was found of files that carry one instance."""
        uid = self._policy.uid(headers[0].sop_instance_uid)
        if not verdict.startswith(tasks.UNREADABLE):
            self._inventory.judge(uid, self._places(headers), verdict)
        else:
            self._unreadable[uid] = verdict  # of this moment

    def _verdict(self, headers: list[Header]) -> str | None:
        uid = self._policy.uid(headers[0].sop_instance_uid)
        return self._unreadable.get(uid) or self._inventory.verdict(uid, self._places(tuple(headers)))

    def _same(self, headers: list[Header]) -> bool | str:
        found = self._verdict(headers)
        if found is None:  # what lies in the archive changed since it was compared
            found = tasks.compare(tuple(headers))
            self.judge(tuple(headers), found)
        return found.removeprefix(tasks.UNREADABLE) if found.startswith(tasks.UNREADABLE) else found == tasks.SAME

    def _places(self, headers: tuple[Header, ...]) -> str:
        """What tells whether files that were compared are still the same ones."""
        return self._policy.digest(sorted((h.file.relative, h.file.size, h.file.mtime_ns) for h in headers))

    # ------------------------------------------------------------------ keys and what stands

    def image_key(self, header: Header, known: DensityReading) -> str:
        """The key of an image's result: everything that decides it but the content of the file."""
        return self.rules.image_key(header, known, self._policy)

    def study_keys(self, study: PlannedStudy, contents: Mapping[str, bytes], claims: str) -> tuple[str, str]:
        """The key of a study's reports, and that of the results in them (``StudyRecord``).

        contents: of the files of its images, by SOPInstanceUID as it is written. claims: a digest of what is said of earlier
        studies, '' for nothing.
        """
        own = [o for o in study.own(self._policy) if o.reason is not Reason.OUTPUT]
        point = self.rules.point
        results = self._policy.digest(
            sorted((i.key, contents.get(i.written.sop_instance_uid, b"").hex()) for i in study.images),
            sorted((o.sop_instance_uid, o.reason.code) for o in own),
            (point.image, point.breast, point.finding),
            *((study.clinical,) if study.clinical else ()),
        )
        places = sorted((i.header.file.relative, i.gone) for i in study.images)
        others = sorted((o.file.relative, o.reason.code) for o in own)
        kinds = sorted(set(self.rules.kinds))
        # Nothing where nothing is said, so that reports of before this was looked for stand under their keys.
        said = [claims] if claims else []
        return self._policy.digest(results, places, others, point.name, kinds, *said), results

    def reported(self, study: PlannedStudy, out: Path) -> bool:
        """Whether the reports of a study whose images' results stand are right, and lie in the results folder ``out``."""
        record = self._ledger.study(study.uid)
        claims = self._ledger.patients.claims(study.uid)
        if record is None or self.study_keys(study, self.contents(study), claims)[0] != record.key:
            return False
        return all((out / output.path).is_file() for output in record.outputs)

    def contents(self, study: PlannedStudy) -> dict[str, bytes]:
        """Digests of the files that the kept results of a study's images are of, by SOPInstanceUID as it is written."""
        uids = [image.written.sop_instance_uid for image in study.images]
        return {uid: found.content for uid in uids if (found := self._ledger.image(uid)) is not None}

    def list_images(self, study: PlannedStudy) -> None:
        """List the images of a study as what is kept of them says."""
        for image in study.images:
            record = self._ledger.image(image.written.sop_instance_uid)
            if record is None or image.gone:
                continue
            if record.reason is None:
                self._inventory.relist(image.number, Status.ANALYSED)
            else:
                self._inventory.relist(image.number, Status.FAILED, record.stage, record.reason, record.detail)

    def stands(self, image: PlannedImage, record: ImageRecord | None) -> bool | None:
        """Whether a kept result of an image is still right; None where the file's content must be looked at first."""
        if record is None or record.key != image.key:
            return False
        if image.gone:
            return True
        if record.reason is not None and (self.rules.retry_failed or record.reason.passing):
            return False
        if not record.content:
            return False
        return record.content == image.content if image.content else None
