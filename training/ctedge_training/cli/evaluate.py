"""`ctedge train evaluate`: a finished training, judged."""

# ruff: noqa: PLR0913, PLR0917 - the arguments of a command are its options
from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ctedge_training.cli import options as o


def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    data: Annotated[Path, typer.Option("--data", help="Data folder or prepared store.")],
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Which scans.")
    ] = "test",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for report.html, report.json and predictions.csv: a new one, or one with"
            " an earlier report, which is replaced.",
        ),
    ] = None,
    labels: o.Labels = None,
    classes: o.Classes = None,
    shares: o.Shares = None,
    split_seed: o.SplitSeed = 0,
    masks: o.Masks = None,
    skip_bad: o.SkipBad = False,
    allow_missing_reference: o.MissingReference = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    cache: o.Cache = None,
    workers: o.Workers = o.CPUS,
) -> None:
    """Judge a finished training on one split: metrics with intervals, tables, plots."""
    from ctedge.progress import Reporter
    from ctedge_training.datasets.source import Source
    from ctedge_training.judging import evaluate as judging

    source = Source(
        folder=data,
        labels=labels,
        classes=o.classes(classes),
        shares=o.shares(shares),
        split_seed=split_seed,
        masks=masks,
        cache=cache,
        skip_bad=skip_bad,
        allow_missing_reference=allow_missing_reference,
        workers=workers,
    )
    metrics = judging.evaluate(
        run,
        source,
        split=split,
        out=out,
        seed=seed,
        command=("ctedge", *sys.argv[1:]),
        reporter=Reporter.terminal(),
    )
    typer.echo(judging.as_text(metrics))
    if out is not None:
        typer.echo(f"{out} written")
