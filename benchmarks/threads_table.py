"""The tables of docs/batches.md, made from `threads.json`.

python benchmarks/threads_table.py --write
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import result_file
from page import fill, main
from threads_child import PLAIN


def machine_rows(document: dict[str, Any]) -> Iterator[str]:
    packages = ("onnxruntime", "openvino", "numpy", "nibabel")
    yield f"{result_file.machine_line(document, packages)}; {document['minutes']:g} minutes."
    yield from result_file.doubts(document)


def thread_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown for so many CPUs and so many threads that call."""
    yield "| runs on | CPUs | threads that call | answers a second | p50 | p95 | CV | peak MiB |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in document["rows"]:
        if row["way"] == "threads":
            times = [f"{row['answer'][name]:.0f} ms" for name in ("p50_ms", "p95_ms")]
            times.append(f"{row['answer']['cv']:.1%}")
            cells = [_called(row), row["cpus"], row["callers"], _rate(row), *times, _peak(row)]
            yield "| " + " | ".join(map(str, cells)) + " |"


def stream_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown for a way to judge a stream of scans."""
    yield "| scans | runs on | | scans a second | times faster | peak MiB |"
    yield "| --- | --- | --- | ---: | ---: | ---: |"
    rows = [row for row in document["rows"] if row["way"] != "threads"]
    plain = {(str(row["shape"]), row["candidate"]): row for row in rows if row["way"] == PLAIN}
    for row in rows:
        before = plain[str(row["shape"]), row["candidate"]]
        ratio = _median(row) / _median(before)
        shape = " x ".join(map(str, row["shape"]))
        faster = "" if row["way"] == PLAIN else f"{ratio:.2f}"
        cells = [shape, _called(row), f"`{row['way']}`", _rate(row), faster, _peak(row)]
        yield "| " + " | ".join(cells) + " |"


def _called(row: dict[str, Any]) -> str:
    auto = row["candidate"] == "auto"
    return f"auto: {row['ran']}" if auto else str(row["ran"])


def _rate(row: dict[str, Any]) -> str:
    """The median of the rounds, and between what they lay."""
    found = row["scans_per_second"]
    spread = f" ({min(found):.2f} to {max(found):.2f})" if len(found) > 1 else ""
    return f"{_median(row):.2f}{spread}"


def _median(row: dict[str, Any]) -> float:
    return float(statistics.median(row["scans_per_second"]))


def _peak(row: dict[str, Any]) -> str:
    return "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"


PLACES = {"machine": machine_rows, "threads": thread_rows, "streams": stream_rows}


def page(text: str, document: dict[str, Any] | None = None) -> str:
    """The page with its tables between their marks; default: those of the committed result."""
    document = document or result_file.read("threads")
    for name, rows in PLACES.items():
        text = fill(text, f"threads: {name}", rows(document))
    return text


PAGES = {"docs/batches.md": page}

if __name__ == "__main__":
    main(PAGES)
