"""`ctedge train`: build, train and judge the two networks."""

# ruff: noqa: PLR0913, PLR0917 - the arguments of a command are its options
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="Train the two networks on scans with labels, and evaluate them.",
)

_CPUS = os.cpu_count() or 1

Data = Annotated[Path, typer.Argument(help="Folder with the scans and labels.csv.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")]
Labels = Annotated[
    Path | None,
    typer.Option(help="Label file: path,label,score,split.  [default: DATA/labels.csv]"),
]
Epochs = Annotated[int, typer.Option(min=1, help="Most epochs to run.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Volumes a step.")]
LearningRate = Annotated[float, typer.Option(min=1e-9, help="Peak learning rate.")]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, order, augmentation and dropout.")]
Patience = Annotated[int, typer.Option(min=1, help="Epochs without improvement before stopping.")]
Grid = Annotated[
    str | None,
    typer.Option(help="Train at this size instead, in the axis order of the task: 94x94x46."),
]
StartFrom = Annotated[Path | None, typer.Option(help="Run folder whose weights are the start.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")]
ShuffleLabels = Annotated[
    bool,
    typer.Option("--shuffle-labels", help="Control: permute the training answers."),
]
MixedPrecision = Annotated[
    bool, typer.Option("--mixed-precision", help="Compute in bfloat16; saved in float32.")
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for preprocessed volumes.  [default: DATA/.ctedge-cache]"),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that read and preprocess.")]


def _sizes(text: str, *, least: int) -> tuple[int, int, int]:
    from ctedge_training.settings import parse_sizes

    try:
        return parse_sizes(text, least=least)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _command(task: str) -> Callable[..., None]:
    """The command that trains a task; both tasks take the same options."""

    def command(
        data: Data,
        out: Out,
        labels: Labels = None,
        epochs: Epochs = 30,
        batch_size: BatchSize = 4,
        learning_rate: LearningRate = 3e-4,
        seed: Seed = 0,
        patience: Patience = 10,
        grid: Grid = None,
        start_from: StartFrom = None,
        resume: Resume = False,
        shuffle_labels: ShuffleLabels = False,
        mixed_precision: MixedPrecision = False,
        cache: Cache = None,
        workers: Workers = _CPUS,
    ) -> None:
        from ctedge_training.progress import Reporter
        from ctedge_training.run import CHECKPOINT_FILE
        from ctedge_training.settings import SMALLEST_AXIS, Settings
        from ctedge_training.tasks import TASKS
        from ctedge_training.train import train

        reporter = Reporter.terminal()
        settings = Settings(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            patience=patience,
            grid=None if grid is None else _sizes(grid, least=SMALLEST_AXIS),
            shuffle_labels=shuffle_labels,
            mixed_precision=mixed_precision,
        )
        try:
            train(
                TASKS[task],
                data,
                out,
                settings=settings,
                labels=labels,
                start_from=start_from,
                resume=resume,
                cache=cache,
                workers=workers,
                reporter=reporter,
            )
        except KeyboardInterrupt:
            if (out / CHECKPOINT_FILE).is_file():
                reporter.say(f"interrupted; the same command with --resume goes on in {out}")
            raise

    return command


app.command("classifier", help="Train the classifier: how probably a scan is abnormal.")(
    _command("classifier")
)
app.command("severity", help="Train the severity network: a score from 0 to 100.")(
    _command("severity")
)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder of a finished training.")],
    data: Data,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Which scans.")
    ] = "test",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="JSON file for the metrics.")
    ] = None,
    labels: Labels = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    cache: Cache = None,
    workers: Workers = _CPUS,
) -> None:
    """Judge a finished training on one split."""
    from ctedge_training import evaluate as judge
    from ctedge_training.progress import Reporter
    from ctedge_training.run import write_json

    metrics = judge.evaluate(
        run,
        data,
        split=split,
        labels=labels,
        cache=cache,
        workers=workers,
        seed=seed,
        reporter=Reporter.terminal(),
    )
    typer.echo(judge.as_text(metrics))
    if out is not None:
        write_json(out, {"schema_version": 1, **metrics})
        typer.echo(f"{out} written")


@app.command()
def phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    count: Annotated[int, typer.Option(min=1, help="Number of scans.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of all chests.")] = 0,
    scores: Annotated[
        Literal["half", "uniform"],
        typer.Option(help="half: half of them healthy. uniform: scores over 0-100."),
    ] = "half",
    shape: Annotated[str, typer.Option(help="Voxels towards Left, Anterior, Superior.")] = (
        "128x128x64"
    ),
    workers: Workers = _CPUS,
) -> None:
    """Write synthetic chests with labels, to train and test on."""
    from ctedge.phantom import write_dataset
    from ctedge_training.progress import Reporter

    reporter = Reporter.terminal()
    with reporter.bar("phantoms", count) as advance:
        write_dataset(
            folder,
            count=count,
            seed=seed,
            shape=_sizes(shape, least=2),
            scores=scores,
            workers=workers,
            progress=lambda _done, _total: advance(),
        )
    reporter.say(f"{folder}: {count} synthetic scans written")
