"""``mammoscan train DATA --out DIR``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click


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
@click.option("--seed", type=int, default=20261124, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=6, show_default=True, help="Epochs of conv5 and the heads.")
@click.option("--fine-epochs", type=click.IntRange(0), default=1, show_default=True, help="Epochs of all layers.")
@click.option(
    "--rsna-films",
    type=click.IntRange(0),
    default=400,
    show_default=True,
    help="Normal films to draw from an RSNA folder.",
)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes that cut crops.")
def train_command(
    data: Path, out: Path, start: Path, seed: int, epochs: int, fine_epochs: int, rsna_films: int, jobs: int
) -> None:
    """Train the region network on the labelled sets below DATA, or on a manifest.

    The layouts that are read are listed in the README. Stopped training goes on from the last finished
    step. The model in --out is what `mammoscan run --model` uses.
    """
    import numpy as np

    from mammoscan.console import Console, set_up_logging
    from mammoscan.model import datasets, release
    from mammoscan.model.examples import choose
    from mammoscan.model.train import TrainConfig, train

    out.mkdir(parents=True, exist_ok=True)
    set_up_logging(out / "train.log")
    console = Console()
    found = datasets.read(data)
    films = choose(found, screening=rsna_films, seed=seed)
    for source, count in sorted(Counter(film.source for film in found).items()):
        used = sum(film.source == source for film in films)
        console.note(f"{source}: {count} images, {used} of them used")
    with np.load(start, allow_pickle=False) as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    config = TrainConfig(seed=seed, epochs=epochs, fine_epochs=fine_epochs, jobs=jobs)
    metrics = train(films, weights, out, config)
    release.describe(out, metrics, config)
    click.echo(json.dumps(metrics["test"], indent=1))
