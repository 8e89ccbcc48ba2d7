"""The tables of docs/speed.md, made from `latency.json`.

python benchmarks/latency_tables.py --write
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import result_file
from latency_targets import target_rows
from latency_views import View
from page import fill, main

_STAGE_NAMES = {"inference": "inference, with copies", "total": "**total**"}


def machine_rows(view: View) -> Iterator[str]:
    machine = view.document["machine"]
    clock = machine["mhz"] or machine["mhz_most"]
    clocks = "clocks not told" if clock is None else f"{clock:.0f} MHz"
    if machine["governors"]:
        clocks += f", governor {', '.join(machine['governors'])}"
    load = machine["load"]
    yield f"{result_file.machine_line(view.document, machine['versions'])}."
    flags = ", ".join(machine["flags"])
    yield f"{machine['system']}, {machine['cores']} cores in all, {clocks}; {flags}."
    busy = "load not told" if load is None else f"load {load:.2f} before the start"
    yield f"{view.document['started']}, {view.document['minutes']:g} minutes, {busy}."
    yield from result_file.doubts(view.document)


def peer_rows(view: View) -> Iterator[str]:
    yield "| peer | import; load | runs on | versions |"
    yield "| --- | ---: | --- | --- |"
    for fact in view.document["peers"]:
        if fact["missing"] is not None:
            yield f"| {fact['peer']} | | | missing: {_plain(fact['missing'])} |"
            continue
        versions = ", ".join(f"{name} {number}" for name, number in fact["versions"].items())
        took = f"{_time(fact['import_ms'])}; {_time(fact['load_ms'])}"
        yield f"| {fact['peer']} | {took} | {fact['ran'] or ''} | {versions} |"


def scan_rows(view: View) -> Iterator[str]:
    """A table a scan: stages with their ratios, whole ways, cold, memory, and the answer."""
    for number, scan in enumerate(view.scans):
        yield from [""] if number else []
        yield f"**{scan}**"
        yield ""
        columns = list(_COLUMNS if view.cold(view.published, scan) else _WARM_COLUMNS)
        yield f"| | {' | '.join(columns)} |"
        yield "| --- |" + " ---: |" * len(columns)
        for peer in view.peers:
            cells = _scan_cells(view, peer, scan)
            yield f"| {peer} | " + " | ".join(cells.get(name, "") for name in columns) + " |"


_WARM_COLUMNS = (
    "file to input", "voxels to input", "network", "file to answer", "p95", "CV",
    "voxels to answer", "answer", "off by",
)  # fmt: skip
_COLUMNS = (*_WARM_COLUMNS, "start to answer", "peak MiB")


def _scan_cells(view: View, peer: str, scan: str) -> dict[str, str]:
    """Cells by column; of a peer that is missing the first one says why."""
    row, published = view.warm(peer, scan), view.warm(view.published, scan)
    if row is None or row["missing"] is not None:
        return {_WARM_COLUMNS[0]: "missing: " + ("" if row is None else _plain(row["missing"]))}
    total, off = row["stages"]["total"], row["difference"]
    cells = {
        "file to input": _with_ratio(view, row, published, "input"),
        "voxels to input": _with_ratio(view, row, published, "input in memory"),
        "network": _with_ratio(view, row, published, "inference"),
        "file to answer": _with_ratio(view, row, published, "total"),
        "p95": _time(total["p95_ms"]),
        "CV": f"{total['cv']:.1%}",
        "voxels to answer": _with_ratio(view, row, published, "in memory"),
        "answer": f"{row['probability']:.4f}",
        "off by": "" if off is None else f"{off:.1g}",
    }
    cold = view.cold(peer, scan)
    if cold is not None and cold["missing"] is None:
        cells["start to answer"] = _with_ratio(view, cold, view.cold(view.published, scan), "cold")
        cells["peak MiB"] = f"{cold['peak_mib']:.0f}"
    return cells


def network_rows(view: View) -> Iterator[str]:
    yield "| | p50 | p95 | p99 | CV | n | times faster than Keras |"
    yield "| --- |" + " ---: |" * 6
    for peer in view.peers:
        row = view.network(peer)
        if row is None or row["missing"] is not None:
            yield f"| {peer} | missing |" + " |" * 5
            continue
        found, ratio = row["stages"]["network"], view.network_ratio(peer)
        said = "" if ratio is None else f"{ratio:.2f}"
        yield f"| {peer} | {_quantiles(found)} | {said} |"


def budget_rows(view: View) -> Iterator[str]:
    yield "| scan | runs on | stage | p50 | p95 | p99 | CV | n |"
    yield "| --- | --- | --- |" + " ---: |" * 5
    for row in view.document["budget"]:
        if row["missing"] is not None:
            yield f"| {row['scan']} | {row['candidate']} | missing: {_plain(row['missing'])} |" + (
                " |" * 5
            )
            continue
        for stage, found in row["stages"].items():
            name = _STAGE_NAMES.get(stage, stage)
            yield f"| {row['scan']} | {_ran(row)} | {name} | {_quantiles(found)} |"


def cold_rows(view: View) -> Iterator[str]:
    start = view.document["cold_start"]
    yield f"| {start['scan']}, {start['candidate']} | p50 | p95 | share of the first answer |"
    yield "| --- | ---: | ---: | ---: |"
    whole = start["parts"]["first answer"]["p50_ms"]
    for name, found in start["parts"].items():
        share = "" if name == "close and end" else f"{found['p50_ms'] / whole:.0%}"
        shown = f"**{name}**" if name == "first answer" else name
        yield f"| {shown} | {_time(found['p50_ms'])} | {_time(found['p95_ms'])} | {share} |"
    command = start["command"]
    yield (
        f"| **`ctedge predict`, start to end** | {_time(command['p50_ms'])}"
        f" | {_time(command['p95_ms'])} | |"
    )


def batch_rows(view: View) -> Iterator[str]:
    yield from _swept_rows(view.document["batches"], "batch", "scans at once")


def thread_rows(view: View) -> Iterator[str]:
    yield from _swept_rows(view.document["threads"], "cpus", "CPUs")


def _swept_rows(rows: list[dict[str, Any]], key: str, name: str) -> Iterator[str]:
    yield f"| runs on | {name} | network, p50 | CV | a scan | peak MiB |"
    yield "| --- |" + " ---: |" * 5
    for row in rows:
        if row["missing"] is not None:
            yield f"| {row['candidate']} | {row[key]} | missing: {_plain(row['missing'])} | | | |"
            continue
        found, peak = row["network"], row["peak_mib"]
        cells = [
            _ran(row),
            f"{row[key]}",
            _time(found["p50_ms"]),
            f"{found['cv']:.1%}",
            _time(row["network_per_scan_ms"]),
            "" if peak is None else f"{peak:.0f}",
        ]
        yield "| " + " | ".join(cells) + " |"


PLACES: Mapping[str, Callable[[View], Iterator[str]]] = {
    "machine": machine_rows,
    "targets": target_rows,
    "budget": budget_rows,
    "cold start": cold_rows,
    "ratios": scan_rows,
    "network": network_rows,
    "batches": batch_rows,
    "threads": thread_rows,
    "peers": peer_rows,
}


def page(text: str, document: dict[str, Any] | None = None) -> str:
    """The page with its tables between their marks; default: those of the committed result."""
    view = View(document or result_file.read("latency"))
    for name, rows in PLACES.items():
        text = fill(text, f"latency: {name}", rows(view))
    return text


def _with_ratio(
    view: View, row: dict[str, Any], published: dict[str, Any] | None, stage: str
) -> str:
    """A time, and how many times faster than the published pipeline's it is."""
    if stage not in row["stages"]:
        return ""
    ratio = view.ratio(published, row, stage)
    if ratio is None or row["peer"] == view.published:
        said = ""
    else:
        said = f" ({ratio:.{0 if ratio >= 20 else 1 if ratio >= 1 else 2}f}x)"
    return _time(row["stages"][stage]["p50_ms"]) + said


def _quantiles(found: dict[str, Any]) -> str:
    times = (_time(found[key]) for key in ("p50_ms", "p95_ms", "p99_ms"))
    return " | ".join([*times, f"{found['cv']:.1%}", f"{found['n']}"])


def _ran(row: dict[str, Any]) -> str:
    same = row["candidate"] in (row["ran"], None)
    return str(row["ran"]) if same else f"{row['candidate']}: {row['ran']}"


def _time(ms: float) -> str:
    if ms >= 1000:
        return f"{ms / 1000:.2f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.1f} ms"


def _plain(text: str) -> str:
    return text.replace("|", " ")


PAGES = {"docs/speed.md": page}

if __name__ == "__main__":
    main(PAGES)
