"""How results look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctedge.bundle import ModelBundle
from ctedge.errors import CTEdgeError

_BAR_WIDTH = 30


def print_result(document: dict[str, Any]) -> None:
    """One result of `Prediction.to_json` or `SeverityPrediction.to_json`, as a short table."""
    rows = _class_rows(document) if "probability" in document else _severity_rows(document)
    timings = document["timings_ms"]
    stages = " + ".join(f"{stage} {ms:.0f}" for stage, ms in timings.items() if stage != "total")
    rows.append(("time", Text(f"{stages} = {timings['total']:.0f} ms on {document['runtime']}")))
    rows += [("note", Text(flag, "yellow")) for flag in document["quality"]["flags"]]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), value)
    # Text, not markup: paths and names come from outside and may hold brackets.
    console = Console(highlight=False)
    console.print(Text.assemble((document["model"], "bold"), "  ", document["source"]))
    console.print(table)
    console.print()


def print_error(error: CTEdgeError) -> None:
    """An error on standard error, in the form that every command uses."""
    Console(stderr=True, highlight=False, markup=False).print(f"error: {error}", soft_wrap=True)


def print_origin(bundles: Iterable[ModelBundle]) -> None:
    """The last line under any answer: what it may not be used for, and what the models know."""
    synthetic = [
        bundle.name
        for bundle in bundles
        if bundle.provenance.get("run", {}).get("data", {}).get("synthetic")
    ]
    origin = f" Trained on synthetic chests only: {', '.join(synthetic)}." if synthetic else ""
    console = Console(highlight=False, markup=False)
    console.print(f"Research software, not a medical device.{origin}", style="dim", soft_wrap=True)


def _class_rows(document: dict[str, Any]) -> list[tuple[str, Text]]:
    rows = [("class", Text(document["label"], "bold"))]
    for label, share in document["confidences"].items():
        rows.append((f"  {label}", Text(f"{_bar(share)} {share:7.2%}")))
    return rows


def _severity_rows(document: dict[str, Any]) -> list[tuple[str, Text]]:
    score = document["score"]
    clipped = f" (raw {document['raw_score']:.1f}, clipped)" if document["clipped"] else ""
    return [
        ("severity", Text(document["category"], "bold")),
        ("  score", Text(f"{_bar(score / 100)} {score:.1f} of 100{clipped}")),
        ("  CTSI", Text(f"{document['ctsi']} of 25")),
    ]


def _bar(share: float) -> str:
    filled = round(share * _BAR_WIDTH)
    return "█" * filled + "·" * (_BAR_WIDTH - filled)
