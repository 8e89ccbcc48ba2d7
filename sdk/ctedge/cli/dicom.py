"""`ctedge dicom`: what to do with DICOM files before a model sees them."""

from __future__ import annotations

import typer

from ctedge.cli.dicom_anonymize import anonymize
from ctedge.cli.dicom_check import check
from ctedge.cli.dicom_list import list_series
from ctedge.cli.group import Group

app = typer.Typer(
    cls=Group,
    help="List, de-identify and check DICOM files.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _group() -> None:
    """List, de-identify and check DICOM files."""


app.command("list")(list_series)
app.command()(anonymize)
app.command()(check)
