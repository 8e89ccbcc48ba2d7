"""How results look on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from ctedge.errors import CTEdgeError

_BAR_WIDTH = 30


def print_result(document: dict[str, Any]) -> None:
    """One result of `Prediction.to_json` or `SeverityPrediction.to_json`, as a short table."""
    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    if "probability" in document:
        table.add_row("class", f"[bold]{document['label']}[/bold]")
        for label, share in document["confidences"].items():
            table.add_row(f"  {label}", f"{_bar(share)} {share:7.2%}")
    else:
        clipped = f" (raw {document['raw_score']:.1f}, clipped)" if document["clipped"] else ""
        table.add_row("severity", f"[bold]{document['category']}[/bold]")
        table.add_row(
            "  score", f"{_bar(document['score'] / 100)} {document['score']:.1f} of 100{clipped}"
        )
        table.add_row("  CTSI", f"{document['ctsi']} of 25")
    timings = document["timings_ms"]
    table.add_row("time", " + ".join(f"{k} {v:.0f}" for k, v in timings.items() if k != "total"))
    table.add_row("", f"= {timings['total']:.0f} ms on {document['runtime']}")
    for flag in document["quality"]["flags"]:
        table.add_row("note", f"[yellow]{flag}[/yellow]")
    console.print(f"[bold]{document['model']}[/bold]  {document['source']}", soft_wrap=True)
    console.print(table)
    console.print()


def print_error(error: CTEdgeError) -> None:
    """An error on standard error, in the form that every command uses."""
    Console(stderr=True, highlight=False, markup=False).print(f"error: {error}", soft_wrap=True)


def _bar(share: float) -> str:
    filled = round(share * _BAR_WIDTH)
    return "█" * filled + "·" * (_BAR_WIDTH - filled)
