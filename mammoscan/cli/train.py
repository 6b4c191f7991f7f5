"""``mammoscan train DATA --out DIR``."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

import click

LONGEST = 64  # characters: DICOM's long string (PS3.5, 6.2), in which results state the name


def printable(value: str) -> str:
    """A name or version that DICOM's long strings can hold. Raises click.BadParameter for another."""
    if 0 < len(value.strip()) <= LONGEST and value.isprintable() and "\\" not in value:
        return value
    raise click.BadParameter(
        f"{value!r} cannot be the name or version of a model in a DICOM object: give --name and --model-version "
        f"1 to {LONGEST} printable characters without a backslash (a name that is not given is that of the folder --out)"
    )


@click.command("train")
@click.argument("data", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for checkpoints, metrics and the trained model.",
)
@click.option(
    "--start",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="ImageNet weights of the Keras ResNet50, stem to conv4 (.npz, arrays named layer/index).",
)
@click.option(
    "--arch",
    type=click.Choice(["resnet50", "cnn", "both"]),
    default="resnet50",
    show_default=True,
    help="What is trained: the model for `run`, the small CNN by both protocols (figures only), or both.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--folds", type=click.IntRange(3), default=5, show_default=True, help="Folds over patients.")
@click.option(
    "--epochs",
    type=click.IntRange(0),
    default=4,
    show_default=True,
    help="Epochs of conv5 and its heads; 0: no conv5, the network ends at conv4.",
)
@click.option("--steps", type=click.IntRange(1), default=70, show_default=True, help="Batches of 32 crops an epoch.")
@click.option(
    "--searched",
    type=click.IntRange(1),
    default=400,
    show_default=True,
    help="Films of a set in which candidate regions are sought, whole patients drawn by seed.",
)
@click.option(
    "--screening-films",
    "--rsna-films",
    "screening_films",
    type=click.IntRange(0),
    default=400,
    show_default=True,
    help="Films to draw from sets of screening (`rsna`), whole patients, with and without cancer in turn.",
)
@click.option(
    "--all-layers",
    "all_steps",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Batches with all layers in training, after conv5, for comparison; 0: not done.",
)
@click.option("--cnn-folds", type=click.IntRange(1), default=5, show_default=True, help="Folds of the small CNN.")
@click.option(
    "--name",
    help="What the model is called in every result that it makes. [default: the name of the folder --out]",
)
@click.option("--model-version", default="1", show_default=True, help="Its version, stated beside the name.")
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes that cut crops.")
def train_command(
    data: Path, out: Path, start: Path, arch: str, seed: int, folds: int, epochs: int, steps: int, searched: int,
    screening_films: int, all_steps: int, cnn_folds: int, name: str | None, model_version: str, jobs: int,
) -> None:  # fmt: skip
    """Train and evaluate on the labelled sets below DATA, or on a manifest.

    The layouts that are read are listed in the manual (training). Evaluation is a cross-validation over patients.
    The same command goes on where it was stopped. The model in --out is what `mammoscan run --model` uses.
    """
    called, model_version = printable(name or out.resolve().name), printable(model_version)

    import numpy as np

    from mammoscan.core import logs, store
    from mammoscan.core.console import Console
    from mammoscan.model import engine
    from mammoscan.training import datasets, evaluate, plots, release, smallcnn
    from mammoscan.training import train as training
    from mammoscan.training.datasets.film import of_sets
    from mammoscan.training.examples import choose

    engine.needed()
    with store.output_lock(out):  # two trainings would write into each other's records
        logs.set_up(out / "train.log")
        console = Console()
        found = datasets.read(data)
        films = choose(found, screening=screening_films, seed=seed)
        for source, count in sorted(Counter(film.source for film in found).items()):
            used = sum(film.source == source for film in films)
            console.note(f"{source}: {count} images, {used} of them used")
        with np.load(start, allow_pickle=False) as arrays:
            weights = {name: arrays[name] for name in arrays.files}
        config = training.TrainConfig(seed=seed, folds=folds, epochs=epochs, steps=steps, searched=searched, jobs=jobs,
                                      all_steps=all_steps)  # fmt: skip
        examples, ranking, outlines = training.cut(films, out, config)
        fold = training.fold_of_films(examples, training.folds_of(films, out, config))
        small = []
        if arch != "resnet50":
            settings = smallcnn.CnnConfig(folds=cnn_folds, seed=seed)
            for protocol in smallcnn.PROTOCOLS:
                figure = smallcnn.evaluate_protocol(
                    examples, fold, protocol, settings, out, replicates=config.replicates
                )
                small.append(figure)
                console.note(f"{figure.name}: AUC {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})")
        if arch == "cnn":
            return
        frozen = training.freeze(examples, weights, out)
        outcome = training.cross_validate(examples, frozen, fold, of_sets(films), weights, out, config, console.note)
        report = evaluate.evaluate(outcome, small, replicates=config.replicates)
        command = (
            f"mammoscan train DATA --out OUT --start {start.name} --arch {arch} --seed {seed} --folds {folds} "
            f"--epochs {epochs} --steps {steps} --searched {searched} --screening-films {screening_films} --all-layers {all_steps} "
            f"--cnn-folds {cnn_folds} --name {shlex.quote(called)} --model-version {shlex.quote(model_version)}"
        )
        origin = release.Origin(called, model_version, command)
        release.write(out, outcome, report, weights, (ranking, outlines), config, origin)
        plots.write(outcome, out / "figures")
        for figure in report.figures:
            console.note(f"{figure.name}: {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})")
