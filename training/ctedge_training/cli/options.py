"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

CPUS = os.cpu_count() or 1

Data = Annotated[
    Path, typer.Argument(help="Data folder: labels.csv, data.csv, class folders, or a store.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")]
Labels = Annotated[
    Path | None,
    typer.Option(help="Label file: path,label,score,split.  [default: DATA/labels.csv]"),
]
Classes = Annotated[
    str | None,
    typer.Option(metavar="NEGATIVE,POSITIVE", help="Two class folders, instead of a label file."),
]
Shares = Annotated[
    str | None,
    typer.Option(
        "--shares", metavar="70/15/15", help="Train/validation/test, where the data has no split."
    ),
]
SplitSeed = Annotated[int, typer.Option(min=0, help="Of such a split.")]
Masks = Annotated[Path | None, typer.Option(help="Folder of lung masks.  [default: DATA/masks]")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out scans that cannot be read, and say which.")
]
MissingReference = Annotated[
    bool,
    typer.Option(
        "--allow-missing-reference", help="Take DICOM studies without a reference number."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder for preprocessed volumes.  [default: DATA/.ctedge-cache]"),
]
Workers = Annotated[int, typer.Option(min=1, help="Processes that read and preprocess.")]
SpecName = Annotated[
    str | None,
    typer.Option(
        "--spec",
        help="Preprocessing: keras-example, severity-study, severity-study-lungs."
        "  [default: the task's]",
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(help="Use this size instead, in the axis order of the spec: 94x94x46."),
]
#: The presets of each 3D task, as its help names them.
PRESETS = {
    "classifier": "ctedge, every-part, published, writeup, hrct",
    "severity": "ctedge, every-part, finish (needs --start-from), hrct",
}
Epochs = Annotated[int | None, typer.Option(min=1, help="Most epochs to run.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Volumes a step.")]
LearningRate = Annotated[float | None, typer.Option(min=1e-9, help="Peak learning rate.")]
Patience = Annotated[
    int | None, typer.Option(min=1, help="Epochs without improvement before stopping.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, order, augmentation and dropout.")]
Sensitivity = Annotated[
    float | None,
    typer.Option(
        min=0.5, max=1.0, help="Choose the threshold for this sensitivity on the validation split."
    ),
]
StartFrom = Annotated[Path | None, typer.Option(help="Run folder whose weights are the start.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")]
ShuffleLabels = Annotated[
    bool,
    typer.Option("--shuffle-labels", help="Control: permute the training answers."),
]
MixedPrecision = Annotated[
    bool | None,
    typer.Option(
        "--mixed-precision/--full-precision",
        help="Compute in bfloat16; saved in float32.  [default: on a GPU]",
    ),
]
DataParallel = Annotated[
    bool, typer.Option("--data-parallel", help="Split batches over all devices (JAX backend).")
]
Feeders = Annotated[
    int, typer.Option(min=0, help="Processes that make batches ahead; 0 makes them in place.")
]
Folds = Annotated[
    int | None,
    typer.Option(min=2, max=20, help="Cross-validate over this many folds of patients instead."),
]


def preset_of(task: str) -> Any:
    """The option --preset of a 3D task."""
    text = (
        f"Named training: {PRESETS[task]}. The options below change parts of it.  [default: ctedge]"
    )
    return Annotated[str | None, typer.Option(help=text)]


def sizes(text: str, *, least: int, count: int = 3) -> tuple[int, ...]:
    """Sizes as in "94x94x46", or a usage error."""
    from ctedge_training.learning.settings import parse_sizes

    try:
        return parse_sizes(text, least=least, count=count)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def shares(text: str | None) -> dict[str, float]:
    """Shares of the splits as in "70/15/15" or "70/30"; empty for None."""
    if text is None:
        return {}
    parts = text.split("/")
    numbers = [int(part) if part.isascii() and part.isdecimal() else -1 for part in parts]
    if len(numbers) not in (2, 3) or min(numbers) < 0 or sum(numbers[:2]) == 0:
        raise typer.BadParameter(f"{text!r} is no set of shares, as in 70/15/15 or 70/30")
    return {
        split: float(number)
        for split, number in zip(("train", "validation", "test"), numbers, strict=False)
        if number
    }


def classes(text: str | None) -> tuple[str, str] | None:
    """Two names of folders, the negative one first; None for None."""
    if text is None:
        return None
    names = text.split(",")
    plain = all(name and Path(name).name == name and name != ".." for name in names)
    if len(names) != 2 or len(set(names)) != 2 or not plain:
        raise typer.BadParameter(f"{text!r} is no pair of folders, as in CT-0,CT-23")
    return (names[0], names[1])
