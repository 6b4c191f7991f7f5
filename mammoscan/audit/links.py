"""Where a study's report lies, seen from the audit."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from mammoscan.audit.story import Audit
from mammoscan.core import store


def report_of(audit: Audit, study: str, folder: str) -> str:
    """Path of a study's PDF report below the results folder, '' where there is none."""
    if not audit.joined.results.source.is_dir():
        return ""
    candidates = [folder] if folder.endswith(".pdf") else []
    below = folder or (f"studies/{store.safe_name(study)}" if study else "")
    if below:
        candidates.append(f"{below}/report.pdf")
    for name in candidates:
        if (audit.joined.results.source / name).is_file():
            return name
    return ""


def link_to(audit: Audit, report: str, out: Path) -> str:
    """A report below the results folder as a relative URL from the audit's own folder."""
    return quote(os.path.relpath(audit.joined.results.source / report, out).replace(os.sep, "/"))
