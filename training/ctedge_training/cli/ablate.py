"""`ctedge train ablate`: what each part of the recipe is worth."""

# ruff: noqa: PLR0913, PLR0917 - the arguments of a command are its options
from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ctedge_training.cli import options as o


def ablate(
    data: o.Data,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the runs and ablation.json.")
    ],
    task: Annotated[
        Literal["classifier", "severity"], typer.Option(help="Which network.")
    ] = "classifier",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each variant.")] = 3,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    learning_rate: o.LearningRate = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    grid: o.Grid = "46x46x46",
    mixed_precision: o.MixedPrecision = None,
    labels: o.Labels = None,
    cache: o.Cache = None,
    workers: o.Workers = o.CPUS,
    feeders: o.Feeders = 0,
) -> None:
    """Train the recipe with one part left out at a time; the same command goes on if broken off."""
    from ctedge.progress import Reporter
    from ctedge_training.ablation import ablate as run
    from ctedge_training.cli.networks import settings_of
    from ctedge_training.datasets.source import Source
    from ctedge_training.learning.settings import SMALLEST_AXIS
    from ctedge_training.tasks import TASKS

    settings = settings_of(
        task,
        "every-part",
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        grid=None if grid is None else o.sizes(grid, least=SMALLEST_AXIS),
        mixed_precision=mixed_precision,
    )
    run(
        TASKS[task],
        Source(folder=data, labels=labels, cache=cache, workers=workers),
        out,
        settings=settings,
        seeds=seeds,
        feeders=feeders,
        command=("ctedge", *sys.argv[1:]),
        reporter=Reporter.terminal(),
    )
