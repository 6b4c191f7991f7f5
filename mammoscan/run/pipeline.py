"""The story of a run: take stock of the archive, plan, work, publish, keep the state and the tables."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import sqlite3
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mammoscan import __version__
from mammoscan.archive import clinical, density, discover
from mammoscan.core import faults, store, verdict
from mammoscan.core.domain import Failed, ReportContext, RunSummary, Skipped
from mammoscan.core.errors import Reason, Stage, UsageError
from mammoscan.core.tableforms import FORMS
from mammoscan.model import bundle as bundles
from mammoscan.model import engine
from mammoscan.report import fontfiles
from mammoscan.report import pdf_words as words
from mammoscan.review import worklist
from mammoscan.run import codec, keyfile, precision, previews, runfile, tablerows, tables, tasks, withdraw, work
from mammoscan.run.inventory import Facts, Inventory, Status
from mammoscan.run.ledger import NAME, Ledger
from mammoscan.run.planner import Planner, Rules
from mammoscan.run.policy import Plain, Policy, Pseudonymous
from mammoscan.run.pool import Crashed, Pool, Task, WorkPool, can_start_workers, worker_count
from mammoscan.run.score import Scorer
from mammoscan.run.tasks import ModelRef, Settings
from mammoscan.run.work import Counts, Engine, Pump

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from mammoscan.archive.clinical import ClinicalTable
    from mammoscan.archive.density import DensityTable
    from mammoscan.core.console import Console, Ticker
    from mammoscan.core.domain import Header, OperatingPoint, SourceFile
    from mammoscan.model.bundle import Bundle
    from mammoscan.run.config import RunConfig
    from mammoscan.run.plan import PlannedImage
    from mammoscan.run.planner import PlannedStudy

log = logging.getLogger(__name__)

# Pieces of work in flight for each worker: enough to keep them busy while the network runs, few enough to bound memory.
IN_FLIGHT = 3
CHUNK = 64  # headers a task: enough to hide what a task costs
LOOK_SECONDS = 300.0  # after which the tables are brought up to date while a run goes on
LOOK_SHARE = 20  # and at least as many times as long as that took
_READER = "reader"  # notes of the ledger: with what headers were read,
_RULES = "rules"  # and what decided results in the last run
_LISTED = "review"  # and the work list as it was written


def run(config: RunConfig, console: Console) -> RunSummary:
    """Analyse an archive into an output folder; continue where an earlier run stopped.

    Raises
    ------
    UsageError
        When the archive is not a readable folder, the output folder would be the archive or holds results under
        other names, the key of the pseudonyms cannot be used, or TensorFlow is not installed.
    LabelError
        When the table of densities or of clinical data cannot be used.
    LockedError
        When another run holds the output folder, or another program its state file.
    MachineError
        When the machine refuses: disk full, read-only, no locks, a damaged state file.
    ModelError
        When the model cannot be used.
    """
    # Workers have folders of their own that they work in.
    places = {name: getattr(config, name).absolute() for name in ("archive", "out")}
    config = replace(config, **places, model=config.model and config.model.absolute())
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
    told = _clinical(config)
    policy = _policy(config, console)
    with store.output_lock(config.out), Ledger(config.out) as ledger:
        ledger.claim(policy.fingerprint)
        for note in ledger.notes:
            console.note(note)
            log.warning("%s", note)
        with _workplace(config, console) as workplace:
            summary = Run(config, console, ledger, policy, densities, told, began, workplace).go()
        if config.send is None:
            return summary
        from mammoscan.send.deliver import deliver

        ledger.commit()
        delivery = deliver(ledger, config.out, config.send, console)
        seconds = time.monotonic() - began
        return replace(summary, sent=delivery.sent, unsent=delivery.unsent, seconds=seconds)


def _clinical(config: RunConfig) -> ClinicalTable | None:
    """The table of clinical data; None where the model takes none and none are given."""
    columns = bundles.load(config.model).columns
    return clinical.read_clinical_table(config.clinical_csv, columns) if columns or config.clinical_csv else None


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


def _policy(config: RunConfig, console: Console) -> Policy:
    if config.deidentify is None:
        return Plain()
    key, said = keyfile.read_or_make(config.deidentify, not_below=(config.out, config.archive))
    if said:
        console.note(said)
    return Pseudonymous(key)


class Run:
    """One run: each method is a step of the story, in this order."""

    def __init__(
        self, config: RunConfig, console: Console, ledger: Ledger, policy: Policy, densities: DensityTable | None,
        told: ClinicalTable | None, began: float, workplace: Workplace,
    ) -> None:  # fmt: skip
        self.config = config
        self.console = console
        self.ledger = ledger
        self.policy = policy
        self.densities = densities
        self.told = told
        self.began = began
        self.bundle: Bundle = bundles.load(config.model)
        self.point: OperatingPoint = self.bundle.point(config.analysis.point)
        self.workplace = workplace
        self.inventory = Inventory(ledger.connection, config.archive, policy, self._changed)
        self.precision = precision.settled(config.precision, self.bundle, ledger, console)
        self.counts = Counts()
        self.form = FORMS[config.tables]
        self._fonts_told = False
        self._told = bytearray()  # a bit a file whose failure is in the log
        self._damaged: list[str] = []  # studies of which something could not be read back when the run began
        self._looked = time.monotonic()
        self._patience = LOOK_SECONDS

    def go(self) -> RunSummary:
        """All of it."""
        self._log_start()
        self._tidy()
        self._take_stock()
        planner = Planner(self.inventory, self.ledger, self.policy, self._rules())
        self._choose(planner)
        self._compare_twins(planner)
        self._work(planner, *self._plan(planner))
        return self._finish()

    def _changed(self) -> None:
        tables.outdated(self.ledger)
        self.ledger.changed()

    def _log_start(self) -> None:
        config, model = self.config, self.bundle.identity
        # With pseudonyms no path: folders carry the names of patients and institutions.
        folders = f", archive {config.archive.resolve()}, results {config.out.resolve()}"
        log.info("start: mammoscan %s%s", __version__, "" if self.policy.anonymous else folders)
        log.info(
            "settings: model %s %s (%s), configuration %s %s, threshold %g (%s), kinds %s, workers %s, settle seconds %g, "
            "retry failed %s, deidentify %s",
            model.name, model.version, model.sha256[:12], config.analysis.digest()[:12],
            dataclasses.asdict(config.analysis), self.point.image, self.point.name, ",".join(config.write) or "none",
            self.workplace.name, config.settle_seconds, config.retry_failed, self.policy.anonymous,
        )  # fmt: skip

    # ------------------------------------------------------------------ take stock

    def _tidy(self) -> None:
        """Complete what a run that was cut off left, and find what was lost since."""
        config, ledger = self.config, self.ledger
        if ledger.cut_off or not ledger.fact(_READER):
            store.remove_partial_files(config.out)
        if ledger.cut_off:
            self._damaged = list(dict.fromkeys(ledger.unreadable()))
            self.inventory.check()
            ledger.checked()
            for uid in self._damaged:  # done again, if its files are in the archive
                self.inventory.to_do(uid)
        withdraw.complete(ledger, config.out)  # what a killed run left to be removed
        for uid in self._lost_outputs():
            self.inventory.to_do(uid)

    def _lost_outputs(self) -> Iterator[str]:
        """Studies of whose files one does not lie in its folder any more."""
        folder, names, lying = "", set[str](), set[str]()
        study = ""
        for path, uid in self.ledger.paths():
            where = str(PurePosixPath(path).parent)
            if where != folder:
                if names - lying:
                    yield study
                folder, names, study = where, set(), uid
                try:
                    lying = set(os.listdir(self.config.out / where))  # noqa: PTH208 (names alone, a million times)
                except OSError:
                    lying = set()
            names.add(PurePosixPath(path).name)
        if names - lying:
            yield study

    def _take_stock(self) -> None:
        """Hold the archive against the inventory; read the headers of what is new or changed."""
        config, clock = self.config, time.monotonic()
        reader = f"{__version__} {codec.FORMAT} {tablerows.VERSION}"
        again = self.ledger.fact(_READER) != reader or config.compare_content
        if config.compare_content:
            self.inventory.forget_contents()
        if config.retry_failed:
            self.inventory.read_failed_again()
        pool: Pool[int] = self.workplace.pool(2 * IN_FLIGHT)
        with self.console.stages(("finding files", None), ("reading headers", None)) as (finding, reading):

            def known(relative: str, size: int, mtime_ns: int) -> bool:
                found = not again and self.inventory.known(relative, size, mtime_ns)
                if found:
                    finding.advance()
                return found

            def walked() -> Iterator[discover.Found]:
                for found in discover.walk(
                    config.archive, out=config.out, follow_links=config.follow_links, known=known
                ):
                    finding.advance(skipped=isinstance(found, Skipped), failed=isinstance(found, Failed))
                    yield found

            waiting: dict[int, tuple[SourceFile, ...]] = {}

            def task(files: tuple[SourceFile, ...]) -> Task[int]:
                number = next(numbers)
                waiting[number] = files
                return Task(number, tasks.read_headers, (files, config.archive, config.settle_seconds))

            def chunks() -> Iterator[Task[int]]:
                unread = self.inventory.unread(walked())
                while chunk := tuple(itertools.islice(unread, CHUNK)):
                    yield task(chunk)

            numbers = itertools.count()
            for item in pool.results(chunks()):
                if item is None:
                    continue
                files, found = waiting.pop(item[0]), item[1]
                if isinstance(found, Crashed) and len(files) > 1:
                    for file in files:
                        pool.add(task((file,)))
                    continue
                if isinstance(found, Crashed):
                    crash = Failed(files[0], Stage.HEADER, Reason.DECODER_CRASH)
                    found = [Facts.of(crash, config.archive)]
                for facts in found:
                    self.inventory.record(facts)
                    reading.advance(skipped=facts.status is Status.SKIPPED, failed=facts.status is Status.FAILED)
        self.inventory.lost()
        self.ledger.note(_READER, reader)
        self.ledger.commit()
        self.counts.seconds[Stage.HEADER.value] += time.monotonic() - clock

    def _rules(self) -> Rules:
        config, table, told = self.config, self.densities, self.told
        if table is not None:
            table = table.meeting(header.patient.patient_id for header in self.inventory.headers())
            self._say_of_table("--density-csv", table.notes)
        if told is not None:
            told = told.meeting(header.patient.patient_id for header in self.inventory.headers())
            self._say_of_table(clinical.OPTION, told.notes)
        analysis = config.analysis
        return Rules(
            analysis.include, analysis.digest(), self.bundle.identity.sha256, self.point, config.written,
            config.retry_failed, table, self.precision, told,
        )  # fmt: skip

    def _say_of_table(self, option: str, notes: tuple[str, ...]) -> None:
        for note in notes:
            self.console.note(f"{option}: {note}")
            log.warning("%s: %s", option, note)

    # ------------------------------------------------------------------ plan

    def _choose(self, planner: Planner) -> None:
        """Which studies are to be planned, beside those of which a file changed."""
        key = planner.rules.key(self.policy)
        if self.ledger.fact(_RULES) != key or self.config.compare_content:
            self.inventory.all_to_do()
        self.inventory.retry(failed=self.config.retry_failed)
        self.ledger.note(_RULES, key)

    def _compare_twins(self, planner: Planner) -> None:
        """Hold files against each other that carry one SOPInstanceUID, in the workers."""
        waiting: dict[int, tuple[Header, ...]] = {}

        def compared() -> Iterator[Task[int]]:
            number = 0
            for study in self.inventory.twins_to_do():
                for _, headers in planner.unjudged(study):
                    number += 1
                    waiting[number] = headers
                    yield Task(number, tasks.compare, (headers,))

        pool: Pool[int] = self.workplace.pool(IN_FLIGHT)
        for item in pool.results(compared()):
            if item is not None:
                # Files that are equal are not decoded, so what killed a process were two contents.
                verdict_ = tasks.DIFFERENT if isinstance(item[1], Crashed) else item[1]
                planner.judge(waiting.pop(item[0]), verdict_)

    def _plan(self, planner: Planner) -> tuple[int, int]:
        """Plan what is to be planned; studies whose results stand are done. What is left: images, studies.

        What was reported before is planned first of all, so that results that the archive contradicts by now are
        withdrawn at once. Studies without results are counted here and planned when they are worked on.
        """
        images = studies = 0
        for uid in self.inventory.studies_to_do():
            count: int | None = 0 if self.ledger.has_study(uid) else self.inventory.pending(uid)
            if not count:
                count = self._begun(planner, planner.study(uid))
            if count is not None:
                images += count
                studies += 1
        self.ledger.commit()
        return images, studies

    def _begun(self, planner: Planner, study: PlannedStudy) -> int | None:
        """List a study's files that are no images; how many images are to be analysed.

        None where there is nothing to do: its results stand, or it has none.
        """
        self._list_others(study)
        if not study.images:
            own = study.own(self.policy)
            self._withdrawn(withdraw.withdraw(self.ledger, self.config.out, study.uid, own, self.policy.uid))
            self._list_others(study)
            if self.ledger.patients.untrue(study.uid):
                self._cannot_unsay(study.uid)
            self.inventory.done(study.uid)
            return None
        records = ((image, self.ledger.image(image.written.sop_instance_uid)) for image in study.images)
        states = [planner.stands(image, record) for image, record in records]
        if all(states) and planner.reported(study, self.config.out):
            planner.list_images(study)
            self.inventory.done(study.uid)
            return None
        return sum(not state for state in states)

    def _cannot_unsay(self, uid: str) -> None:
        """A report names an earlier study that is not held to be of the same person, and cannot be made again."""
        log.warning("the report of study %s names an earlier study that is none, and cannot be made again", uid)
        self.console.error(
            f"the report of study {uid} names an earlier study that need not be of the same person, and cannot be made again "
            f"without its files: bring them back to the archive, or remove {store.study_folder(uid)}"
        )

    def _list_others(self, study: PlannedStudy) -> None:
        for number, other in study.others:
            status = Status.SKIPPED if isinstance(other, Skipped) else Status.FAILED
            detail = self.policy.detail(other.detail)
            if status is Status.FAILED:
                detail = withdraw.noted(other.reason, detail, self.ledger.withdrawn(study.uid))
                self._tell(number, self.policy.path(other.file.relative), other.reason)
            self.inventory.relist(number, status, other.stage, other.reason, detail)

    def _withdrawn(self, withdrawals: list[withdraw.Withdrawal]) -> None:
        self.counts.withdrawn += len(withdrawals)
        for withdrawal in withdrawals:
            self._changed()
            self.console.note(str(withdrawal))

    # ------------------------------------------------------------------ work

    def _work(self, planner: Planner, images: int, studies: int) -> None:
        """Work on what is left: so many images, of so many studies."""
        if not studies and not self.ledger.patients.waiting:
            return
        config, bundle = self.config, self.bundle
        pool: Pool[work.Key] = self.workplace.pool(IN_FLIGHT)
        settings = Settings(
            config.analysis, bundle.crop, bundle.ranking, bundle.outlines, self.policy.anonymous, self.precision,
            config.review,
        )  # fmt: skip
        with self.console.stages(("analysing images", images), ("writing reports", studies)) as tickers:
            if images:
                tickers[0].waiting("loading the model")
            again = self.ledger.patients
            plans = self._to_work(planner, self._in_order(), *tickers)
            first = next(plans, None)
            while first is None and again.waiting:
                plans = self._to_work(planner, again.taken(), *tickers)
                first = next(plans, None)
            if first is None:
                return
            with contextlib.closing(Scorer(bundle, config, self.point.finding, precision=self.precision)) as scorer:
                place = Engine(
                    out=config.out, pool=pool, scorer=scorer, planner=planner, inventory=self.inventory,
                    ledger=self.ledger, policy=self.policy, settings=settings, breast=bundle.breast,
                    context=self._context, write=config.written, tell=self._tell, withdrawn=self._withdrawn,
                    look=self._look, image_task=self.workplace.image_task,
                )  # fmt: skip
                pump = Pump(place, self.counts, *tickers)
                pump.run(itertools.chain([first], plans))
                # What was reported may have changed what others are to say of their patients' earlier studies.
                while again.waiting:
                    pump.run(self._to_work(planner, again.taken(), *tickers))
                self.counts.seconds[Stage.CLASSIFY.value] += scorer.seconds

    def _in_order(self) -> Iterator[str]:
        """The studies to be done by UID, but of one identifier in the order of their dates."""
        ahead = set[str]()  # of those to come, which were taken before their turn
        for uid in self.inventory.studies_to_do():
            if uid in ahead:
                ahead.remove(uid)
                continue
            for earlier in self.inventory.earlier_to_do(uid):
                # One with a lesser UID had its turn.
                if earlier > uid and earlier not in ahead:
                    ahead.add(earlier)
                    yield earlier
            yield uid

    def _to_work(
        self, planner: Planner, uids: Iterable[str], images: Ticker, reports: Ticker
    ) -> Iterator[PlannedStudy]:
        """The studies, of those with these UIDs, on which there is something to do, planned one by one."""
        for uid in uids:
            counted = 0 if self.ledger.has_study(uid) else self.inventory.pending(uid)
            study = planner.study(uid)
            count = self._begun(planner, study)
            if others := max(0, counted - (count or 0)):  # counted as images, and by some rule they are none
                images.advance(skipped=others, amount=others)
            if count is None:
                reports.advance()
            else:
                self._say_of_fonts(study)
                yield study

    def _say_of_fonts(self, study: PlannedStudy) -> None:
        """Once in a run: that this machine cannot set a name as it is written."""
        names = "" if self.policy.anonymous else "".join(image.header.patient.name for image in study.images)
        if not self._fonts_told and fontfiles.lacks_font(names):
            self._fonts_told = True
            self.console.note(fontfiles.LACKING)
            log.warning("%s", fontfiles.LACKING)

    def _look(self) -> None:
        """Bring the tables up to date now and then, so that a person can look before the run is over."""
        began = time.monotonic()
        if began - self._looked >= self._patience:
            tables.write(self.ledger, self.inventory, self.config.out, self.form)
            self._list_for_review()
            self._looked = time.monotonic()
            self._patience = max(LOOK_SECONDS, LOOK_SHARE * (self._looked - began))

    def _context(self, created: tuple[str, str]) -> ReportContext:
        return ReportContext(
            software_version=__version__,
            model=self.bundle.identity,
            config_digest=self.config.analysis.digest(),
            created=created,
            threshold=self.point.image,
            breast_threshold=self.point.breast,
            finding_threshold=self.point.finding,
            threshold_name=self.point.name,
            cost=self.point.cost,
            precision=self.precision.value,
        )

    def _tell(self, number: int, path: str, reason: Reason) -> None:
        """Log a failure, once in every run. Its detail may quote a header and is for the tables alone."""
        if number >> 3 >= len(self._told):
            self._told.extend(bytes((number >> 3) + 1 - len(self._told)))
        if not self._told[number >> 3] & 1 << (number & 7):
            self._told[number >> 3] |= 1 << (number & 7)
            log.warning("failed: %s: %s: %s (%s)", path, reason.code, reason.meaning, reason.remedy)

    # ------------------------------------------------------------------ tables and summary

    def _finish(self) -> RunSummary:
        config, ledger = self.config, self.ledger
        changed = bool(self.counts.analysed or self.counts.studies or self.counts.withdrawn)
        for number, path, code in self.inventory.failures():
            self._tell(number, path, Reason.of(code))
        missing: list[str] = []
        if not tables.current(ledger, config.out, self.form):
            differs, missing = tables.write(ledger, self.inventory, config.out, self.form)
            changed |= differs
        self._list_for_review()
        for uid in missing:
            self._lost_record(uid, "are missing in the tables")
        for uid in self._damaged:
            if uid not in missing and ledger.has_study(uid) and ledger.study(uid) is None:
                self._lost_record(uid, "stay in the tables as they were")
        summary = self._summary()
        run_file = config.out / "run.json"
        if changed or not run_file.exists():
            context = self._context(work.now())
            points = self.bundle.operating_points()
            store.write_atomic(
                run_file, runfile.render(config, context, summary, points, [c.name for c in self.bundle.columns])
            )
        if not any(True for _ in self.inventory.studies_to_do()):
            previews.remove_all(config.out)
        ledger.finished()
        return summary

    def _list_for_review(self) -> None:
        """Bring the work list up to date with the tables, or take it away where none is wanted."""
        out = self.config.out
        if not self.config.review:
            worklist.remove(out)
            return
        ranking, lying = self.ledger.ranking, worklist.state(out)
        touched = not lying or self.ledger.fact(_LISTED) != lying
        if touched or ranking.pending():
            worklist.update(out, ranking, whole=touched)
            self.ledger.note(_LISTED, worklist.state(out))

    def _summary(self) -> RunSummary:
        counts = self.inventory.counts()
        by_status: defaultdict[Status, int] = defaultdict(int)
        for (status, _), count in counts.items():
            by_status[status] += count
        waiting = counts.get((Status.SKIPPED, Reason.STILL_WRITTEN.code), 0)
        analysed, codes = (
            by_status[Status.ANALYSED],
            {s: {c: n for (t, c), n in counts.items() if t is s} for s in Status},
        )
        skips = {code: n for code, n in codes[Status.SKIPPED].items() if code != Reason.STILL_WRITTEN.code}
        now = min(self.counts.analysed, analysed)
        reported, above = self.ledger.totals()
        return RunSummary(
            files=sum(by_status.values()) - by_status[Status.GONE],
            analysed=now,
            skipped=by_status[Status.SKIPPED] - waiting,
            failed=by_status[Status.FAILED],
            unchanged=analysed - now,
            studies=reported + self.inventory.unreported(),
            findings=above,
            seconds=time.monotonic() - self.began,
            stage_seconds=tuple(sorted(self.counts.seconds.items())),
            waiting=waiting,
            gone=by_status[Status.GONE],
            failures=verdict.ranked(codes[Status.FAILED]),
            skips=verdict.ranked(skips),
            removed=self.counts.removed,
            operating_point=f"operating point {self.point.name}: {words.cost(self.point.cost)}",
            withdrawn=self.counts.withdrawn,
            most_suspicious=tables.most_suspicious(self.ledger),
        )

    def _lost_record(self, uid: str, tabled: str) -> None:
        if self.inventory.has_study(uid):
            self.inventory.to_do(uid)
            said = "they are made again by the next run"
        else:
            said = "bring its files back to the archive to have them done again"
        log.warning("the record of study %s cannot be read back", uid)
        self.console.error(
            f"the results of study {uid} cannot be read back and {tabled}; its reports stand in "
            f"{store.study_folder(uid)} ({said})"
        )


def _image_task(image: PlannedImage, settings: Settings, picture: Path) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """How an image is analysed on this machine: the network runs in this process."""
    return tasks.analyse_file, (image.header, settings, picture)


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the work of a run is done. pool: makes one with so many tasks in flight for each worker.

    image_task: how an image is worked on there.
    """

    name: str
    pool: Callable[[int], Pool[Any]]
    image_task: Callable[[PlannedImage, Settings, Path], tuple[Callable[..., Any], tuple[Any, ...]]]


