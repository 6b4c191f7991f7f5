"""Speed and memory of the audit: ``python -m tests.benchmarks.audit``.

The real command (HTML, PDF, figures and tables; all levels, subgroups, 2,000 bootstrap replicates) in a process of its
own, at growing numbers of images: wall time and peak resident memory, and the growth of both as an exponent. Two kinds
of input, both generated here: the folder of a run (``images.csv``, ``findings.csv`` with its outlines, ``studies.csv``,
``files.csv``; four of five cancers are marked), and the scores of another system in one table. Then every
metric of one level against the naive loop over scikit-learn on a tenth of the images (timed over some of its
replicates, scaled up).

The bars, on two cores: a million images under 10 minutes and 4 GiB; 100,000 under 60 s and 1 GiB.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn import metrics as sk

from mammoscan.audit.match import Cases
from mammoscan.audit.measure import Settings, Threshold, measure_level
from mammoscan.report.tables import COLUMNS

FINDINGS = 3  # of an image: what a run reports at most by default
POINTS = 140  # of an outline, as on the demo archive
PER_PATIENT, PER_STUDY = 8, 4
KEPT = ("images", "findings", "studies", "files")  # tables of a run
SICK = 0.05
BARS = {100_000: (60, 1024), 1_000_000: (600, 4096)}  # images: seconds, MiB


def cases(images: int, per_patient: int = 4) -> Cases:
    """Scores with AUC near 0.8, 5 % positive."""
    rng = np.random.default_rng(0)
    truth = rng.random(images) < 0.05
    scores = 1 / (1 + np.exp(3 - 1.2 * truth - rng.normal(size=images)))
    ids = tuple(map(str, range(images)))
    return Cases("image", ids, truth, scores, np.arange(images) // per_patient, ())


def uid(kind: int, number: int) -> str:
    """A UID as long as those that are made from a UUID."""
    return f"2.25.{kind}{number * 2654435761 % 10**9:09d}{'7' * 40}{number:09d}"


def write_run(images: int, folder: Path) -> tuple[Path, Path]:
    """The folder of a run as its tables are, written row by row, and labels with locations."""
    run = folder / "run"
    run.mkdir(parents=True)
    rng = np.random.default_rng(0)
    studies = -(-images // PER_STUDY)
    # A cancer is seen in both views of one breast, which are images 0 and 1, or 2 and 3, of a study.
    sick = np.repeat(rng.random(studies * 2) < SICK, 2)[:images]
    scores = np.round(1 / (1 + np.exp(3 - 1.5 * sick - rng.normal(size=images))), 6)
    found = sick & (rng.random(images) < 0.8)
    marks = np.round(scores[:, None] * np.array([1.0, 0.7, 0.4]) ** rng.random((images, 1)), 6)
    breasts = np.maximum.reduceat(scores, np.arange(0, images, 2))
    outlines = [
        ";".join(f"{1500 + 80 * math.cos(a + i):.2f} {1700 + 60 * math.sin(a + i):.2f}" for a in np.linspace(0, 6.28, POINTS))
        for i in range(7)
    ]  # fmt: skip
    features = [f"{value:.6g}" for value in rng.lognormal(size=len(COLUMNS["findings"]) - 23)]
    rest = ",".join(features)
    digests = "9807503a0bc930f368464f46512c508a7968c3b106bff09053391df0a6efd6e9,8e723b369b6de7da02ec69b09b84ef685ecfb9ea2869f7"

    def names(kind: str) -> str:
        return ",".join(c.name for c in COLUMNS[kind]) + "\n"

    with (
        (run / "images.csv").open("w") as image_file, (run / "findings.csv").open("w") as finding_file,
        (run / "studies.csv").open("w") as study_file, (run / "files.csv").open("w") as file_file,
        (folder / "labels.csv").open("w") as label_file,
    ):  # fmt: skip
        for kind, file in zip(KEPT, (image_file, finding_file, study_file, file_file), strict=True):
            file.write(names(kind))
        label_file.write("sop_instance_uid,patient_id,laterality,view,label,x,y,radius,kind,size_mm,density,age\n")
        for i in range(images):
            study, patient = i // PER_STUDY, i // PER_PATIENT
            side, view, sop = "LR"[i // 2 % 2], ("CC", "MLO")[i % 2], uid(1, i)
            name, age, density = f"P{patient:08d}", 40 + patient % 45, "abcd"[patient % 4]
            path = f"archive/{study // 1000:05d}/study-{study:08d}/{side}-{view}.dcm"
            maker, year = f"Maker {patient % 5} Imaging", 2018 + study % 5
            file_file.write(f"{path},27500000,analysed,,,,,,{uid(2, study)},{sop}\n")
            image_file.write(
                f"{name},{uid(2, study)},{uid(3, i)},{sop},{path},{year}0101,{side},{view},,{age},PatientAge,F,{density},"
                f"pixel-estimate,D,17.35,14582.2,{maker},0.07,0.07,ImagerPixelSpacing/EstimatedRadiographicMagnificationFactor,"
                f"FOR PRESENTATION,no,no,,0.3,0.2,0.5,{scores[i]:.6g},no,0.1,20,{FINDINGS},{digests}\n"
            )
            for k in range(FINDINGS):
                x, y = (1500, 1700) if found[i] and k == 0 else (600 + 300 * k, 900)
                finding_file.write(
                    f"{name},{uid(2, study)},{sop},{side},{view},{i % PER_STUDY * FINDINGS + k + 1},{side}-{view}-{k}-148489,"
                    f"{uid(4, i * FINDINGS + k)},mass-like,mass,{x}.25,{y}.75,{x - 80}.00,{y - 60}.00,{x + 80}.00,{y + 60}.00,"
                    f"{outlines[i % 7]},9600,0.3,0.2,0.5,{marks[i, k]:.6g},no,{rest}\n"
                )
            if i % PER_STUDY == PER_STUDY - 1 or i == images - 1:
                left, right = (breasts[min(2 * study + k, len(breasts) - 1)] for k in (0, 1))
                study_file.write(
                    f"{name},{uid(2, study)},{year}0101,A{study},{age},4,0,0,{max(left, right):.6g},{left:.6g},{right:.6g},no,0.15,"
                    f"sensitivity-0.90,1,11,,studies/{uid(2, study)},20260101120000,{digests}\n"
                )
            truth = "malignant,1500,1700,70,mass,14" if sick[i] else "normal,,,,,"
            label_file.write(f"{sop},{name},{side},{view},{truth},{density},{age}\n")
    for kind in KEPT:
        with (run / f"{kind}.csv").open(newline="") as stream:
            heading, first = itertools.islice(csv.reader(stream), 2)
            assert len(first) == len(heading), f"{kind}.csv has {len(heading)} columns by now"
    points = {
        "finding": {"sensitivity-0.90": 0.05, "specificity-0.90": 0.3},
        "image": {"sensitivity-0.90": 0.1, "specificity-0.90": 0.2},
        "breast": {"sensitivity-0.90": 0.15, "specificity-0.90": 0.25},
    }
    told = {"threshold": 0.1, "breast_threshold": 0.15, "finding_threshold": 0.05, "threshold_name": "sensitivity-0.90"}
    (run / "run.json").write_text(json.dumps(told | {"operating_points": points}))
    return run, folder / "labels.csv"


def write_scores(images: int, folder: Path) -> tuple[Path, Path]:
    """A CSV of scores with age, density, maker and year, and one of labels in another order."""
    folder.mkdir(parents=True)
    found = cases(images)
    rng = np.random.default_rng(1)
    scores, labels = folder / "scores.csv", folder / "labels.csv"
    with scores.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            "id patient_id study_instance_uid laterality view age density manufacturer study_date score".split()
        )
        for i, group in enumerate(found.groups.tolist()):
            writer.writerow(
                [i, f"P{group}", f"1.2.{group}", "LR"[i % 2], ("CC", "MLO")[i // 2 % 2], 40 + group % 45,
                 "abcd"[group % 4], f"maker {group % 3}", f"{2018 + group % 5}0101", repr(float(found.scores[i]))]
            )  # fmt: skip
    with labels.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "label", "kind", "size"])
        for i in rng.permutation(len(found.truth)).tolist():
            sick = bool(found.truth[i])
            writer.writerow(
                [i, int(sick), ("mass", "calcification")[i % 2] if sick else "", 5 + i % 30 if sick else ""]
            )
    return scores, labels


KINDS = {"run": write_run, "scores": write_scores}


def command(kind: str, images: int, replicates: int, folder: Path | None) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak MiB of the real command. folder: keeps the generated tables, to use them again."""
    with tempfile.TemporaryDirectory() as name:
        place = (folder or Path(name)) / f"{kind}-{images}"
        results = place / {"run": "run", "scores": "scores.csv"}[kind]
        if not place.exists():
            KINDS[kind](images, place)
        arguments = [
            sys.executable, "-m", "mammoscan", "audit", str(results), "--labels", str(place / "labels.csv"),
            "--out", str(Path(name) / "out"), "--replicates", str(replicates), "--quiet",
            *(("--threshold", "0.1") if kind == "scores" else ()),
        ]  # fmt: skip
        began = time.perf_counter()
        process = subprocess.Popen(arguments)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"the command ended with status {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def grown(measured: list[tuple[int, float, float]]) -> Iterator[str]:
    """Growth of seconds and MiB from each size to the next, as exponents: 1 is in proportion."""
    for (n, seconds, memory), (more, later, larger) in itertools.pairwise(measured):
        step = math.log(more / n)
        yield (
            f"  from {n:,} to {more:,}: seconds grow with exponent {math.log(later / seconds) / step:.2f}, "
            f"memory with {math.log(larger / memory) / step:.2f}"
        )


