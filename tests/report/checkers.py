"""Checkers that nobody here wrote, on files: dciodvfy, dsrdump, PixelMed's DicomSRValidator."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

JARS = Path("/usr/share/java")
_CLASSPATH = ":".join(
    str(JARS / f"{n}.jar") for n in ("pixelmed", "commons-codec", "slf4j-api", "slf4j-simple", "vecmath", "javax.json")
)
MISSING = [t for t in ("dciodvfy", "dcentvfy", "dsrdump", "java") if shutil.which(t) is None] + (
    [] if (JARS / "pixelmed.jar").exists() else ["libpixelmed-java"]
)
NEEDED = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
# dcentvfy counts AccessionNumber to the series of images and to the study of reports: any SR beside any image.
_ENTITY_QUIRK = "Different information entities for attribute - Element=<AccessionNumber>"
_ALLOWED = re.compile(r"expected CONTAINS - found HAS PROPERTIES|not found in context group 100\b")


def iod_complaints(path) -> list[str]:
    """Errors of dciodvfy; empty when it ends with status 0."""
    done = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    return said or ([f"status {done.returncode}"] if done.returncode else [])


def entity_complaints(paths) -> list[str]:
    """What dcentvfy says about files that must agree on patient, study and references."""
    done = subprocess.run(["dcentvfy", *map(str, paths)], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    said = [line for line in said if _ENTITY_QUIRK not in line]
    return said or ([f"status {done.returncode}"] if done.returncode else [])


def dump_complaints(path) -> list[str]:
    """Errors and warnings of dsrdump."""
    done = subprocess.run(["dsrdump", str(path)], capture_output=True, check=False)
    return [
        f"dsrdump: {line}"
        for line in done.stderr.decode("utf-8", "replace").splitlines()
        if re.match("[EWF]:", line) and "Check for template constraints not yet supported" not in line
    ]


def sr_complaints(path) -> list[str]:
    """Errors of dsrdump and of PixelMed's validator on a structured report."""
    out = [f"dciodvfy: {line}" for line in iod_complaints(path)]
    out += dump_complaints(path)
    # Most of its work is done once, and better optimised code is not worth its making: less than half of the time.
    done = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx1g", "-Djdk.xml.xpathExprGrpLimit=0",
         "-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0", "-cp", _CLASSPATH,
         "com.pixelmed.validate.DicomSRValidator", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    if "Root Template Validation Complete" not in said:
        out.append(f"pixelmed: no verdict: {said.splitlines()[-1:]}")
    out += [
        f"pixelmed: {line}"
        for line in said.splitlines()
        if (line.startswith("Error:") or "illegal relationship" in line) and not _ALLOWED.search(line)
    ]
    return out