@contextlib.contextmanager
def _workplace(config: RunConfig, console: Console) -> Iterator[Workplace]:
    """The cores of this machine, where the network runs in this process; or a cluster, where it runs in its workers."""
    if config.cluster is None:
        engine.needed()
        workers = _workers(config, console)
        yield Workplace(
            str(workers),
            lambda ahead: WorkPool(workers, in_flight=ahead * max(1, workers)),
            _image_task,
        )
        return
    from mammoscan.run.cluster import Cluster

    bundle = bundles.load(config.model)
    point = bundle.point(config.analysis.point)
    model = ModelRef(config.model, bundle.identity.sha256, point.finding, config.batch_size)
    with contextlib.closing(Cluster(config, model, console)) as cluster:
        yield Workplace(
            f"of {cluster.address}",
            cluster.pool,
            lambda image, settings, picture: (tasks.analyse_and_score, (image, settings, picture, model)),
        )


def _workers(config: RunConfig, console: Console) -> int:
    """Worker processes; 0 where the machine gives none and the work is done in this process."""
    if can_start_workers():
        return worker_count(config.workers)
    said = "this machine gives no semaphores (is /dev/shm full or read-only?): one process does all, without protection from decoders that crash"
    log.warning("%s", said)
    console.note(said)
    return 0
