"""How results look on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import CTEdgeError, printable

_BAR_WIDTH = 30

#: Slices shown of a scan: those of the highest probability.
_SLICES_SHOWN = 5

#: A threshold of one half is what everyone expects, and is not mentioned.
_HALF = 0.5


def shown(*parts: tuple[str, str]) -> Text:
    """One line of parts, each with its style, without what would steer a terminal.

    Text, not markup: paths and names come from outside, and may hold brackets or worse.
    """
    return Text.assemble(*((printable(text).replace("\n", "\\n"), look) for text, look in parts))


def print_result(document: dict[str, Any]) -> None:
    """One result, as the `to_json` of any door's prediction gives it, as a short table."""
    rows = _rows_of(document)
    timings = document["timings_ms"]
    stages = " + ".join(f"{stage} {ms:.0f}" for stage, ms in timings.items() if stage != "total")
    rows.append(("time", Text(f"{stages} = {timings['total']:.0f} ms on {document['runtime']}")))
    rows += _explanation_rows(document["explanation"])
    rows += _flag_rows(document["quality"])
    _print_table(document["model"], document["source"], rows)


def print_quality(document: dict[str, Any]) -> None:
    """What `ctedge assess` saw of one scan, as a short table."""
    quality = document["quality"]
    rows = [*_measure_rows(quality), *_flag_rows(quality)]
    if not quality["flags"]:
        rows.append(("", Text("nothing stands out", "green")))
    _print_table("assess", document["source"], rows)


def _print_table(title: str, source: str, rows: Iterable[tuple[str, Text]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(name), value)
    console = Console(highlight=False)
    console.print(shown((title, "bold"), ("  ", ""), (source, "")))
    console.print(table)
    console.print()


def _explanation_rows(explanation: dict[str, Any] | None) -> list[tuple[str, Text]]:
    """What kind of map was drawn, and where it is hottest."""
    if explanation is None:
        return []
    place = "voxel " + ", ".join(map(str, explanation["peak_voxel"]))
    if explanation["peak_mm"] is not None:
        place += " (" + ", ".join(f"{mm:.0f}" for mm in explanation["peak_mm"]) + " mm RAS)"
    return [("explanation", Text(f"{explanation['method']}, hottest at {place}"))]


def _flag_rows(quality: dict[str, Any]) -> list[tuple[str, Text]]:
    """Red flags first."""
    flags = sorted(quality["flags"], key=lambda flag: flag["severity"] != "red")
    looks = {"red": ("red flag", "bold red"), "note": ("note", "yellow")}
    said = [(*looks[flag["severity"]], flag["message"]) for flag in flags]
    return [(name, shown((message, look))) for name, look, message in said]


def _measure_rows(quality: dict[str, Any]) -> list[tuple[str, Text]]:
    lungs, image, field = quality["lungs"], quality["image"], quality["field_mm"]
    size = "voxel size not stated"
    if field is not None:
        size = f"{quality['spacing_mm'][2]:g} mm apart, field {field[0]:.0f} x {field[1]:.0f} mm"
    rows = [
        ("slices", f"{quality['slices']}, {size}"),
        ("air", _number(image["air_peak_hu"], "{:.0f} HU")),
        ("soft tissue", _number(image["tissue_peak_hu"], "{:.0f} HU")),
        ("lungs", "none" if lungs is None else _volumes(lungs["volume_ml"])),
    ]
    if lungs is not None:
        ends = f"top {lungs['top_share']:.0%}, bottom {lungs['bottom_share']:.0%}"
        rows.append(("  at the ends", f"{ends} of the largest section"))
        rows.append(("  density", _number(image["lung_hu"], "{:.0f} HU")))
        rows.append(("  between them", _number(image["mediastinum_hu"], "{:.0f} HU")))
    frequency = _number(image["noise_frequency_per_mm"], ", {:.2f} cycles/mm", none="")
    rows.append(("noise", _number(image["noise_hu"], "{:.1f} HU") + frequency))
    rows.append(("metal", _number(image["metal_ml"], "{:.1f} mL")))
    return [(name, Text(value)) for name, value in rows]


def _number(value: float | None, form: str, *, none: str = "not measured") -> str:
    return none if value is None else form.format(value)


def _volumes(volume: dict[str, float] | None) -> str:
    if volume is None:
        return "volume not known"
    return f"{volume['right']:.0f} + {volume['left']:.0f} mL (right + left)"


def print_error(error: CTEdgeError) -> None:
    """An error on standard error, in the form that every command uses."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(f"error: {error}", soft_wrap=True)


def print_origin(bundles: Iterable[ModelBundle]) -> None:
    """The last line under any answer: what it may not be used for, and what the models know."""
    synthetic = [
        bundle.name
        for bundle in bundles
        if bundle.provenance.get("run", {}).get("data", {}).get("synthetic")
    ]
    origin = f" Trained on synthetic chests only: {', '.join(synthetic)}." if synthetic else ""
    console = Console(highlight=False, markup=False, emoji=False)
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
    rows = [
        ("severity", Text(document["category"], "bold")),
        ("  score", Text(f"{_bar(score / 100)} {score:.1f} of 100{clipped}")),
        ("  CTSI", Text(f"{document['ctsi']} of 25")),
    ]
    if document["lungs"] is not None:
        rows += _lung_rows(document["lungs"])
    return rows


def _lung_rows(lungs: dict[str, Any]) -> list[tuple[str, Text]]:
    """Volumes, and shares of either lung; by thresholds, so that healthy lungs are not at zero."""
    rows = [("  lungs", Text(_volumes(lungs["volume_ml"])))]
    for name, key in (("ground glass", "ground_glass"), ("dense", "dense")):
        share = lungs[key]
        said = f"{share['right']:.0%} right, {share['left']:.0%} left"
        rows.append((f"  {name}", Text(f"{said} of the lung's volume")))
    return rows


def _bar(share: float) -> str:
    filled = round(share * _BAR_WIDTH)
    return "█" * filled + "·" * (_BAR_WIDTH - filled)
