"""`ctedge train classifier | severity | slices`."""

# ruff: noqa: PLR0913, PLR0917 - the arguments of a command are its options
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ctedge.cli import INTERRUPTED
from ctedge_training.cli import options as o

if TYPE_CHECKING:
    from ctedge_training.datasets.source import Source
    from ctedge_training.learning.settings import Settings
    from ctedge_training.tasks import Task


def command_of(task: str) -> Callable[..., None]:
    """The command that trains a 3D task; both tasks take the same options."""

    def command(
        data: o.Data,
        out: o.Out,
        preset: str | None = None,
        epochs: o.Epochs = None,
        batch_size: o.BatchSize = None,
        learning_rate: o.LearningRate = None,
        patience: o.Patience = None,
        seed: o.Seed = 0,
        grid: o.Grid = None,
        spec: o.SpecName = None,
        sensitivity: o.Sensitivity = None,
        mixed_precision: o.MixedPrecision = None,
        start_from: o.StartFrom = None,
        resume: o.Resume = False,
        folds: o.Folds = None,
        labels: o.Labels = None,
        classes: o.Classes = None,
        shares: o.Shares = None,
        split_seed: o.SplitSeed = 0,
        masks: o.Masks = None,
        skip_bad: o.SkipBad = False,
        allow_missing_reference: o.MissingReference = False,
        cache: o.Cache = None,
        workers: o.Workers = o.CPUS,
        feeders: o.Feeders = 1,
        data_parallel: o.DataParallel = False,
        shuffle_labels: o.ShuffleLabels = False,
    ) -> None:
        from ctedge_training.datasets.source import Source
        from ctedge_training.learning.settings import SMALLEST_AXIS

        settings = settings_of(
            task,
            preset,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            seed=seed,
            grid=None if grid is None else o.sizes(grid, least=SMALLEST_AXIS),
            spec=spec,
            sensitivity=sensitivity,
            mixed_precision=mixed_precision,
            shuffle_labels=shuffle_labels or None,
            data_parallel=data_parallel or None,
        )
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
        _train(
            task,
            source,
            out,
            settings,
            start_from=start_from,
            resume=resume,
            feeders=feeders,
            folds=folds,
        )

    # The help names the presets of this task alone.
    command.__annotations__["preset"] = o.preset_of(task)
    return command


def slices(
    data: o.Data,
    out: o.Out,
    imagenet: Annotated[
        Path | None,
        typer.Option(
            help="Keras' file of DenseNet121 weights (notop) to start from."
            "  [default: random weights]"
        ),
    ] = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    learning_rate: o.LearningRate = None,
    patience: o.Patience = None,
    seed: o.Seed = 0,
    grid: Annotated[str | None, typer.Option(help="Rows and columns.  [default: 224x224]")] = None,
    sensitivity: o.Sensitivity = None,
    mixed_precision: o.MixedPrecision = None,
    start_from: o.StartFrom = None,
    resume: o.Resume = False,
    folds: o.Folds = None,
    labels: o.Labels = None,
    classes: o.Classes = None,
    shares: o.Shares = None,
    split_seed: o.SplitSeed = 0,
    skip_bad: o.SkipBad = False,
    cache: o.Cache = None,
    workers: o.Workers = o.CPUS,
    feeders: o.Feeders = 1,
    data_parallel: o.DataParallel = False,
    shuffle_labels: o.ShuffleLabels = False,
) -> None:
    """Train DenseNet121 on single slices: pictures, or slices of scans."""
    from ctedge_training.datasets.source import Source
    from ctedge_training.learning.settings import SMALLEST_SIDE
    from ctedge_training.tasks import SLICE_STUDY_IMAGENET

    settings = settings_of(
        "slices",
        None,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        seed=seed,
        grid=None if grid is None else o.sizes(grid, least=SMALLEST_SIDE, count=2),
        spec=None if imagenet is None else SLICE_STUDY_IMAGENET.name,
        sensitivity=sensitivity,
        mixed_precision=mixed_precision,
        shuffle_labels=shuffle_labels or None,
        data_parallel=data_parallel or None,
    )
    source = Source(
        folder=data,
        labels=labels,
        classes=o.classes(classes),
        shares=o.shares(shares),
        split_seed=split_seed,
        cache=cache,
        skip_bad=skip_bad,
        workers=workers,
    )
    _train(
        "slices",
        source,
        out,
        settings,
        start_from=start_from,
        imagenet=imagenet,
        resume=resume,
        feeders=feeders,
        folds=folds,
    )


def settings_of(task: str, name: str | None, **changes: Any) -> Settings:
    """A preset with the options that were given."""
    from ctedge_training import recipes
    from ctedge_training.backend import on_gpu
    from ctedge_training.tasks import TASKS

    kind: Task = TASKS[task]
    settings = recipes.preset(recipes.names(kind)[0] if name is None else name, kind)
    if changes["mixed_precision"] is None:
        changes["mixed_precision"] = on_gpu()
    given = {key: value for key, value in changes.items() if value is not None}
    return replace(settings, **given)


def _train(
    task: str,
    source: Source,
    out: Path,
    settings: Settings,
    *,
    folds: int | None,
    **how: Any,
) -> None:
    from ctedge.progress import Reporter
    from ctedge_training.run import CHECKPOINT_FILE
    from ctedge_training.tasks import TASKS

    reporter = Reporter.terminal()
    command = ("ctedge", *sys.argv[1:])
    try:
        if folds is None:
            from ctedge_training.train import train

            train(
                TASKS[task],
                source,
                out,
                settings=settings,
                command=command,
                reporter=reporter,
                **how,
            )
        else:
            from ctedge_training.folds import cross_validate

            cross_validate(
                TASKS[task],
                source,
                out,
                folds=folds,
                settings=settings,
                command=command,
                reporter=reporter,
                **how,
            )
    except KeyboardInterrupt:
        if (out / CHECKPOINT_FILE).is_file() or folds is not None:
            reporter.say(f"interrupted; the same command with --resume goes on in {out}")
            raise typer.Exit(INTERRUPTED) from None
        raise
