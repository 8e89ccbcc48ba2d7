"""`ctedge inspect`: what a bundle is, after every digest was checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="A bundle folder, or a shipped bundle's name.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as it stands.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
) -> None:
    """Verify a bundle's digests and operators, and show what it holds."""
    from rich.console import Console
    from rich.table import Table

    from ctedge.bundle import ModelBundle

    verified = ModelBundle.load(Path(bundle) if "/" in bundle else bundle)
    if as_json:
        text = (verified.path / "manifest.json").read_text(encoding="utf-8")
        typer.echo(json.dumps(json.loads(text), indent=2))
        return
    if card:
        typer.echo(verified.card)
        return
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("task", verified.task)
    table.add_row("labels", ", ".join(verified.labels))
    table.add_row("digest", verified.digest)
    spec = verified.spec
    shape = " x ".join(str(n) for n in spec.shape)
    window = f"{spec.hu_window[0]:g} to {spec.hu_window[1]:g} HU"
    table.add_row("spec", f"{spec.name}: {shape}, axes grow towards {spec.axes}, {window}")
    table.add_row(
        "input", f"{verified.input_name} (N, {', '.join(map(str, verified.input_shape))})"
    )
    table.add_row("outputs", ", ".join(verified.output_names))
    for kind in ("metrics", "gates", "provenance"):
        table.add_row(kind, json.dumps(_plain(getattr(verified, kind)), indent=1))
    console.print(f"[bold]{verified.name}[/bold]  every digest holds")
    console.print(table)


def _plain(value: object) -> object:
    return json.loads(json.dumps(value, default=dict))
