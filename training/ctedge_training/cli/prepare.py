"""`ctedge train prepare`: scans to a store that trainings read."""

# ruff: noqa: PLR0913, PLR0917 - the arguments of a command are its options
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ctedge_training.cli import options as o


def prepare(
    data: Annotated[
        Path,
        typer.Argument(help="Data folder: labels.csv, data.csv, class folders, or HDF5 files."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Store to write, or to go on with.")],
    task: Annotated[
        Literal["classifier", "severity", "slices"], typer.Option(help="Whose answers to read.")
    ] = "classifier",
    grid: o.Grid = None,
    spec: o.SpecName = None,
    labels: o.Labels = None,
    classes: o.Classes = None,
    split: o.Shares = None,
    split_seed: o.SplitSeed = 0,
    masks: o.Masks = None,
    skip_bad: o.SkipBad = False,
    allow_missing_reference: o.MissingReference = False,
    hdf5: Annotated[
        bool, typer.Option("--hdf5", help="Also write training.h5, validation.h5, ...")
    ] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Preprocess on a Dask cluster, as in tcp://10.0.0.5:8786."
        ),
    ] = None,
    workers: o.Workers = o.CPUS,
) -> None:
    """Preprocess all scans once, into a digested store with its split."""
    from ctedge.progress import Reporter
    from ctedge_training.datasets.prepare import prepare_store
    from ctedge_training.datasets.source import Source
    from ctedge_training.learning.settings import SMALLEST_AXIS, SMALLEST_SIDE, Settings
    from ctedge_training.tasks import SLICES, TASKS

    kind = TASKS[task]
    least, count = (SMALLEST_SIDE, 2) if kind is SLICES else (SMALLEST_AXIS, 3)
    settings = Settings(
        grid=None if grid is None else o.sizes(grid, least=least, count=count), spec=spec
    )
    source = Source(
        folder=data,
        labels=labels,
        classes=o.classes(classes),
        shares=o.shares(split),
        split_seed=split_seed,
        masks=masks,
        cache=out,
        skip_bad=skip_bad,
        allow_missing_reference=allow_missing_reference,
        workers=workers,
    )
    prepare_store(
        source, out, kind, settings, hdf5=hdf5, cluster=cluster, reporter=Reporter.terminal()
    )
