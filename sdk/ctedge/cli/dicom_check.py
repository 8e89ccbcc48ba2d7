"""`ctedge dicom check`: is a folder fit to be handed on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

#: Findings printed of one kind and text; --json gives all.
_SHOWN = 5


def check(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder with de-identified DICOM files.")
    ],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.  [default: one a core]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every finding as JSON.")] = False,
) -> None:
    """Look for identifying attributes and names, unlike slices, and numbers out of place."""
    import os
    from dataclasses import asdict

    from ctedge.deidentify import check_folder
    from ctedge.progress import bar

    with bar("checking") as begin:
        findings = check_folder(folder, workers=workers or os.cpu_count() or 1, begin=begin)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        from ctedge.errors import counted

        places: dict[tuple[str, str], list[str]] = {}
        for finding in findings:
            places.setdefault((finding.kind, finding.what), []).append(finding.where)
        for (kind, what), where in places.items():
            shown = ", ".join(where[:_SHOWN])
            more = f" and {len(where) - _SHOWN} more" if len(where) > _SHOWN else ""
            typer.echo(f"{kind}: {what}: {shown}{more}")
        typer.echo(counted(len(findings), "finding"))
    if findings:
        raise typer.Exit(1)
