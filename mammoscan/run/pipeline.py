"""The story of a run: find, read headers, plan, analyse, classify, report, keep the state."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import sqlite3
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mammoscan import __version__
from mammoscan.archive import density, discover
from mammoscan.core import faults, store, verdict
from mammoscan.core.domain import (
    Analysed,
    DensityReading,
    Failed,
    Header,
    ModelIdentity,
    Prediction,
    ReportContext,
    RunSummary,
    Skipped,
)
from mammoscan.core.errors import Reason, Stage, UsageError
from mammoscan.image.analyse import analyse, failed
from mammoscan.model import bundle as bundles
from mammoscan.report import pdf_words as words
from mammoscan.report import tables
from mammoscan.run import keyfile, publish, runfile, withdraw
from mammoscan.run.deidentify import Deidentifier
from mammoscan.run.ledger import NAME, Ledger, StudyRecord
from mammoscan.run.plan import PlannedImage, StudyPlan, plan_studies
from mammoscan.run.pool import Crashed, Task, WorkPool, can_start_workers, worker_count
from mammoscan.run.score import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mammoscan.core.console import Console, Ticker
    from mammoscan.run.config import RunConfig

log = logging.getLogger(__name__)

# Images in flight (submitted or waiting to be classified) for each worker: enough to keep the
# workers busy while the network runs, few enough to bound the memory.
IN_FLIGHT = 3


Ended = Header | Skipped | Failed  # how a file ends; a header stands for an image that was analysed


@dataclass(frozen=True, slots=True)
class PlannedStudy:
    """A study with the key of its results, and that of its files: which kinds are written is part of it.

    plan: as it is written. days: by how many days its dates are moved earlier.
    """

    plan: StudyPlan
    days: int
    images: tuple[PlannedImage, ...]
    result_key: str
    key: str


def run(config: RunConfig, console: Console) -> RunSummary:
    """Analyse an archive into an output folder; continue where an earlier run stopped.

    Raises
    ------
    UsageError
        When the archive is not a readable folder, the output folder would be the archive or holds results under
        other names, or the key of the pseudonyms cannot be used.
    LabelError
        When the table of densities cannot be used.
    LockedError
        When another run holds the output folder, or another program its state file.
    MachineError
        When the machine refuses: disk full, read-only, no locks, a damaged state file.
    ModelError
        When the model cannot be used.
    """
    try:
        return _run(config, console)
    except (OSError, sqlite3.Error, MemoryError) as error:
        found = faults.explained(error, path=config.out / NAME if isinstance(error, sqlite3.Error) else config.out)
        if found is None:
            raise
        log.error("%s", found.message, exc_info=error)  # noqa: TRY400 (frames alone, and those of this error)
        raise found from error


def _run(config: RunConfig, console: Console) -> RunSummary:
    began = time.monotonic()
    _check_folders(config)
    # Read before anything is made: a bad table leaves no folder, no state and no time spent behind.
    densities = density.read_density_table(config.density_csv) if config.density_csv else None
    masking = _deidentifier(config, console)
    with store.output_lock(config.out), Ledger(config.out) as ledger:
        ledger.claim(masking.fingerprint() if masking else "")
        store.remove_partial_files(config.out)
        summary = _Run(config, console, ledger, masking, densities, began).go()
        if config.send is None:
            return summary
        from mammoscan.send.deliver import deliver

        delivery = deliver(ledger, config.out, config.send, console)
        seconds = time.monotonic() - began
        return replace(summary, sent=delivery.sent, unsent=delivery.unsent, seconds=seconds)


def _check_folders(config: RunConfig) -> None:
    if not config.archive.is_dir():
        raise UsageError("the archive is not a folder", path=config.archive, remedy="give an existing folder")
    if config.out.exists() and not config.out.is_dir():
        raise UsageError("the output is not a folder", path=config.out, remedy="give a folder")
    if config.out.resolve() == config.archive.resolve():
        raise UsageError(
            "the output folder is the archive itself",
            path=config.out,
            remedy="archives are read-only; choose another --out",
        )


def _deidentifier(config: RunConfig, console: Console) -> Deidentifier | None:
    if config.deidentify is None:
        return None
    key, said = keyfile.read_or_make(config.deidentify, not_below=(config.out, config.archive))
    if said:
        console.note(said)
    return Deidentifier(key)


class _Run:
    """One run's state between its steps."""

    def __init__(
        self, config: RunConfig, console: Console, ledger: Ledger, masking: Deidentifier | None,
        densities: density.DensityTable | None, began: float,
    ) -> None:  # fmt: skip
        self.config = config
        self.masking = masking
        self.densities = densities
        self.console = console
        self.ledger = ledger
        self.began = began
        self.bundle = bundles.load(config.model)
        self.identity: ModelIdentity = self.bundle.identity
        point = self.bundle.point(config.analysis.point)
        self.threshold, self.threshold_name, self.cost = point.image, point.name, point.cost
        self.breast_threshold, self.finding_threshold = point.breast, point.finding
        self.digest = config.analysis.digest()
        self.workers = _workers(config, console)
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.done_now: set[str] = set()  # images by SOPInstanceUID
        self.told: set[str] = set()  # failures that are in the log, by path below the archive
        self.studies_now = 0
        self.unreported: dict[str, Failed] = {}  # why, by SOPInstanceUID of the images of studies without reports
        self.withdrawn = 0
        self.removed = 0  # files that are no results any more, of studies that were reported again

    def go(self) -> RunSummary:
        self._log_start()
        results = self._read_headers()
        plans, loose = plan_studies(results)
        # A study without a single mammogram has nothing to report; its files are still listed.
        for plan in plans:
            if not plan.headers:
                loose += (*plan.skipped, *plan.failed)
        if self.masking:
            loose = tuple(self._masked(other) for other in loose)
        loose = self._withdraw(loose, {p.study_instance_uid for p in plans if not p.headers})
        studies = self._plan(tuple(p for p in plans if p.headers))
        for other in (*loose, *(other for study in studies for other in study.plan.failed)):
            if isinstance(other, Failed):
                self._tell(other)
        todo = [s for s in studies if not self._stands(s)]
        if todo:
            self._work(todo)
        return self._finish(studies, loose)

    def _log_start(self) -> None:
        config, model = self.config, self.identity
        # With pseudonyms no path: folders carry the names of patients and institutions.
        where = "" if self.masking else f", archive {config.archive.resolve()}, results {config.out.resolve()}"
        log.info("start: mammoscan %s%s", __version__, where)
        log.info(
            "settings: model %s %s (%s), configuration %s %s, threshold %g (%s), kinds %s, workers %d, settle seconds %g, "
            "retry failed %s, deidentify %s",
            model.name, model.version, model.sha256[:12], self.digest[:12], dataclasses.asdict(config.analysis),
            self.threshold, self.threshold_name, ",".join(config.write) or "none", self.workers, config.settle_seconds,
            config.retry_failed, self.masking is not None,
        )  # fmt: skip

    # ------------------------------------------------------------------ find and plan

    def _read_headers(self) -> list[Header | Skipped | Failed]:
        config = self.config
        clock = time.monotonic()
        files = []
        with self.console.stage("finding files", None) as ticker:
            for found in discover.walk(config.archive, out=config.out, follow_links=config.follow_links):
                files.append(found)
                ticker.advance(skipped=isinstance(found, Skipped), failed=isinstance(found, Failed))
        results: list[Header | Skipped | Failed] = []
        with self.console.stage("reading headers", len(files)) as ticker:
            for result in discover.read_headers(
                files,
                include=config.analysis.include,
                settle_seconds=config.settle_seconds,
                workers=max(1, self.workers),
            ):
                results.append(result)
                ticker.advance(skipped=isinstance(result, Skipped), failed=isinstance(result, Failed))
        self.stage_seconds[Stage.HEADER.value] += time.monotonic() - clock
        return results

    def _withdraw(self, loose: tuple[Skipped | Failed, ...], imageless: set[str]) -> tuple[Skipped | Failed, ...]:
        """Withdraw what the archive contradicts; the files that have no study to be reported, as they are listed.

        imageless: studies without an image to analyse, by the UID that the archive gives.
        """
        withdraw.complete(self.ledger, self.config.out)  # what a killed run left to be removed
        others_of: dict[str, list[Skipped | Failed]] = {self._uid(uid): [] for uid in sorted(imageless)}
        for other in loose:
            if other.study_instance_uid in others_of:
                others_of[other.study_instance_uid].append(other)
        self._withdrawn(withdraw.withdraw(self.ledger, self.config.out, others_of))
        known = self.ledger.withdrawn()
        return tuple(withdraw.noted(other, known) for other in loose)

    def _withdrawn(self, withdrawals: list[withdraw.Withdrawal]) -> None:
        self.withdrawn += len(withdrawals)
        for withdrawal in withdrawals:
            self.console.note(str(withdrawal))

    def _uid(self, uid: str) -> str:
        """A UID as it is written."""
        return self.masking.uid(uid) if self.masking else uid

    def _plan(self, plans: tuple[StudyPlan, ...]) -> list[PlannedStudy]:
        table = self.densities
        if table is not None:
            table = table.meeting(plan.headers[0].patient.patient_id for plan in plans)
            for note in table.notes:
                self.console.note(f"--density-csv: {note}")
                log.warning("--density-csv: %s", note)
        studies = []
        for plan in plans:
            # Everything that needs identities is done on the plan itself; what is written comes from its mapped form.
            written, days = plan, 0
            if self.masking:
                written = self.masking.plan(plan)
                days = self.masking.days(self.masking.plan_code(plan))
            images = []
            for header, shown in zip(plan.headers, written.headers, strict=True):
                known = density.best_density(header, plan.densities, table, None)
                images.append(PlannedImage(header, shown, self._image_key(header, known), known))
            key = self._study_key(plan, images)
            kinds = ",".join(sorted(set(self.config.write)))
            studies.append(PlannedStudy(written, days, tuple(images), key, f"{key} {kinds}"))
        return studies

    def _image_key(self, header: Header, known: DensityReading | None) -> str:
        file = header.file
        return self._digest(
            header.sop_instance_uid,
            file.relative,
            file.size,
            file.mtime_ns,
            None if known is None else (known.density.value, known.source.value),
            self.digest,
            self.identity.sha256,
            __version__,
        )

    def _study_key(self, plan: StudyPlan, images: list[PlannedImage]) -> str:
        return self._digest(
            sorted(image.key for image in images),
            sorted((r.file.relative, r.reason.code) for r in _others(plan) if r.reason is not Reason.OUTPUT),
            self.threshold,
            self.breast_threshold,
            self.finding_threshold,
        )

    def _digest(self, *parts: object) -> str:
        """A digest for the state file: keyed where it must not confirm a guess of a path or a UID."""
        return self.masking.digest(*parts) if self.masking else _digest(*parts)

    def _masked(self, other: Skipped | Failed) -> Skipped | Failed:
        assert self.masking is not None
        return self.masking.skipped(other) if isinstance(other, Skipped) else self.masking.failed(other)

    def _as_written(self, image: PlannedImage, result: Prediction | Failed) -> Prediction | Failed:
        """A result as it is kept."""
        if self.masking is None:
            return result
        if isinstance(result, Prediction):
            return self.masking.prediction(result, image.written)
        return self.masking.failed(result, image.written)

    def _stands(self, study: PlannedStudy) -> bool:
        """Whether an earlier run's results of this study are whole and still right."""
        record = self.ledger.study(study.plan.study_instance_uid)
        if record is None or record.key != study.key:
            return False
        if not all((self.config.out / name).is_file() for name in record.outputs):
            return False
        return not any(self._is_retried(image) for image in study.images)

    # ------------------------------------------------------------------ analyse, classify, report

    def _work(self, studies: list[PlannedStudy]) -> None:
        open_images: dict[str, set[str]] = {}
        by_uid = {study.plan.study_instance_uid: study for study in studies}
        pool: WorkPool[tuple[str, str]] = WorkPool(self.workers, in_flight=IN_FLIGHT * max(1, self.workers))
        planned: dict[str, PlannedImage] = {}
        for study in studies:
            waiting = {i.written.sop_instance_uid for i in study.images if self._must_do(i)}
            open_images[study.plan.study_instance_uid] = waiting
            planned.update({i.written.sop_instance_uid: i for i in study.images})
        total = sum(map(len, open_images.values()))
        with (
            self.console.stages(("analysing images", total), ("writing reports", len(studies))) as (images, reports),
            contextlib.closing(Scorer(self.bundle, self.config, self.finding_threshold)) as scorer,
        ):

            def report(study: PlannedStudy) -> None:
                done = self._done(study)
                lost = [i for i in study.images if i.written.sop_instance_uid not in done]
                if lost:  # their rows cannot be read back
                    open_images[study.plan.study_instance_uid].update(i.written.sop_instance_uid for i in lost)
                    for image in lost:
                        pool.add(self._image_task(image))
                else:
                    pool.add(self._report_task(study, done))

            for uid, waiting in open_images.items():
                if not waiting:
                    report(by_uid[uid])

            def keep(results: Sequence[tuple[PlannedImage, Prediction | Failed]]) -> None:
                kept = [(image, self._as_written(image, result)) for image, result in results]
                self.ledger.record_images([(i.written.sop_instance_uid, i.key, r) for i, r in kept])
                for image, result in kept:
                    self._count(result, images)
                    study_uid = image.written.study.study_instance_uid
                    open_images[study_uid].discard(image.written.sop_instance_uid)
                    if not open_images[study_uid]:
                        report(by_uid[study_uid])

            for item in pool.results(self._image_tasks(studies, open_images)):
                if item is None:
                    keep(scorer.finish())
                    continue
                (kind, uid), outcome = item
                if kind == "image":
                    image = planned[uid]
                    if isinstance(outcome, Crashed):
                        outcome = failed(image.header, Stage.PIXELS, Reason.DECODER_CRASH)
                    if isinstance(outcome, Analysed):
                        scorer.add(image, outcome)
                        keep(scorer.collect())
                    else:
                        keep([(image, outcome)])
                else:
                    self._keep_study(by_uid[uid], outcome, reports)
            self.stage_seconds[Stage.CLASSIFY.value] += scorer.seconds

    def _must_do(self, image: PlannedImage) -> bool:
        status = self.ledger.image_status(image.written.sop_instance_uid, image.key)
        return status is None or self._is_retried(image)

    def _is_retried(self, image: PlannedImage) -> bool:
        """Whether a kept result is a failure that is tried again: all where that is asked, else those of a moment."""
        where = (image.written.sop_instance_uid, image.key)
        if not self.ledger.image_status(*where):
            return False
        if self.config.retry_failed:
            return True
        kept = self.ledger.image(*where)
        # Failures are listed in every run, so their rows must be readable too.
        return kept is None or (isinstance(kept, Failed) and kept.reason.passing)

    def _image_tasks(
        self, studies: list[PlannedStudy], open_images: Mapping[str, set[str]]
    ) -> Iterator[Task[tuple[str, str]]]:
        for study in studies:
            waiting = frozenset(open_images[study.plan.study_instance_uid])
            for image in study.images:
                uid = image.written.sop_instance_uid
                if uid in waiting:
                    yield self._image_task(image)

    def _image_task(self, image: PlannedImage) -> Task[tuple[str, str]]:
        bundle = self.bundle
        settings = (self.config.analysis, bundle.crop, bundle.ranking, bundle.outlines, self.masking is not None)
        return Task(("image", image.written.sop_instance_uid), analyse, (image.header, *settings))

    def _done(self, study: PlannedStudy) -> dict[str, Prediction | Failed]:
        """The kept results of a study's images that can be read back, by SOPInstanceUID."""
        found = {i.written.sop_instance_uid: self.ledger.image(i.written.sop_instance_uid, i.key) for i in study.images}
        return {uid: result for uid, result in found.items() if result is not None}

    def _report_task(self, study: PlannedStudy, done: Mapping[str, Prediction | Failed]) -> Task[tuple[str, str]]:
        """done: the result of every image of the study."""
        uid = study.plan.study_instance_uid
        images: list[Prediction] = []
        failures: list[Failed] = list(study.plan.failed)
        for image in study.images:
            result = done[image.written.sop_instance_uid]
            if isinstance(result, Prediction):
                # The kept header may lack the path, or the archive may have moved: files lie where they are now.
                images.append(replace(result, header=image.written))
            else:
                failures.append(result)
        record = self.ledger.study(uid)
        found = publish.study_result(study.plan, tuple(images), tuple(failures), self.bundle.breast)
        written = replace(found, deidentified=self.masking is not None)
        # Other kinds of the same results keep the date, so that the files that stand change no byte.
        same = record is not None and record.key.split(" ")[0] == study.result_key
        created = record.created if record is not None and same else _now(study.days)
        arguments = (written, self._context(created), self.config.out, self.config.write)
        return Task(("study", uid), publish.attempt, arguments)

    def _context(self, created: tuple[str, str]) -> ReportContext:
        return ReportContext(
            software_version=__version__,
            model=self.identity,
            config_digest=self.digest,
            created=created,
            threshold=self.threshold,
            breast_threshold=self.breast_threshold,
            finding_threshold=self.finding_threshold,
            threshold_name=self.threshold_name,
            cost=self.cost,
        )

    def _keep_study(self, study: PlannedStudy, outcome: Any, ticker: Ticker) -> None:
        if isinstance(outcome, publish.Published):
            uid = study.plan.study_instance_uid
            self.stage_seconds[Stage.REPORT.value] += outcome.seconds
            self.ledger.record_study(uid, StudyRecord(study.key, outcome.created, outcome.outputs, outcome.rows))
            self.removed += withdraw.complete(self.ledger, self.config.out)
            self.studies_now += 1
        else:
            self._unreported(study, "its process was killed" if isinstance(outcome, Crashed) else outcome.detail)
        ticker.advance(failed=not isinstance(outcome, publish.Published))

    def _unreported(self, study: PlannedStudy, detail: str) -> None:
        """A study whose reports could not be written: its images fail, and the next run tries the report again.

        An earlier report that rests on a file that the archive contradicts by now must not stand for the new one.
        """
        uid = study.plan.study_instance_uid
        self._withdrawn(withdraw.withdraw(self.ledger, self.config.out, {uid: _others(study.plan)}))
        for image in study.images:
            header = image.written
            self.unreported[header.sop_instance_uid] = failed(header, Stage.REPORT, Reason.REPORT_FAILED, detail)

    def _count(self, result: Prediction | Failed, ticker: Ticker) -> None:
        if isinstance(result, Prediction):
            self.done_now.add(result.header.sop_instance_uid)
            for stage, seconds in result.seconds:
                self.stage_seconds[stage] += seconds
        else:
            self._tell(result)
        ticker.advance(failed=isinstance(result, Failed))

    def _tell(self, failure: Failed) -> None:
        """Log a failure, once in every run. Its detail may quote a header and is for the tables alone."""
        if failure.file.relative not in self.told:
            self.told.add(failure.file.relative)
            reason = failure.reason
            log.warning("failed: %s: %s: %s (%s)", failure.file.relative, reason.code, reason.meaning, reason.remedy)

    # ------------------------------------------------------------------ tables and summary

    def _ends(self, studies: list[PlannedStudy], loose: tuple[Skipped | Failed, ...]) -> Iterator[Ended]:
        """How every file ended, each once."""
        yield from loose
        for study in studies:
            yield from _others(study.plan)
            for image in study.images:
                uid = image.written.sop_instance_uid
                result = self.ledger.image(uid, image.key) if self.ledger.image_status(uid, image.key) else None
                yield result if isinstance(result, Failed) else self.unreported.get(uid, image.written)

    def _finish(self, studies: list[PlannedStudy], loose: tuple[Skipped | Failed, ...]) -> RunSummary:
        ends = list(self._ends(studies, loose))
        present = {study.plan.study_instance_uid for study in studies}
        rows: dict[str, list[list[str]]] = {name: [] for name in tables.COLUMNS}
        for uid, record in self.ledger.every_study():
            if record is None:
                if uid not in present:  # else its report failed now, which files.csv says
                    self._lost_record(uid)
                continue
            for name, table in record.rows.items():
                rows[name].extend(table)
        rows["files"] = sorted(tables.files_row(end) for end in ends)
        changed = bool(self.done_now or self.studies_now or self.withdrawn)
        for name in tables.COLUMNS:
            content = tables.write_csv(rows[name], tables.COLUMNS[name])
            changed |= store.write_if_changed(self.config.out / f"{name}.csv", content)
        summary = self._summary(ends, studies)
        run_file = self.config.out / "run.json"
        if changed or not run_file.exists():
            store.write_atomic(
                run_file,
                runfile.render(self.config, self._context(_now()), summary, self.bundle.operating_points()),
            )
        return summary

    def _summary(self, ends: list[Ended], studies: list[PlannedStudy]) -> RunSummary:
        failures = [end for end in ends if isinstance(end, Failed)]
        for failure in failures:
            self._tell(failure)
        skips = [end.reason.code for end in ends if isinstance(end, Skipped) and end.reason is not Reason.STILL_WRITTEN]
        images = [end.sop_instance_uid for end in ends if isinstance(end, Header)]
        analysed = sum(uid in self.done_now for uid in images)
        return RunSummary(
            files=len(ends),
            analysed=analysed,
            skipped=len(skips),
            failed=len(failures),
            unchanged=len(images) - analysed,
            studies=len(studies),
            findings=self._findings(studies),
            seconds=time.monotonic() - self.began,
            stage_seconds=tuple(sorted(self.stage_seconds.items())),
            waiting=len(ends) - len(images) - len(failures) - len(skips),
            failures=verdict.counted(failure.reason.code for failure in failures),
            skips=verdict.counted(skips),
            removed=self.removed,
            operating_point=f"operating point {self.threshold_name}: {words.cost(self.cost)}",
            withdrawn=self.withdrawn,
        )

    def _lost_record(self, uid: str) -> None:
        log.warning("the record of study %s cannot be read back; its files are not in the archive", uid)
        self.console.error(
            f"the results of study {uid} cannot be read back and are missing in the tables; its reports stand in "
            f"{store.study_folder(uid)} (bring its files back to the archive to have them done again)"
        )

    def _findings(self, studies: list[PlannedStudy]) -> int:
        count = 0
        column = [c.name for c in tables.COLUMNS["findings"]].index("above_threshold")
        for study in studies:
            record = self.ledger.study(study.plan.study_instance_uid)
            if record is not None:
                count += sum(row[column] == "yes" for row in record.rows.get("findings", []))
        return count


def _workers(config: RunConfig, console: Console) -> int:
    """Worker processes; 0 where the machine gives none and the work is done in this process."""
    if can_start_workers():
        return worker_count(config.workers)
    said = "this machine gives no semaphores (is /dev/shm full or read-only?): one process does all, without protection from decoders that crash"
    log.warning("%s", said)
    console.note(said)
    return 0


def _others(plan: StudyPlan) -> tuple[Skipped | Failed, ...]:
    """The files of a study that are not images to analyse."""
    return (*plan.skipped, *plan.failed)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()


def _now(days_earlier: int = 0) -> tuple[str, str]:
    """Date and time of a report (YYYYMMDD, HHMMSS).

    With pseudonyms it is moved as the study's own dates are: a report made the night after its study would
    otherwise tell by how much those were moved.
    """
    now = datetime.now().astimezone() - timedelta(days=days_earlier)
    return now.strftime("%Y%m%d"), now.strftime("%H%M%S")
