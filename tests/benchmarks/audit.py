"""Speed of the audit: ``python -m tests.benchmarks.audit``.

100,000 images of 25,000 patients with 2,000 bootstrap replicates, against the naive loop over
scikit-learn on a tenth of the images (and a share of its replicates, scaled up).
"""

import argparse
import resource
import time

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
    found = cases(options.images)
    began = time.perf_counter()
    audit = measure_level(
        found, [Threshold("benchmark", 0.1)], Settings(replicates=options.replicates, prevalence=0.006)
    )
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    loop = naive(cases(options.images // 10), options.naive_replicates) * options.replicates
    print(
        f"{options.images:,} images, {options.replicates:,} replicates, {len(audit.measures)} metrics: {seconds:.1f} s, peak {memory:.0f} MiB"
    )
    print(
        f"naive scikit-learn loop on {options.images // 10:,} images: {loop:.0f} s (from {options.naive_replicates} replicates)"
    )
    print(
        f"ratio: the naive loop on a tenth takes {loop / seconds:.1f} times as long; per image {10 * loop / seconds:.0f} times"
    )


if __name__ == "__main__":
    main()
