"""`ctedge train data`: published data sets, brought and labelled."""

# ruff: noqa: PLR0913, PLR0917 - the arguments of a command are its options
from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ctedge.cli import INTERRUPTED
from ctedge.cli.group import Group

data_app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    help="Bring published data sets, and label them.",
)

_PINNED = re.compile(r"(CT-0\.zip|CT-23\.zip)=([0-9a-fA-F]{64})")


@data_app.callback()
def _data() -> None:
    """Bring published data sets, and label them."""


@data_app.command(short_help="Bring and label the scans of the Keras example.")
def mosmed(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder for the scans and labels.csv.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Of the split into train and validation.")] = 0,
    full: Annotated[
        bool,
        typer.Option("--full", help="Label the whole of MosMedData, which lies in DIR."),
    ] = False,
    sha256: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=HEX", help="Digest that an archive must have: CT-0.zip=..."),
    ] = None,
    overwrite_labels: Annotated[
        bool, typer.Option("--overwrite-labels", help="Replace a labels.csv that differs.")
    ] = False,
    keep_archives: Annotated[
        bool,
        typer.Option("--keep-archives/--remove-archives", help="Keep the archives (2.1 GB)."),
    ] = True,
    base_url: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Bring the CT scans of the Keras example, labelled normal and abnormal.

    Two archives of MosMedData, 1 GB each, are downloaded to DIR, checked, unpacked, and split 70
    to 30 into train and validation. What is in DIR already is kept; an interrupted download goes
    on. MosMedData is licensed CC BY-NC-ND 3.0. Its site hands out the whole of it (1110 studies);
    --full labels that instead, and downloads nothing.
    """
    from ctedge.progress import Reporter
    from ctedge_training.mosmed import labels as data
    from ctedge_training.mosmed.release import Source, bring, remove_archives

    reporter = Reporter.terminal()
    pinned = _pinned(sha256 or [])
    if full:
        if pinned or base_url is not None or not keep_archives:
            raise typer.BadParameter("--full needs no archives: leave their options out")
        rows = data.full_set_rows(folder, seed=seed)
        data.say_full_set_gaps(folder, rows, reporter)
    else:
        reporter.say(data.LICENCE)
        try:
            bring(folder, Source.of(base_url, pinned), reporter=reporter)
        except KeyboardInterrupt:
            reporter.say(f"interrupted; the same command goes on in {folder}")
            raise typer.Exit(INTERRUPTED) from None
        rows = data.subset_rows(folder, seed=seed, reporter=reporter)
    data.write_labels(folder, rows, overwrite=overwrite_labels)
    if not keep_archives:
        remove_archives(folder, reporter=reporter)
    reporter.say(data.summary(folder, rows))


def _pinned(texts: list[str]) -> dict[str, str]:
    pinned: dict[str, str] = {}
    for text in texts:
        found = _PINNED.fullmatch(text)
        if found is None or found[1] in pinned:
            raise typer.BadParameter(
                f"--sha256 {text}: give CT-0.zip=HEX or CT-23.zip=HEX, each once, 64 hex digits"
            )
        pinned[found[1]] = found[2].lower()
    return pinned
