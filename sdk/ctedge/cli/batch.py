"""`ctedge batch`: a table of scans, on all cores or on a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ctedge.cli import INTERRUPTED
from ctedge.cli.options import (
    AssessOption,
    DeviceOption,
    PrecisionOption,
    RuntimeOption,
    StrictOption,
)

if TYPE_CHECKING:
    from ctedge.batch import BatchSummary

#: Failures named on the terminal; the results have them all.
_SHOWN = 10


def batch(  # noqa: PLR0913, PLR0917 - one parameter an option
    scans: Annotated[
        Path,
        typer.Argument(
            metavar="SCANS_CSV",
            help="A table with a column `scan`: NIfTI files or DICOM folders, relative to the"
            " table. A column `id` names them; `series`, `acquisition`, `select` and `on_gap`"
            " choose in DICOM, as of `ctedge predict`; all columns go into the results.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FILE.parquet", help="The results, a row a scan, in order."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="BUNDLE", help="A bundle folder or the name of a shipped one."
        ),
    ] = "pneumonia",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
    precision: PrecisionOption = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes, each with the model.  [default: what cores or GPUs allow]"
        ),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads-per-worker", min=1, help="Cores of each worker.")
    ] = 1,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Join this Ray cluster.  [default: this machine alone]"
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same command was stopped.")
    ] = False,
    retry_failed: Annotated[
        bool,
        typer.Option("--retry-failed", help="As --resume, and judge again the scans that failed."),
    ] = False,
    assess: AssessOption = False,
    strict: StrictOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON.")] = False,
) -> None:
    """Judge a table of scans in many processes; one that fails is recorded, and stops no other."""
    from ctedge.batch import run_batch
    from ctedge.batch.journal import folder_of
    from ctedge.bundle.model_bundle import ModelBundle
    from ctedge.cli.output import print_origin
    from ctedge.cli.outputs import require_outside
    from ctedge.progress import bar

    require_outside({"--output": output}, [model])
    try:
        with bar("judging") as begin:
            summary = run_batch(
                scans,
                output,
                model=model,
                device=device,
                runtime=runtime,
                precision=precision,
                assess=assess,
                strict=strict,
                workers=workers,
                threads=threads,
                address=address,
                resume=resume,
                retry_failed=retry_failed,
                begin=begin,
            )
    except (KeyboardInterrupt, SystemExit) as end:  # Ctrl-C, SIGTERM
        kept = "finished scans are kept: go on with the same command and --resume"
        begun = folder_of(output).exists()
        typer.echo(f"stopped; {kept if begun else 'no scan was finished'}", err=True)
        if isinstance(end, SystemExit):
            raise
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json.dumps(_document(summary)))
    else:
        _print(summary)
        print_origin([ModelBundle.load(model)])
    if summary.failures:
        raise typer.Exit(1)


def _document(summary: BatchSummary) -> dict[str, object]:
    return {
        "output": str(summary.output),
        "answered": summary.answered,
        "failed": len(summary.failures),
        "errors": summary.errors,
        "runtimes": dict(summary.runtimes),
    }


def _print(summary: BatchSummary) -> None:
    from ctedge.errors import printable

    for failure in summary.failures[:_SHOWN]:
        typer.echo(printable(f"failed: {failure}"), err=True)
    if len(summary.failures) > _SHOWN:
        typer.echo(f"failed: {len(summary.failures) - _SHOWN} more, see the results", err=True)
    on = ", ".join(f"{count} on {name}" for name, count in sorted(summary.runtimes.items()))
    typer.echo(f"{summary.answered} answered{f' ({on})' if on else ''}")
    if summary.failures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(summary.errors.items()))
        typer.echo(f"{len(summary.failures)} failed ({kinds})")
    typer.echo(f"results  {summary.output}")
