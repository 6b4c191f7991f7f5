"""Drawn breasts whose masses and specks are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from mammoscan.core.domain import (
    Geometry,
    Header,
    Laterality,
    Patient,
    Prepared,
    Sex,
    SourceFile,
    Spacing,
    SpacingSource,
    StudyFacts,
    View,
)

MM = 0.2


def header(height: int, width: int, *, spacing: bool = True) -> Header:
    blank = {f.name: "" for f in dataclasses.fields(Header)}
    return Header(
        **{
            **blank,
            "file": SourceFile(Path("a"), "a", 0, 0),
            "series_number": None,
            "instance_number": None,
            "patient": Patient("", "", "", "", Sex.UNKNOWN, ""),
            "study": StudyFacts("", "", "", "", "", "", "", ""),
            "age": None,
            "laterality": Laterality.LEFT,
            "view": View.CC,
            "view_modifiers": (),
            "density": None,
            "spacing": Spacing(MM, MM, SpacingSource.PIXEL_SPACING) if spacing else None,
            "rows": height,
            "columns": width,
            "bits_stored": 12,
            "patient_orientation": (),
            "implant": None,
            "partial_view": None,
            "magnification": None,
            "burned_in": None,
            "lossy": None,
            "flags": (),
            "skip": None,
        }
    )


def breast(
    masses=(), specks=(), *, height=700, width=450, flipped=False, x0=0.0, y0=0.0, spacing=True, mm=MM
) -> Prepared:
    """A half ellipse of tissue at the left; masses: (x, y, radius, brightness) in pixels."""
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    inside = (xx / (0.92 * width)) ** 2 + ((yy - height / 2) / (0.47 * height)) ** 2 < 1
    noise = np.random.default_rng(7).normal(0, 1, (height, width)).astype(np.float32)
    pixels = 0.35 + 0.01 * noise + 0.25 * cv2.GaussianBlur(noise, (0, 0), 30)
    for x, y, radius, brightness in masses:
        far = np.hypot(xx - x, yy - y)
        pixels += brightness / (1 + np.exp((far - radius) / 2.0))
    for x, y in specks:
        pixels[y - 1 : y + 2, x - 1 : x + 2] += 0.35
    pixels = np.where(inside, np.clip(pixels, 0, 1), 0).astype(np.float32)
    geometry = Geometry(2000, 2000, flipped, x0, y0, 1.0, 1.0, width, height, mm, spacing)
    none = np.zeros((height, width), bool)
    return Prepared(
        header(2000, 2000, spacing=spacing),
        geometry,
        pixels,
        pixels,
        inside,
        none,
        none,
        geometry,
        pixels,
        (),
    )


def in_source(prepared: Prepared, x: float, y: float) -> tuple[float, float]:
    point = prepared.geometry.to_source(np.array([[x + 0.5, y + 0.5]]))[0]
    return float(point[0]), float(point[1])
