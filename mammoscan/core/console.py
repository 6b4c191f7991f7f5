"""The only place that prints: progress, plain lines, the summary."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from mammoscan import NOTICE
from mammoscan.core import verdict
from mammoscan.core.pace import Pace, span

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mammoscan.core.domain import RunSummary

# Seconds between two plain lines of one stage, for logs that are not terminals.
PLAIN_INTERVAL = 10.0


class Ticker(Protocol):
    """One stage's progress."""

    def advance(self, *, skipped: int = 0, failed: int = 0, amount: int = 1) -> None:
        """Count one more piece of work, and how it ended."""

    def waiting(self, what: str) -> None:
        """Say what the first piece of work waits for; shown until it is done."""


class Console:
    """What a run says. Progress and notes go to stderr, the summary to stdout."""

    def __init__(self, *, quiet: bool = False, json_summary: bool = False) -> None:
        self._quiet = quiet
        self._json = json_summary
        self._err = RichConsole(stderr=True, highlight=False)
        self._out = RichConsole(highlight=False)
        self._held: list[str] | None = None

    def note(self, text: str) -> None:
        """A line that a person would want to read, not in quiet mode."""
        if not self._quiet:
            self._err.print(text, markup=False, soft_wrap=True)

    def error(self, text: str) -> None:
        """A line that is always shown."""
        if self._held is not None:
            self._held.append(text)
        else:
            self._err.print(f"error: {text}", markup=False, soft_wrap=True, style="bold red")

    def last_word(self, text: str) -> None:
        """What is wrong when a run is over: always shown, in quiet mode before all else that is."""
        if self._held is not None:
            self._held.insert(0, text)
        else:
            self._err.print(text, markup=False, soft_wrap=True, style="bold red")

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """In quiet mode whatever is wrong meanwhile is said at the end, in one line (for cron)."""
        if not self._quiet:
            yield
            return
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held:
                self._err.print("; ".join(held), markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[Ticker]:
        """Show the progress of one stage; ``total`` None where it is not known."""
        with self.stages((name, total)) as (ticker,):
            yield ticker

    @contextmanager
    def stages(self, *named_totals: tuple[str, int | None]) -> Iterator[tuple[Ticker, ...]]:
        """Show the progress of stages that go on side by side."""
        if self._quiet:
            yield tuple(_Silent() for _ in named_totals)
        elif self._err.is_terminal:
            with _progress(self._err) as progress:
                yield tuple(
                    _Bar(progress, progress.add_task(name, total=total, counts="", pace=Pace(), waits=""))
                    for name, total in named_totals
                )
        else:
            plain = tuple(_Plain(self, name, total) for name, total in named_totals)
            yield plain
            for ticker in plain:
                ticker.close()

    def facts(self, facts: tuple[tuple[str, str], ...]) -> None:
        """Names and values on stdout: a table for a person at a terminal, else each in one whole line."""
        if self._out.is_terminal:
            table = Table(show_header=False, box=None)
            table.add_column(style="bold")
            table.add_column(overflow="fold")
            for name, value in facts:
                table.add_row(escape(name), escape(value))
            self._out.print(table)
        else:
            width = max((len(name) for name, _ in facts), default=0)
            for name, value in facts:
                self._out.print(f"{name:<{width}}  {value}", markup=False, soft_wrap=True)
        self._out.print(NOTICE, markup=False, soft_wrap=True)

    def document(self, content: object) -> None:
        """One JSON object on stdout."""
        self._out.print(json.dumps(content, sort_keys=True), markup=False, soft_wrap=True)

    def summary(self, summary: RunSummary, *, out: Path) -> None:
        """The counts at the end: a table, or one JSON object on stdout."""
        if self._json:
            self.document(summary_dict(summary))
        elif not self._quiet:
            sends = summary.sent or summary.unsent
            table = Table(title="mammoscan run", title_justify="left", show_header=False)
            table.add_column()
            table.add_column(justify="right")
            for label, value in (
                ("files seen", summary.files),
                ("images analysed now", summary.analysed),
                ("images unchanged since an earlier run", summary.unchanged),
                ("files skipped by rule", summary.skipped),
                *((("files still being written, left for the next run", summary.waiting),) if summary.waiting else ()),
                ("files failed", summary.failed),
                ("studies", summary.studies),
                ("findings above the operating point", summary.findings),
                *((("objects sent now", summary.sent), ("objects not sent", summary.unsent)) if sends else ()),
                ("seconds", f"{summary.seconds:.1f}"),
            ):
                table.add_row(label, str(value))
            self._out.print(table)
            for code, meaning, remedy in verdict.remedies(summary):
                self._out.print(f"{code}: {meaning} ({remedy})", markup=False, soft_wrap=True)
            if summary.removed:
                self._out.print(
                    f"{summary.removed} files of earlier reports were removed: of kinds that are no longer chosen (--write), "
                    "or of images that are no longer analysed",
                    markup=False,
                    soft_wrap=True,
                )
            self._out.print(summary.operating_point, markup=False, soft_wrap=True)
            for line in verdict.suspicious(summary, out):
                self._out.print(line, markup=False, soft_wrap=True)
            self._out.print(f"results: {out}", markup=False, soft_wrap=True)
            self._out.print(NOTICE, markup=False, soft_wrap=True)


def summary_dict(summary: RunSummary) -> dict[str, object]:
    """The summary as plain values, for JSON."""
    return {
        "files": summary.files,
        "analysed": summary.analysed,
        "unchanged": summary.unchanged,
        "skipped": summary.skipped,
        "failed": summary.failed,
        "studies": summary.studies,
        "findings": summary.findings,
        "sent": summary.sent,
        "unsent": summary.unsent,
        "waiting": summary.waiting,
        "gone": summary.gone,
        "withdrawn": summary.withdrawn,
        "codes": dict(summary.failures),
        "skipped_codes": dict(summary.skips),
        "seconds": round(summary.seconds, 3),
        "stage_seconds": {name: round(value, 3) for name, value in summary.stage_seconds},
        "operating_point": summary.operating_point,
        "most_suspicious": [asdict(study) for study in summary.most_suspicious],
        "exit_status": int(verdict.exit_code(summary)),
        "notice": NOTICE,
    }


def is_terminal() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


class _Speed(ProgressColumn):
    """What is waited for, else how fast it goes."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["waits"] or _rate(task.fields["pace"]))


class _Left(ProgressColumn):
    """How long it will take."""

    def render(self, task: Task) -> Text:
        return Text(_left(task.fields["pace"], None if task.total is None else int(task.total)))


def _rate(pace: Pace) -> str:
    rate = pace.rate()
    return "" if rate is None else f"{rate:.1f}/s" if rate >= 0.95 else f"{60 * rate:.1f}/min"


def _left(pace: Pace, total: int | None) -> str:
    left = pace.left(total) if total is not None and pace.done < total else None
    return "" if left is None else f"{span(left)} left"


def _progress(console: RichConsole) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeElapsedColumn(),
        _Left(),
        TextColumn("{task.fields[counts]}"),
        console=console,
    )


class _Silent:
    def advance(self, *, skipped: int = 0, failed: int = 0, amount: int = 1) -> None:
        pass

    def waiting(self, what: str) -> None:
        pass


class _Work:
    """Done, skipped and failed so far, and how fast. waits: what the first piece waits for, '' once it is done."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.waits = ""
        self.skipped = self.failed = 0

    def add(self, amount: int, skipped: int, failed: int) -> None:
        self.skipped += skipped
        self.failed += failed
        if self.waits and amount <= skipped + failed:
            self.pace.skip(amount)  # it needed nothing of what the others wait for
        else:
            self.waits = ""
            self.pace.add(amount)

    def text(self) -> str:
        return f"{self.skipped} skipped, {self.failed} failed"


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._work = _Work(progress.tasks[progress.task_ids.index(task)].fields["pace"])

    def advance(self, *, skipped: int = 0, failed: int = 0, amount: int = 1) -> None:
        self._work.add(amount, skipped, failed)
        self._progress.update(self._task, advance=amount, counts=self._work.text(), waits=self._work.waits)

    def waiting(self, what: str) -> None:
        self._work.waits = what
        self._progress.update(self._task, waits=what)


class _Plain:
    def __init__(self, console: Console, name: str, total: int | None) -> None:
        self._console = console
        self._name = name
        self._total = total
        self._work = _Work(Pace())
        self._last = time.monotonic()

    def advance(self, *, skipped: int = 0, failed: int = 0, amount: int = 1) -> None:
        self._work.add(amount, skipped, failed)
        if time.monotonic() - self._last >= PLAIN_INTERVAL:
            self._last = time.monotonic()
            self._say()

    def waiting(self, what: str) -> None:
        self._work.waits = what
        self._console.note(f"{self._name}: {what}")

    def close(self) -> None:
        if self._total != 0:
            self._say()

    def _say(self) -> None:
        pace = self._work.pace
        of = f" of {self._total}" if self._total is not None else ""
        parts = (f"{pace.done}{of}", self._work.waits or _rate(pace), _left(pace, self._total), self._work.text())
        self._console.note(f"{self._name}: {', '.join(part for part in parts if part)}")
