"""What a person should know when a run is over, in words. Pure functions of its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mammoscan.core.errors import ExitCode, Reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mammoscan.core.domain import RunSummary

MOST_CODES = 5  # codes that are told with their remedies
REVIEW = "index.html"  # the page of all studies, where one was written
_BY_CODE = {reason.code: reason for reason in Reason}


def exit_code(summary: RunSummary) -> ExitCode:
    """The one place that turns counts into an exit status."""
    if summary.analysed + summary.unchanged == 0:
        # Files that are still being written are left for the next run: nothing is wrong with them.
        left = summary.waiting and not summary.failed
        return ExitCode.ALL_ANALYSED if left else ExitCode.NOTHING_ANALYSED
    return ExitCode.SOME_FAILED if summary.failed or summary.unsent else ExitCode.ALL_ANALYSED


def verdict(summary: RunSummary, out: Path) -> str:
    """One line about what is wrong; '' where all is well."""
    parts = []
    if exit_code(summary) is ExitCode.NOTHING_ANALYSED:
        parts.append(_nothing(summary))
    elif summary.failed:
        parts.append(f"{_files(summary.failed)} failed ({_codes(summary.failures)})")
    if parts and summary.files:
        parts[-1] += f": see {out / 'files.csv'}"
    if summary.withdrawn:
        studies = "1 study" if summary.withdrawn == 1 else f"{summary.withdrawn} studies"
        parts.append(f"results of {studies} withdrawn, since the archive contradicts them")
    if summary.unsent:
        objects = "1 object is" if summary.unsent == 1 else f"{summary.unsent} objects are"
        parts.append(f"{objects} not sent")
    return "; ".join(parts)


def remedies(summary: RunSummary) -> tuple[tuple[str, str, str], ...]:
    """The most frequent codes of failures: (code with count, meaning, remedy)."""
    return tuple(
        (f"{code} {count}", _BY_CODE[code].meaning, _BY_CODE[code].remedy)
        for code, count in summary.failures[:MOST_CODES]
    )


def suspicious(summary: RunSummary, out: Path) -> tuple[str, ...]:
    """The studies to be read first, a line each, and the file to open next; nothing where no study has a score."""
    if not summary.most_suspicious:
        return ()
    lines = ["most suspicious studies in this folder (score of the worse breast, 0 to 1):"]
    for study in summary.most_suspicious:
        sides = (("right", study.malignancy_right), ("left", study.malignancy_left))
        said = ", ".join(f"{side} {score:.3f}" for side, score in sides if score is not None)
        above = "above" if study.above_threshold else "below"
        lines.append(f"  {study.malignancy:.3f} ({said}), {above} the operating point: {out / study.report}")
    page = out / REVIEW
    return (*lines, f"open next: {page if page.is_file() else out / summary.most_suspicious[0].report}")


def ranked(codes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Codes with their counts, the most frequent first."""
    return tuple(sorted(codes.items(), key=lambda item: (-item[1], item[0])))


def _nothing(summary: RunSummary) -> str:
    if not summary.files:
        return "nothing could be analysed: the archive holds no files"
    held = []
    if summary.failed:
        held.append(f"{_files(summary.failed)} failed ({_codes(summary.failures)})")
    if summary.skipped:
        held.append(f"{_files(summary.skipped)} skipped by rule ({_codes(summary.skips)})")
    return f"nothing could be analysed: {', '.join(held)}"


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _codes(codes: tuple[tuple[str, int], ...]) -> str:
    shown = [f"{code} {count}" for code, count in codes[:MOST_CODES]]
    return ", ".join([*shown, *(["..."] if len(codes) > MOST_CODES else [])])
