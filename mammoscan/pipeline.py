"""The story of a run: find, read headers, plan, analyse, classify, report, keep the state."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from mammoscan import __version__, density, discover, keyfile, publish, store
from mammoscan.analyse import analyse, failed
from mammoscan.deidentify import Deidentifier
from mammoscan.domain import (
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
from mammoscan.errors import ExitCode, Reason, Stage, UsageError
from mammoscan.ledger import Ledger, StudyRecord
from mammoscan.model import bundle as bundles
from mammoscan.plan import PlannedImage, StudyPlan, plan_studies
from mammoscan.pool import Crashed, Task, WorkPool, worker_count
from mammoscan.report import tables
from mammoscan.score import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mammoscan.config import RunConfig
    from mammoscan.console import Console, Ticker

log = logging.getLogger(__name__)

# Images in flight (submitted or waiting to be classified) for each worker: enough to keep the
# workers busy while the network runs, few enough to bound the memory.
IN_FLIGHT = 3


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
        When another run holds the output folder.
    ModelError
        When the model cannot be used.
    """
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


def exit_code(summary: RunSummary) -> ExitCode:
    """The one place that turns counts into an exit status."""
    if summary.analysed + summary.unchanged == 0:
        return ExitCode.NOTHING_ANALYSED
    return ExitCode.SOME_FAILED if summary.failed or summary.unsent else ExitCode.ALL_ANALYSED


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
        self.threshold, self.threshold_name = operating_point(config, self.bundle.thresholds)
        self.breast_threshold, _ = operating_point(config, self.bundle.breast_thresholds)
        self.finding_threshold, _ = operating_point(config, self.bundle.region_thresholds)
        self.digest = config.analysis.digest()
        self.workers = worker_count(config.workers)
        self.stage_seconds: defaultdict[str, float] = defaultdict(float)
        self.failures: dict[str, Failed] = {}  # by SOPInstanceUID
        self.done_now = 0
        self.studies_now = 0

    def go(self) -> RunSummary:
        results = self._read_headers()
        plans, loose = plan_studies(results)
        # A study without a single mammogram has nothing to report; its files are still listed.
        for plan in plans:
            if not plan.headers:
                loose += (*plan.skipped, *plan.failed)
        if self.masking:
            loose = tuple(self._masked(other) for other in loose)
        studies = self._plan(tuple(p for p in plans if p.headers))
        todo = [s for s in studies if not self._stands(s)]
        if todo:
            self._work(todo)
        return self._finish(studies, loose, anything_new=bool(todo))

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
                workers=self.workers,
            ):
                results.append(result)
                ticker.advance(skipped=isinstance(result, Skipped), failed=isinstance(result, Failed))
        self.stage_seconds[Stage.HEADER.value] += time.monotonic() - clock
        return results

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
        pool: WorkPool[tuple[str, str]] = WorkPool(self.workers, in_flight=IN_FLIGHT * self.workers)
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
            for uid, waiting in open_images.items():
                if not waiting:
                    pool.add(self._report_task(by_uid[uid]))

            def keep(results: Sequence[tuple[PlannedImage, Prediction | Failed]]) -> None:
                kept = [(image, self._as_written(image, result)) for image, result in results]
                self.ledger.record_images([(i.written.sop_instance_uid, i.key, r) for i, r in kept])
                for image, result in kept:
                    self._count(result, images)
                    study_uid = image.written.study.study_instance_uid
                    open_images[study_uid].discard(image.written.sop_instance_uid)
                    if not open_images[study_uid]:
                        pool.add(self._report_task(by_uid[study_uid]))

            for item in pool.results(self._image_tasks(studies, open_images)):
                if item is None:
                    keep(scorer.flush())
                    continue
                (kind, uid), outcome = item
                if kind == "image":
                    image = planned[uid]
                    if isinstance(outcome, Crashed):
                        outcome = failed(image.header, Stage.PIXELS, Reason.DECODER_CRASH)
                    if isinstance(outcome, Analysed):
                        scorer.add(image, outcome)
                        if scorer.full:
                            keep(scorer.flush())
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
        kept = None if self.config.retry_failed else self.ledger.image(*where)
        return self.config.retry_failed or (isinstance(kept, Failed) and kept.reason.passing)

    def _image_tasks(
        self, studies: list[PlannedStudy], open_images: Mapping[str, set[str]]
    ) -> Iterator[Task[tuple[str, str]]]:
        for study in studies:
            waiting = frozenset(open_images[study.plan.study_instance_uid])
            for image in study.images:
                uid = image.written.sop_instance_uid
                if uid in waiting:
                    bundle = self.bundle
                    settings = (self.config.analysis, bundle.ranking, bundle.outlines, self.masking is not None)
                    yield Task(("image", uid), analyse, (image.header, *settings))

    def _report_task(self, study: PlannedStudy) -> Task[tuple[str, str]]:
        uid = study.plan.study_instance_uid
        images: list[Prediction] = []
        failures: list[Failed] = list(study.plan.failed)
        for image in study.images:
            done = self.ledger.image(image.written.sop_instance_uid, image.key)
            if isinstance(done, Prediction):
                # The kept header may lack the path, or the archive may have moved: files lie where they are now.
                images.append(replace(done, header=image.written))
            elif done is not None:
                failures.append(done)
        record = self.ledger.study(uid)
        found = publish.study_result(study.plan, tuple(images), tuple(failures), self.bundle.breast)
        result = replace(found, deidentified=self.masking is not None)
        # Other kinds of the same results keep the date, so that the files that stand change no byte.
        same = record is not None and record.key.split(" ")[0] == study.result_key
        created = record.created if record is not None and same else _now(study.days)
        arguments = (result, self._context(created), self.config.out, self.config.write)
        return Task(("study", uid), publish.publish, arguments)

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
        )

    def _keep_study(self, study: PlannedStudy, outcome: Any, ticker: Ticker) -> None:
        uid = study.plan.study_instance_uid
        if isinstance(outcome, Crashed):
            raise RuntimeError(f"writing the report of study {uid} killed its process")
        published: publish.Published = outcome
        self.stage_seconds[Stage.REPORT.value] += published.seconds
        previous = self.ledger.study(uid)
        self.ledger.record_study(uid, StudyRecord(study.key, published.created, published.outputs, published.rows))
        for name in set(previous.outputs if previous else ()) - set(published.outputs):
            (self.config.out / name).unlink(missing_ok=True)
        self.studies_now += 1
        ticker.advance()

    def _count(self, result: Prediction | Failed, ticker: Ticker) -> None:
        if isinstance(result, Prediction):
            self.done_now += 1
            for stage, seconds in result.seconds:
                self.stage_seconds[stage] += seconds
        else:
            log.warning("failed: %s: %s (%s)", result.file.relative, result.reason.code, result.detail)
        ticker.advance(failed=isinstance(result, Failed))

    # ------------------------------------------------------------------ tables and summary

    def _finish(
        self, studies: list[PlannedStudy], loose: tuple[Skipped | Failed, ...], *, anything_new: bool
    ) -> RunSummary:
        files = [tables.files_row(r) for r in loose]
        analysed = failures = skips = 0
        for study in studies:
            files.extend(tables.files_row(other) for other in _others(study.plan))
            for image in study.images:
                result = None
                if self.ledger.image_status(image.written.sop_instance_uid, image.key):
                    result = self.ledger.image(image.written.sop_instance_uid, image.key)
                files.append(tables.files_row(result if isinstance(result, Failed) else image.written))
                failures += isinstance(result, Failed)
                analysed += not isinstance(result, Failed)
            failures += len(study.plan.failed)
            skips += len(study.plan.skipped)
        failures += sum(isinstance(r, Failed) for r in loose)
        skips += sum(isinstance(r, Skipped) for r in loose)
        rows: dict[str, list[list[str]]] = {name: [] for name in tables.COLUMNS}
        for _, record in self.ledger.studies():
            for name, table in record.rows.items():
                rows[name].extend(table)
        rows["files"] = files
        changed = False
        for name in tables.COLUMNS:
            content = tables.write_csv(sorted(rows[name]) if name == "files" else rows[name], tables.COLUMNS[name])
            changed |= store.write_if_changed(self.config.out / f"{name}.csv", content)
        summary = RunSummary(
            files=len(files),
            analysed=self.done_now,
            skipped=skips,
            failed=failures,
            unchanged=analysed - self.done_now,
            studies=len(studies),
            findings=self._findings(studies),
            seconds=time.monotonic() - self.began,
            stage_seconds=tuple(sorted(self.stage_seconds.items())),
        )
        run_file = self.config.out / "run.json"
        if changed or anything_new or not run_file.exists():
            store.write_atomic(
                run_file,
                tables.run_json(self.config, self._context(_now()), summary, self.bundle.operating_points()),
            )
        return summary

    def _findings(self, studies: list[PlannedStudy]) -> int:
        count = 0
        column = [c.name for c in tables.COLUMNS["findings"]].index("above_threshold")
        for study in studies:
            record = self.ledger.study(study.plan.study_instance_uid)
            if record is not None:
                count += sum(row[column] == "yes" for row in record.rows.get("findings", []))
        return count


def operating_point(config: RunConfig, thresholds: Mapping[str, float]) -> tuple[float, str]:
    """The threshold on the malignancy score (0 to 1) and its name.

    Raises
    ------
    UsageError
        When the model has no operating point of that name.
    """
    analysis = config.analysis
    if analysis.threshold is not None:
        return analysis.threshold, f"threshold {analysis.threshold:g}"
    if analysis.operating_point not in thresholds:
        raise UsageError(
            f"the model has no operating point {analysis.operating_point!r}",
            remedy=f"choose one of {', '.join(sorted(thresholds))}",
        )
    return thresholds[analysis.operating_point], analysis.operating_point


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
