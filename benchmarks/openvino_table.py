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
    columns = ("streams", "answers a second", "p50", "CV", "MiB")
    yield f"| network alone | hint | threads that call | {' | '.join(columns)} |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for row in document["hints"]:
        rates = row["answers_per_second"]
        rate = f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}"
        cells = [row["precision"], row["hint"].lower(), row["callers"], row["streams"], rate]
        cells += [f"{row['answer']['p50_ms']:.0f} ms", f"{row['answer']['cv']:.1%}", peak]
        yield "| " + " | ".join(map(str, cells)) + " |"


def cache_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown for a precision."""
    columns = ("without a cache", "CV", "out of a filled one", "CV", "its size")
    yield f"| the file's bytes compiled | {' | '.join(columns)} |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    for row in document["caches"]:
        times = [
            f"{row[name]['p50_ms']:.0f} ms | {row[name]['cv']:.1%}" for name in ("plain", "cached")
        ]
        yield f"| {row['precision']} | {' | '.join(times)} | {row['cache_bytes'] / 1e6:.1f} MB |"


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
