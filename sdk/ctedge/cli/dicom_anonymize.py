"""`ctedge dicom anonymize`: CT without its patients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

#: Files named on the terminal; the journal has them all.
_SHOWN = 10


def anonymize(  # noqa: PLR0913, PLR0917 - one parameter an independent choice
    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder with DICOM files.")],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="An empty or new folder, or that of the same job, which then goes on. Beside it"
            " come OUT.record.json, to hand on, and OUT.private with the key, to keep.",
        ),
    ],
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file",
            metavar="FILE",
            help="32 bytes or more that nobody can guess: jobs under one key give one patient one"
            " pseudonym, one shift of dates.  [default: made in OUT.private]",
        ),
    ] = None,
    dates: Annotated[
        bool, typer.Option("--dates/--no-dates", help="Keep dates, moved back; or remove them.")
    ] = True,
    characteristics: Annotated[
        bool,
        typer.Option(
            "--characteristics/--no-characteristics",
            help="Keep sex, age (at most 90), size, weight, smoking; or remove them.",
        ),
    ] = True,
    descriptors: Annotated[
        bool,
        typer.Option(
            "--descriptors/--no-descriptors",
            help="Keep the known words of descriptions; or remove them.",
        ),
    ] = True,
    skip_suspicious: Annotated[
        bool,
        typer.Option(
            "--skip-suspicious",
            help="Refused images (burned-in or hidden text suspected, no CT) are no failure.",
        ),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.  [default: one a core]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The counts as JSON.")] = False,
) -> None:
    """De-identify CT files: DICOM PS3.15 Annex E, pixels untouched, files by series."""
    import os

    from ctedge.deidentify import Options, deidentify_folder
    from ctedge.progress import bar

    with bar("de-identifying") as begin:
        summary = deidentify_folder(
            source,
            output,
            key_file=key_file,
            options=Options(dates=dates, characteristics=characteristics, descriptors=descriptors),
            workers=workers or os.cpu_count() or 1,
            begin=begin,
        )
    counts = {
        state: len(summary.of(state)) for state in ("written", "refused", "damaged", "passed over")
    }
    if as_json:
        typer.echo(json.dumps({**counts, "record": str(summary.record)}))
    else:
        for state in ("refused", "damaged"):
            for outcome in summary.of(state)[:_SHOWN]:
                typer.echo(f"{state}: {outcome.source}: {'; '.join(outcome.reasons)}", err=True)
            if counts[state] > _SHOWN:
                typer.echo(f"{state}: {counts[state] - _SHOWN} more, see the record", err=True)
        typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()))
        typer.echo(f"record   {summary.record}")
        typer.echo(f"private  {summary.private}  (key and journal: keep them, hand on neither)")
    if counts["damaged"] or (counts["refused"] and not skip_suspicious) or not counts["written"]:
        raise typer.Exit(1)
