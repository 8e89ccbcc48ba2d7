"""`ctedge train import`: networks that an earlier Keras saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="The .h5 file that Keras saved.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")],
    task: Annotated[
        Literal["classifier", "severity"] | None,
        typer.Option(help="Needed for a file of weights alone; else the file tells."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="A classifier's two answers, the positive one last: normal,abnormal."),
    ] = None,
    note: Annotated[
        str | None, typer.Option(help="Where it comes from; goes onto the model card.")
    ] = None,
) -> None:
    """Make a run folder of a network that Keras saved as HDF5 (.h5)."""
    from ctedge_training.legacy import importing
    from ctedge_training.tasks import TASKS

    importing.import_checkpoint(
        file,
        out,
        task=None if task is None else TASKS[task],
        labels=None if labels is None else _pair(labels),
        note=note,
        say=typer.echo,
    )


def _pair(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2:
        raise typer.BadParameter("two names, as in normal,abnormal", param_hint="--labels")
    return (names[0], names[1])
