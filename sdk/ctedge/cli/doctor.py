"""`ctedge doctor`: what is installed, what works, what is missing and the line that adds it."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BUNDLE]...", help="Models to look at; else the shipped ones."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Check this machine: packages, runtimes, GPU driver, and what the models would run on."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ctedge.diagnosis import examine

    findings = examine(models or None)
    if as_json:
        typer.echo(json.dumps([finding.to_json() for finding in findings], indent=2))
    else:
        marks = {"ok": ("ok", "green"), "missing": ("--", "dim"), "broken": ("!!", "red")}
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            # Text, not markup: names come from outside, and may hold brackets and colons.
            said = Text(finding.detail)
            if finding.fix:
                said.append(f"\n{finding.fix}", "dim")
            table.add_row(Text(*marks[finding.state]), Text(finding.subject), said)
        Console(highlight=False).print(table)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)
