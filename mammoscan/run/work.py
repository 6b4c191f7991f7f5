"""The pump: studies in, tasks out to the workers, results into the state, in bounded number.

A study is opened when the workers ask for more, its images go to the workers and to the scorer, and when the last of
them is known its report goes to a worker; then the study is closed. Memory holds what is open and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mammoscan.core import clinical
from mammoscan.core.domain import Analysed, Failed
from mammoscan.core.errors import Reason, Stage
from mammoscan.image.analyse import failed
from mammoscan.run import codec, patients, previews, publish, tasks, withdraw
from mammoscan.run.inventory import Status
from mammoscan.run.ledger import ImageRecord, StudyRecord
from mammoscan.run.pool import Crashed, Task
from mammoscan.run.publish import ToReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mammoscan.core.console import Ticker
    from mammoscan.core.domain import ReportContext, Scored
    from mammoscan.model.scores import Score
    from mammoscan.run.inventory import Inventory
    from mammoscan.run.ledger import Ledger
    from mammoscan.run.plan import PlannedImage
    from mammoscan.run.planner import PlannedStudy, Planner
    from mammoscan.run.policy import Policy
    from mammoscan.run.pool import Pool
    from mammoscan.run.score import Scorer
    from mammoscan.run.tasks import Settings, Worked

Key = tuple[str, str]  # what kind of work, and the UID of the image or study
PATIENCE = 2.0  # seconds without a result after which a partly filled batch is not kept waiting
CONTENT, IMAGE, STUDY = "content", "image", "study"


@dataclass(slots=True)
class Counts:
    """What a run did. seconds: by stage."""

    analysed: int = 0  # images
    studies: int = 0
    withdrawn: int = 0
    removed: int = 0  # files that are no results any more, of studies that were reported again
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(slots=True)
class _Open:
    """A study on which work is going on. waiting: images by UID. fresh: how many were analysed now.

    made: how many results were made now, failures among them. held: all is known, and an earlier study of the same
    identifier is to be reported first.
    """

    study: PlannedStudy
    waiting: dict[str, PlannedImage]
    person: str
    date: str
    held: bool = False
    fresh: int = 0
    made: int = 0


@dataclass(frozen=True, slots=True)
class Engine:
    """What the pump works with.

    context: of a report made now or at a given time. tell: told of every failure. look: called now and then.
    """

    out: Path
    pool: Pool[Key]
    scorer: Scorer
    planner: Planner
    inventory: Inventory
    ledger: Ledger
    policy: Policy
    settings: Settings
    breast: Score | None
    context: Callable[[tuple[str, str]], ReportContext]
    write: tuple[str, ...]
    tell: Callable[[int, str, Reason], None]
    withdrawn: Callable[[list[withdraw.Withdrawal]], None]
    look: Callable[[], None]
    image_task: Callable[[PlannedImage, Settings, Path], tuple[Callable[..., Any], tuple[Any, ...]]]


class Pump:
    """Works on studies until all that were given are done."""

    def __init__(self, engine: Engine, counts: Counts, images: Ticker, reports: Ticker) -> None:
        self._engine = engine
        self._counts = counts
        self._images = images
        self._reports = reports
        self._open: dict[str, _Open] = {}
        self._of_image: dict[str, str] = {}  # study by image, both by UID as they are written

    def run(self, studies: Iterable[PlannedStudy]) -> None:
        """Analyse, classify and report studies; each is left in the inventory as done or still to be done."""
        engine = self._engine
        for item in engine.pool.results(self._feed(studies), patience=PATIENCE):
            if item is None:
                self._scored(engine.scorer.finish())
            else:
                (kind, uid), outcome = item
                {CONTENT: self._compared, IMAGE: self._worked, STUDY: self._reported}[kind](uid, outcome)
                self._scored(engine.scorer.collect())
            engine.look()
        engine.ledger.commit()

    # ------------------------------------------------------------------ tasks

    def _feed(self, studies: Iterable[PlannedStudy]) -> Iterator[Task[Key]]:
        for study in studies:
            begun = self._open[study.uid] = self._opened(study)
            todo = []
            for image in study.images:
                uid = image.written.sop_instance_uid
                record = self._engine.ledger.image(uid)
                stands = self._engine.planner.stands(image, record)
                if stands and record and record.reason is None and not codec.can_be_read(record.result):
                    stands = False
                if stands is not True:
                    begun.waiting[uid] = image
                    self._of_image[uid] = study.uid
                    task = self._image_task(image) if stands is False else self._content_task(image)
                    todo.append(task)
            yield from todo or self._to_be_reported(begun)

    def _opened(self, study: PlannedStudy) -> _Open:
        patient = next((i.header.patient for i in study.images if i.header.patient.patient_id), None)
        person = self._engine.policy.person(patient.patient_id, patient.issuer) if patient else ""
        if self._engine.inventory.crowded(person):
            person = ""
        return _Open(study, {}, person, study.images[0].written.study.study_date)

    def _to_be_reported(self, begun: _Open) -> list[Task[Key]]:
        """The task of a study's report; none, for now, where an earlier study of the same identifier is open.

        A report says what an earlier study said: made before that one, it would have to be made again.
        """
        begun.held = bool(begun.person) and any(
            other.person == begun.person and other.date < begun.date for other in self._open.values()
        )
        return [] if begun.held else [self._report_task(begun)]

    def _let_go(self) -> None:
        """A study is closed: what waited for it is reported."""
        for begun in [begun for begun in self._open.values() if begun.held]:
            for task in self._to_be_reported(begun):
                self._engine.pool.add(task)

    def _image_task(self, image: PlannedImage) -> Task[Key]:
        engine = self._engine
        function, arguments = engine.image_task(image, engine.settings, previews.place(engine.out, image.key))
        return Task((IMAGE, image.written.sop_instance_uid), function, arguments)

    def _content_task(self, image: PlannedImage) -> Task[Key]:
        return Task((CONTENT, image.written.sop_instance_uid), tasks.content_if_readable, (image.header,))

    def _report_task(self, begun: _Open) -> Task[Key]:
        engine, study = self._engine, begun.study
        records = {i.written.sop_instance_uid: engine.ledger.image(i.written.sop_instance_uid) for i in study.images}
        results = engine.planner.study_keys(study, engine.planner.contents(study), "")[1]
        before = engine.ledger.study(study.uid)
        same = before is not None and before.results == results
        # Other kinds of the same results keep the date, so that the files that stand change no byte.
        created = before.created if before is not None and same else now(study.days)
        images = tuple(self._to_report(image, records[image.written.sop_instance_uid]) for image in study.images)
        context = engine.context(created)
        breast, told = self._breast(study)
        person = patients.person_of(study.images, engine.policy)
        others = engine.ledger.patients.others(person.code, study.uid)
        job = publish.Job(
            study.plan, images, breast, engine.settings, context, engine.write, engine.out, person, others, told
        )
        return Task((STUDY, study.uid), publish.attempt, (job,))

    def _breast(self, study: PlannedStudy) -> tuple[Score | None, tuple[tuple[str, str], ...]]:
        """The score of this study's breasts, its clinical data put in, and what the report may say of them."""
        engine = self._engine
        if not study.clinical or engine.breast is None:
            return engine.breast, ()
        said = (clinical.hidden if engine.policy.anonymous else clinical.shown)(study.clinical)
        return engine.breast.told(study.clinical), said

    def _to_report(self, image: PlannedImage, record: ImageRecord | None) -> ToReport:
        assert record is not None
        written = image.written
        result: bytes | Failed = record.result
        if record.reason is not None:
            result = failed(written, record.stage, record.reason, record.detail)
        return ToReport(
            written, result, None if image.gone else image.header, previews.place(self._engine.out, image.key)
        )

    # ------------------------------------------------------------------ outcomes

    def _compared(self, uid: str, outcome: bytes | Crashed) -> None:
        """A file whose time moved was looked at: its result stands where its content is the same."""
        engine, image = self._engine, self._image(uid)
        record = engine.ledger.image(uid)
        content = b"" if isinstance(outcome, Crashed) or not outcome else engine.policy.content(outcome)
        if record is not None and content and record.content == content:
            engine.inventory.know_content(image.number, content)
            self._images.advance()
            self._ready(uid)
        else:
            engine.pool.add(self._image_task(image))

    def _worked(self, uid: str, outcome: Worked | Crashed) -> None:
        engine, image = self._engine, self._image(uid)
        if isinstance(outcome, Crashed):
            # Whether a file that cannot be looked at is the same one again is told by its size and time.
            file = image.header.file
            content = bytes.fromhex(engine.policy.digest("crash", file.size, file.mtime_ns))
            self._keep(image, failed(image.header, Stage.PIXELS, Reason.DECODER_CRASH), content)
            return
        content = engine.policy.content(outcome.content) if outcome.content else b""
        if isinstance(outcome.result, Analysed):
            engine.inventory.know_content(image.number, content)
            engine.scorer.add(image, outcome.result)
        else:
            self._keep(image, outcome.result, content)

    def _scored(self, results: Iterable[tuple[PlannedImage, Scored]]) -> None:
        for image, scored in results:
            content = self._engine.inventory.content(image.number)
            self._keep(image, scored, content)

    def _keep(self, image: PlannedImage, result: Scored | Failed, content: bytes) -> None:
        engine, written = self._engine, image.written
        uid = written.sop_instance_uid
        if isinstance(result, Failed):
            kept: Scored | Failed = engine.policy.failed(result, written)
            engine.tell(image.number, engine.policy.path(image.header.file.relative), result.reason)
        else:
            kept = engine.policy.scored(result, written)
            self._open[self._of_image[uid]].fresh += 1
            for stage, seconds in result.seconds:
                self._counts.seconds[stage] += seconds
        self._open[self._of_image[uid]].made += 1
        engine.inventory.know_content(image.number, content)
        engine.ledger.record_image(ImageRecord.of(kept, written, image.key, content))
        self._images.advance(failed=isinstance(result, Failed))
        self._ready(uid)

    def _image(self, uid: str) -> PlannedImage:
        return self._open[self._of_image[uid]].waiting[uid]

    def _ready(self, uid: str) -> None:
        """The result of an image is known; with the last one of its study the report can be made."""
        begun = self._open[self._of_image.pop(uid)]
        del begun.waiting[uid]
        if begun.waiting:
            return
        if not begun.made and self._engine.planner.reported(begun.study, self._engine.out):
            self._engine.planner.list_images(begun.study)
            self._close(begun)
            self._reports.advance()
        else:
            for task in self._to_be_reported(begun):
                self._engine.pool.add(task)

    def _reported(self, uid: str, outcome: Any) -> None:
        begun = self._open[uid]
        good = isinstance(outcome, publish.Published)
        if isinstance(outcome, publish.Published):
            self._stand(begun, outcome)
        else:
            self._unreported(begun.study, "its process was killed" if isinstance(outcome, Crashed) else outcome.detail)
            del self._open[uid]
            self._let_go()
        self._reports.advance(failed=not good)

    def _stand(self, begun: _Open, outcome: publish.Published) -> None:
        """A study's reports are on disk: they are its results now."""
        engine, study = self._engine, begun.study
        key, results = engine.planner.study_keys(study, engine.planner.contents(study), outcome.claims)
        person = patients.person_of(study.images, engine.policy).code
        reported = StudyRecord(
            key, results, outcome.created, outcome.outputs, outcome.above, outcome.rows, person, outcome.visit,
            outcome.claims,
        )  # fmt: skip
        engine.planner.list_images(study)
        engine.ledger.record_study(study.uid, reported)
        self._close(begun)
        self._counts.removed += withdraw.complete(engine.ledger, engine.out)
        self._counts.seconds[Stage.REPORT.value] += outcome.seconds
        self._counts.analysed += begun.fresh
        self._counts.studies += 1

    def _close(self, begun: _Open) -> None:
        """A study's results stand: its pictures are not needed any more."""
        for image in begun.study.images:
            previews.remove(previews.place(self._engine.out, image.key))
        if begun.study.uid not in self._engine.ledger.patients.waiting:
            self._engine.inventory.done(begun.study.uid)
        self._open.pop(begun.study.uid, None)
        self._let_go()

    def _unreported(self, study: PlannedStudy, detail: str) -> None:
        """A study whose reports could not be written: its images fail, and the next run tries the report again.

        An earlier report that rests on a file that the archive contradicts by now must not stand for the new one.
        """
        engine = self._engine
        own = study.own(engine.policy)
        engine.withdrawn(withdraw.withdraw(engine.ledger, engine.out, study.uid, own, engine.policy.uid))
        for image in study.images:
            if not image.gone:
                said = engine.policy.detail(detail)
                engine.inventory.relist(image.number, Status.FAILED, Stage.REPORT, Reason.REPORT_FAILED, said)
                engine.tell(image.number, engine.policy.path(image.header.file.relative), Reason.REPORT_FAILED)


def now(days_earlier: int = 0) -> tuple[str, str]:
    """Date and time of a report (YYYYMMDD, HHMMSS).

    With pseudonyms it is moved as the study's own dates are: a report made the night after its study would
    otherwise tell by how much those were moved.
    """
    now = datetime.now().astimezone() - timedelta(days=days_earlier)
    return now.strftime("%Y%m%d"), now.strftime("%H%M%S")
