"""The tables of docs/runtimes.md, made from `openvino-options.json`.

python benchmarks/openvino_table.py --write
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import result_file
from page import fill, main


def hint_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown for a precision, a hint, and so many threads that call."""
    packages = ("openvino", "numpy")
    yield f"{result_file.machine_line(document, packages)}."
    yield from result_file.doubts(document)
    yield ""
    yield "| network alone | hint | threads that call | streams | answers a second | p50 | MiB |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    for row in document["hints"]:
        rates = row["answers_per_second"]
        rate = f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        cells = [row["precision"], row["hint"].lower(), row["callers"], row["streams"], rate]
        cells += [f"{row['p50_ms']:.0f} ms", peak]
        yield "| " + " | ".join(map(str, cells)) + " |"


def cache_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown for a precision."""
    yield "| the file's bytes compiled | without a cache | out of a filled one | its size |"
    yield "| --- | ---: | ---: | ---: |"
    for row in document["caches"]:
        plain, cached = (statistics.median(row[name]) for name in ("plain_ms", "cached_ms"))
        size = f"{row['cache_bytes'] / 1e6:.1f} MB"
        yield f"| {row['precision']} | {plain:.0f} ms | {cached:.0f} ms | {size} |"


PLACES = {"hints": hint_rows, "caches": cache_rows}


def page(text: str) -> str:
    """The page with its tables between their marks."""
    document = result_file.read("openvino-options")
    for name, rows in PLACES.items():
        text = fill(text, f"openvino: {name}", rows(document))
    return text


PAGES = {"docs/runtimes.md": page}

if __name__ == "__main__":
    main(PAGES)
