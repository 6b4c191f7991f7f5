"""The model card of a training, in the field's form (Mitchell et al. 2019, arXiv:1810.03993). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mammoscan.model import outputs
from mammoscan.training import clinical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mammoscan.training.evaluate import Evaluation, Figure
    from mammoscan.training.train import Outcome


def text(facts: dict[str, Any], outcome: Outcome, found: Evaluation) -> str:
    """The card as Markdown; every number is of this training."""
    e = outcome.examples
    training = facts["training"]
    conv5 = facts["network"]["conv5"]
    sets = "\n".join(
        f"| {s} | {(e.source == s).sum()} | {len(np.unique(e.patient[e.source == s]))} | "
        f"{((e.set_of() == s) & (e.kind == 'truth') & (e.label == 1)).sum()} benign, "
        f"{((e.set_of() == s) & (e.kind == 'truth') & (e.label == 2)).sum()} malignant | "
        f"{((e.source == s) & e.searched).sum()} | {cited} |"
        for s, cited in training["sets"].items()
    )
    parts = [
        f"# Model card: {facts['name']} {facts['version']}",
        "For research and second reading only; no medical device, no diagnosis.",
        "## Intended use\n\nRanks candidate regions, images and breasts of 2D mammograms for research and second "
        "reading. Its score is no probability of cancer for a patient. Audit it on your own cases "
        "(`mammoscan audit`) first. Not for screening decisions, not for use without a reader.",
        f"## Licence of the weights\n\n{facts['licence']} The start was the ImageNet ResNet50 of Keras (MIT), stem to "
        "conv4.",
        f"## Network\n\n{facts['architecture']}, on grey crops of {facts['crop']['side']} x {facts['crop']['side']} "
        f"pixels that show a region with {facts['crop']['context']} times its size around it. Stem to conv4 are the "
        "ImageNet weights, not trained further. "
        + (
            f"conv5 was trained from a fresh start ({training['epochs']} epochs of {training['steps']} batches of "
            f"{training['batch']} at most, the best epoch kept). "
            if conv5
            else "There is no conv5: this training was run with `--epochs 0`. "
        )
        + "Beside it two linear heads (normal or lesion; benign or malignant) read the average and maximum of conv3 "
        "and conv4, for conv4 also those of the region's own place and of what surrounds it, the average of its middle "
        f"and the deviation over the crop, and the clinical inputs ({', '.join(facts['clinical_inputs'])}; age, "
        "density and side may be missing). Benign against malignant is learnt only from sets that have both. "
        "Linear heads on the whole breast estimate its density (a to d; F, G, D, led by the former). "
        "A region's probabilities are two logistic functions (a lesion or not; malignant or benign if it is one) of "
        f"{len(facts['region_score']['lesion']['inputs'])} inputs "
        f'(variant "{outcome.final.variant}" below); its malignancy is their product.'
        + (
            " conv5 is not among them: the validation part preferred a score without it, and it only names the lesion's kind."
            if conv5 and not set(facts["region_score"]["lesion"]["inputs"]) & set(outputs.CONV5_INPUTS)
            else ""
        )
        + (
            " An image's score is fitted on the log odds of the highest of its most salient regions."
            if facts["image_score"]
            else " An image's score is that of its highest region."
        )
        + clinical.text(clinical.of(e), outcome.final.breast),
        "## Training data\n\n| set | films | patients | true boxes | films with own candidate regions | cite |\n"
        f"|---|---|---|---|---|---|\n{sets}\n\n"
        "Candidate regions are ranked by trees (`ranking.npz`) fitted on their overlap with lesions; in the "
        "cross-validation each film's by trees that never saw its patient. Their outlines are drawn by a small network "
        "(`outlines.npz`) fitted on lesions that the sets locate (where a set draws none, the ellipse in the box), in the "
        "cross-validation by one that never saw the patient. Crops, features, labels and hits are of regions as they are "
        "drawn. "
        f"{len(e.versions)} altered crops (moved, scaled, turned, mirrored, other grey levels, noise). "
        "Normal examples are the segmentation's own regions that touch no finding; those of sets without normal films "
        "come from films that hold a lesion elsewhere.",
        "Command:\n\n```\n" + training["command"] + "\n```\n\n"
        f"Seed {training['seed']}. The linear heads of the shipped model learnt from all patients, its conv5 from all but "
        "those of fold 0, which chose the epoch. Its scores were fitted on what heads said that had not seen the patient. "
        "Operating points come from the out-of-fold scores of all folds.",
        f"## Evaluation\n\nCross-validation over patients, {training['folds']} folds, stratified by set, worst label "
        "and density (`splits.csv`). Each figure is of patients that trained nothing, chose nothing and calibrated "
        f"nothing of the model that scores them. 95 % intervals by drawing patients ({training['replicates']} "
        "replicates). Malignant against benign is judged by the odds of those two, findings against normal places by the "
        "probability of any lesion, everything else by the malignancy. A region hits where its centre lies in the ellipse of "
        "a lesion's box, or a lesion's centre in its box and that is less than four times as large. The bar is what was "
        "aimed at; a missed one stands as it is. Constants of mammoscan's code (sizes of crops, places given to regions, penalties of the heads, "
        "how much one density head leads the other, how conv4 is pooled, that an image is judged by its highest region and a breast by its highest image) were chosen "
        "on mini-MIAS, CBIS-DDSM, CDD-CESM and RSNA with all folds in sight, so figures on these sets are somewhat too good.\n\n"
        + _table(found.figures, bars=True),
        "## Operating points\n\n| name | image's score | breast's score | finding's score |\n|---|---|---|---|\n"
        + "\n".join(
            f"| `{n}` | {p['threshold']:.4f} | {p['breast']:.4f} | {p['region']:.4f} |" for n, p in found.points.items()
        ),
        '## What each part brings\n\n"linear": the frozen network with linear heads. "conv5": conv5 trained. '
        '"both": the two together. "handcrafted": with the features of the region (missing for true boxes). '
        "All but \"conv5\" also know a region's place in its image's order of saliency, but where it says otherwise. "
        '"chosen": the variant that each fold\'s validation part preferred. "all layers": the network alone, after '
        'training conv5 and then all layers at a low rate; its nearest comparison is "conv5".\n\n'
        + _table(found.ablation),
        "## Subgroups\n\nMalignant against benign at true boxes, by the odds of the two, five of each class or more.\n\n"
        + _table(found.subgroups),
        "## A warning: the split by image\n\n" + _warning(found.small_cnn),
        "## Calibration\n\n" + facts["calibration"],
        "## Half precision\n\n"
        f"On {facts['half_precision']['crops']} crops the largest difference of a score to single precision is "
        f"{facts['half_precision']['largest_difference']:.5f}.",
        "## Failures\n\n`figures/failures.png`, written by the training, shows the largest errors at true boxes. It is "
        "not shipped: the pictures belong to the sets.",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in (*facts["limits"], *_more(outcome))),
    ]
    return "\n\n".join(parts) + "\n"


def _more(outcome: Outcome) -> Sequence[str]:
    e = outcome.examples
    used = set(e.source.tolist())
    # Each sentence once, though several sets may declare it.
    out = list(dict.fromkeys(limit for s, traits in outcome.sets.items() if s in used for limit in traits.limits))
    calcifications = int(((e.kind == "truth") & (e.lesion_kind == 1)).sum())
    out.append(f"Only {calcifications} true boxes are calcifications.")
    return out


def _table(figures: Sequence[Figure], *, bars: bool = False) -> str:
    if not figures:
        return "None: the data hold too few cases."
    head = "| task | value (95 % interval) | cases | positive | patients |" + (" bar |" if bars else "")
    lines = [head, "|---|---|---|---|---|" + ("---|" if bars else "")]
    for f in figures:
        if not np.isfinite(f.value):
            continue
        line = (f"| {f.name.replace('|', ';')} | {f.value:.3f} ({f.low:.3f} to {f.high:.3f}) | {f.cases} | "
                f"{f.positive or ''} | {f.patients} |")  # fmt: skip
        if bars:
            sign = "at least" if f.higher_is_better else "at most"
            line += f" {sign} {f.bar:g}: {'reached' if f.reached else 'missed'} |" if f.bar is not None else " |"
        lines.append(line)
    return "\n".join(lines)


# Of the set that the second source paper is about. Measured on it; looked for, and published nowhere that was found.
AUGMENTED_SET = (
    "The augmented set of the second source paper (Lin and Huang 2020, 10.17632/ywsbh3ndr8) warns of more than the split. "
    "In its DDSM part the orientation alone gives the classes away: nearly all benign pictures lie horizontal, malignant "
    "vertical, and whoever calls the ones benign and the others malignant is right for 98.4 % without looking at a breast. "
    "And it holds six variants of each of 2,188 views, so that a split by image puts variants of one view on both sides. "
    "This was measured on the set for this project; no publication that says so was found. Accuracies on that part say "
    "nothing about mammograms, by whichever split."
)


def _warning(small_cnn: Sequence[Figure]) -> str:
    if not small_cnn:
        return f"Not run: `mammoscan train` runs it with `--arch cnn` or `--arch both`.\n\n{AUGMENTED_SET}"
    return (
        "The second source paper's small network, trained and judged by the two protocols. Splitting altered copies "
        "by image puts copies of one lesion, and both views of a patient, on both sides: its figure says nothing "
        f"about new patients.\n\n{_table(small_cnn)}\n\n{AUGMENTED_SET}"
    )
