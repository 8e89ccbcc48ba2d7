"""`ctedge train phantoms`: synthetic chests with known truth."""

# ruff: noqa: PLR0913, PLR0917 - the arguments of a command are its options
from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from ctedge_training.cli import options as o

#: How `ctedge.phantom.write_dataset` names its scans.
_PHANTOM = re.compile(r"scans/synthetic_[0-9]{5,}\.nii\.gz", re.ASCII).fullmatch


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
    workers: o.Workers = o.CPUS,
) -> None:
    """Write synthetic chests with labels, to train and test on."""
    from ctedge.errors import counted
    from ctedge.phantom import write_dataset
    from ctedge.progress import Reporter

    x, y, z = o.sizes(shape, least=2)
    _refuse_other_scans(folder)
    reporter = Reporter.terminal()
    with reporter.bar("phantoms", count) as advance:
        write_dataset(
            folder,
            count=count,
            seed=seed,
            shape=(x, y, z),
            scores=scores,
            workers=workers,
            progress=lambda _done, _total: advance(),
        )
    reporter.say(f"{folder}: {counted(count, 'synthetic scan')} written")


def _refuse_other_scans(folder: Path) -> None:
    """The table of somebody's own scans is not replaced."""
    from ctedge.errors import OutputError
    from ctedge.phantom.dataset import LABEL_FILE
    from ctedge_training.datasets.table import read_rows

    table = folder / LABEL_FILE
    if not table.exists():
        return
    others = [row["path"] for _, row in read_rows(table, ("path",)) if not _PHANTOM(row["path"])]
    if others:
        raise OutputError(
            f"{table} lists scans that are no phantoms, and would be replaced",
            found=others[0],
            fix="name another folder",
        )
