"""`ctedge export`: only typer is imported here; the work imports what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctedge.cli.group import Group
from ctedge_export.cli.engine import build_engine, inspect
from ctedge_export.cli.precision import precision, verify
from ctedge_export.cli.triton import triton

app = typer.Typer(
    cls=Group,
    name="export",
    help="Turn a trained network into a bundle, every step gated.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def _export() -> None:
    """Turn a trained network into a bundle, every step gated."""


@app.command("onnx")
def export_onnx(  # noqa: PLR0913, PLR0917 (one parameter an option)
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN_FOLDER", help="What `ctedge train` wrote.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The NAME.ctedge to write.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a bundle that stands there.")
    ] = False,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Keep a model that fails its gate: NAME.failed/.")
    ] = False,
    card_notes: Annotated[
        Path | None,
        typer.Option("--card-notes", metavar="FILE", help="Markdown to append to the model card."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="CSV", help="Labelled scans for the task gate: path,label,score."
        ),
    ] = None,
) -> None:
    """Convert a run's Keras network to ONNX; exit code 3 when it answers otherwise than Keras."""
    from ctedge_export.onnx_bundle import export_onnx as run

    run(
        run_folder,
        output,
        overwrite=overwrite,
        keep_failed=keep_failed,
        card_notes=card_notes,
        data=data,
        say=_say,
    )


@app.command("lungmask")
def export_lungmask(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="The published unet_r231-*.pth.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The NAME.ctedge to write.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a bundle that stands there.")
    ] = False,
) -> None:
    """Convert the lung network U-Net R231; exit code 3 when it answers otherwise than torch."""
    from ctedge_export.lungmask.export import export_lungmask as run

    run(weights, output, overwrite=overwrite, say=_say)


app.command("precision")(precision)
app.command("verify")(verify)
app.command("build-engine")(build_engine)
app.command("inspect")(inspect)
app.command("triton")(triton)


def _say(line: str) -> None:
    """Progress goes to standard error; standard output stays for results."""
    typer.echo(line, err=True)
