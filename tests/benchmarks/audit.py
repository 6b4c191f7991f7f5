"""Speed of the audit: ``python -m tests.benchmarks.audit``.

100,000 images of 25,000 patients with 2,000 bootstrap replicates: once every metric of one level,
and once the whole command from two CSV files to HTML and PDF, at all levels with subgroups; both
against the naive loop over scikit-learn on a tenth of the images (timed over some of its
replicates, scaled up). The bar is 60 s and 1 GB for the command on two cores.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn import metrics as sk

from mammoscan.audit.match import Cases
from mammoscan.audit.measure import Settings, Threshold, measure_level


def cases(images: int, per_patient: int = 4) -> Cases:
    """Scores with AUC near 0.8, 5 % positive."""
    rng = np.random.default_rng(0)
    truth = rng.random(images) < 0.05
    scores = 1 / (1 + np.exp(3 - 1.2 * truth - rng.normal(size=images)))
    ids = tuple(map(str, range(images)))
    return Cases("image", ids, truth, scores, np.arange(images) // per_patient, ())


def write_tables(found: Cases, folder: Path) -> tuple[Path, Path]:
    """A CSV of scores with age, density, maker and year, and one of labels."""
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


def command(images: int, replicates: int, answer: multiprocessing.Queue) -> None:
    """Seconds and peak MiB of the whole command, in a process of its own."""
    from mammoscan.audit.report import write_audit
    from mammoscan.audit.story import AuditConfig, audit

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scores, labels = write_tables(cases(images), folder)
        settings = Settings(replicates=replicates, prevalence=0.006)
        config = AuditConfig(scores, labels, folder / "out", thresholds=(0.1,), settings=settings)
        began = time.perf_counter()
        found = audit(config)
        measured = time.perf_counter() - began
        write_audit(found, folder / "out")
        seconds = time.perf_counter() - began
    answer.put((seconds, measured, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(found.measures)))


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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--naive-replicates", type=int, default=20)
    options = parser.parse_args()
    seconds, memory, count = apart(level, options.images, options.replicates)
    print(
        f"{options.images:,} images, {options.replicates:,} replicates, {count} metrics of one level: "
        f"{seconds:.1f} s, peak {memory:.0f} MiB"
    )
    loop = naive(cases(options.images // 10), options.naive_replicates) * options.replicates
    print(
        f"naive scikit-learn loop on {options.images // 10:,} images: {loop:.0f} s (from {options.naive_replicates} replicates); "
        f"{loop / seconds:.1f} times as long on a tenth, {10 * loop / seconds:.0f} times per image"
    )
    whole, measured, memory, count = apart(command, options.images, options.replicates)
    print(
        f"whole command from CSV to HTML and PDF, 4 levels, subgroups, {count} metrics: {whole:.1f} s "
        f"({measured:.1f} s to measure), peak {memory:.0f} MiB; the naive loop on a tenth, one level: {loop / whole:.1f} times as long"
    )
    verdict = "met" if whole < 60 and memory < 1024 else "MISSED"
    print(f"bar of 60 s and 1,024 MiB for the command: {verdict}")


if __name__ == "__main__":
    main()
