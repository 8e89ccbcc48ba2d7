"""`ctedge export precision` and `verify`: only typer is imported here."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ctedge_export.verify import Row


class _Precision(str, enum.Enum):
    """What a bundle's network can be had in besides FP32; typer lists no Literal."""

    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"


def precision(  # noqa: PLR0913, PLR0917 (one parameter an option)
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A NAME.ctedge folder, or a shipped name.")
    ],
    to: Annotated[
        list[_Precision],
        typer.Option("--to", metavar="PRECISION", help="fp16, bf16 or int8; repeatable."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="BUNDLE", help="Write another bundle instead."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="CSV", help="Labelled scans for the gates: path,label,score."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="CSV", help="Scans for the ranges of int8: path."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what stands there already.")
    ] = False,
    keep_failed: Annotated[
        bool, typer.Option("--keep-failed", help="Keep a model that fails its gate: NAME.failed/.")
    ] = False,
) -> None:
    """Add the network in another precision; exit code 3 when it answers otherwise than FP32."""
    from ctedge_export.precision.precision import export_precision

    export_precision(
        bundle,
        [one.value for one in to],
        output=output,
        data=data,
        calibration=calibration,
        overwrite=overwrite,
        keep_failed=keep_failed,
        say=_say,
    )


def verify(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A NAME.ctedge folder, or a shipped name.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="CSV", help="Labelled scans for the gates: path,label,score."
        ),
    ] = None,
) -> None:
    """Check every digest, and run every gate again on what is here; exit code 3 when one fails."""
    from ctedge_export.verify import verify_bundle

    verify_bundle(bundle, data=data, say=_say, show=_show)


def _show(rows: tuple[Row, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("runtime", "gate", "verdict", "figures", box=None, padding=(0, 2, 0, 0))
    for row in rows:
        style = None if row.passed else "bold red"
        table.add_row(
            row.runtime, row.gate, "passed" if row.passed else "FAILED", row.text, style=style
        )
    Console(highlight=False).print(table)


def _say(line: str) -> None:
    """Progress goes to standard error; standard output stays for results."""
    typer.echo(line, err=True)