def level(images: int, replicates: int, answer: multiprocessing.Queue) -> None:
    """Seconds and peak MiB of one level's metrics, in a process of its own."""
    found = cases(images)
    began = time.perf_counter()
    audit = measure_level(found, [Threshold("benchmark", 0.1)], Settings(replicates=replicates, prevalence=0.006))
    seconds = time.perf_counter() - began
    answer.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(audit.measures)))


def apart(work, *arguments):
    """What ``work`` puts in its queue, in a fresh process, so that peaks of memory are its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=work, args=(*arguments, answer))
    process.start()
    out = answer.get()
    process.join()
    return out


def naive(found: Cases, replicates: int) -> float:
    """Seconds a replicate takes when patients are copied and scikit-learn measures each."""
    rng = np.random.default_rng(0)
    patients = int(found.groups.max()) + 1
    of_patient = np.split(np.arange(len(found.groups)), np.flatnonzero(np.diff(found.groups)) + 1)
    began = time.perf_counter()
    for _ in range(replicates):
        index = np.concatenate([of_patient[g] for g in rng.integers(0, patients, patients)])
        truth, scores = found.truth[index], found.scores[index]
        flagged = scores >= 0.1
        sk.roc_auc_score(truth, scores)
        sk.roc_auc_score(truth, scores, max_fpr=0.1)
        sk.average_precision_score(truth, scores)
        sk.brier_score_loss(truth, scores)
        sk.confusion_matrix(truth, flagged)
        sk.precision_recall_fscore_support(truth, flagged, average="binary", zero_division=0)
        sk.accuracy_score(truth, flagged)
        sk.balanced_accuracy_score(truth, flagged)
        sk.matthews_corrcoef(truth, flagged)
    return (time.perf_counter() - began) / replicates


def compare_naive(images: int, replicates: int, naive_replicates: int) -> None:
    """Print every metric of one level against the loop over scikit-learn."""
    seconds, memory, count = apart(level, images, replicates)
    print(
        f"{images:,} images, {replicates:,} replicates, {count} metrics of one level: {seconds:.1f} s, peak {memory:.0f} MiB"
    )
    loop = naive(cases(images // 10), naive_replicates) * replicates
    print(
        f"naive scikit-learn loop on {images // 10:,} images: {loop:.0f} s (from {naive_replicates} replicates); "
        f"{loop / seconds:.1f} times as long on a tenth, {10 * loop / seconds:.0f} times per image"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000], help="sizes for the command")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="what is audited")
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--naive-images", type=int, default=100_000, help="for one level; 0 leaves that out")
    parser.add_argument("--naive-replicates", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None, help="keep the tables here and use them again")
    options = parser.parse_args()
    for kind in options.kinds:
        measured = []
        for images in sorted(options.images):
            seconds, busy, memory = command(kind, images, options.replicates, options.folder)
            measured.append((images, seconds, memory))
            bar = ""
            if images in BARS:
                most, largest = BARS[images]
                bar = f"; bar of {most} s and {largest:,} MiB: {'met' if seconds < most and memory < largest else 'MISSED'}"
            print(
                f"{kind}, {images:,} images: {seconds:.1f} s ({busy:.1f} s of processor), peak {memory:.0f} MiB{bar}",
                flush=True,
            )
        for line in grown(measured):
            print(line)
    if options.naive_images:
        compare_naive(options.naive_images, options.replicates, options.naive_replicates)


if __name__ == "__main__":
    main()
