"""``mammoscan train DATA --out DIR``."""

from __future__ import annotations

import json
from pathlib import Path

import click

SOURCES = ("mias", "cbis-mass", "cesm", "rsna")


@click.command("train")
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
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
    help="Normal screening films to draw from the RSNA folder.",
)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Processes that cut crops.")
def train_command(
    data: Path, out: Path, start: Path, seed: int, epochs: int, fine_epochs: int, rsna_films: int, jobs: int
) -> None:
    """Train the region network on the folders mias, cbis-mass, cesm and rsna below DATA.

    Stopped training goes on from the last finished step. The model in --out is what
    `mammoscan run --model` uses.
    """
    import numpy as np

    from mammoscan.console import Console, set_up_logging
    from mammoscan.model import release
    from mammoscan.model.datasets import folders
    from mammoscan.model.train import TrainConfig, train

    out.mkdir(parents=True, exist_ok=True)
    set_up_logging(out / "train.log")
    console = Console()
    films = []
    for source in SOURCES:
        found = folders.read(data, source)
        if source == "rsna":
            normal = [f for f in found if f.is_normal()]
            order = np.random.default_rng(seed).permutation(len(normal))[:rsna_films]
            found = [normal[i] for i in sorted(order)]
        console.note(f"{source}: {len(found)} images")
        films.extend(found)
    with np.load(start, allow_pickle=False) as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    config = TrainConfig(seed=seed, epochs=epochs, fine_epochs=fine_epochs, jobs=jobs)
    metrics = train(films, weights, out, config)
    release.describe(out, metrics, config)
    click.echo(json.dumps(metrics["test"], indent=1))
