"""How results look on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctedge.bundle import ModelBundle
from ctedge.errors import CTEdgeError

_BAR_WIDTH = 30

#: Slices shown of a scan: those of the highest probability.
_SLICES_SHOWN = 5

#: A threshold of one half is what everyone expects, and is not mentioned.
_HALF = 0.5


def print_result(document: dict[str, Any]) -> None:
    """One result, as the `to_json` of any door's prediction gives it, as a short table."""
    rows = _rows_of(document)
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


def _rows_of(document: dict[str, Any]) -> list[tuple[str, Text]]:
    if "slices" in document:
        return _slice_rows(document)
    return _class_rows(document) if "probability" in document else _severity_rows(document)


def _class_rows(document: dict[str, Any]) -> list[tuple[str, Text]]:
    rows = [("class", Text(document["label"], "bold"))]
    for label, share in document["confidences"].items():
        rows.append((f"  {label}", Text(f"{_bar(share)} {share:7.2%}")))
    return rows + _threshold_rows(document)


def _slice_rows(document: dict[str, Any]) -> list[tuple[str, Text]]:
    slices = sorted(document["slices"], key=lambda answer: -answer["probability"])
    if len(slices) == 1:
        rows = [("class", Text(slices[0]["label"], "bold"))]
    else:
        counts = Counter(answer["label"] for answer in slices)
        said = ", ".join(f"{count} {label}" for label, count in counts.items())
        rows = [("slices", Text(f"{len(slices)} judged: {said}", "bold"))]
    for answer in slices[:_SLICES_SHOWN]:
        where = "" if answer["z_mm"] is None else f" at z {answer['z_mm']:.1f} mm"
        share = f"{_bar(answer['probability'])} {answer['probability']:7.2%}"
        rows.append((f"  slice {answer['index']}", Text(f"{share} {answer['label']}{where}")))
    if len(slices) > _SLICES_SHOWN:
        rows.append(("", Text(f"the {_SLICES_SHOWN} highest; --json gives all", "dim")))
    return rows + _threshold_rows(document)


def _threshold_rows(document: dict[str, Any]) -> list[tuple[str, Text]]:
    if document["threshold"] == _HALF:
        return []
    return [("  threshold", Text(f"{document['threshold']:.4g}, chosen on validation data"))]


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
