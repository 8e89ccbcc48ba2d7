"""The tables of docs/memory.md, made from `memory.json`.

python benchmarks/memory_table.py --write
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import result_file
from page import fill, main

#: What a process may hold at most, by runtime, with a scan of the usual length; a long one, of 750
#: slices, may add as much as `LONG_ADDS_MB`.
LIMITS_MB = {"onnxruntime-cpu": 400, "openvino-cpu": 320}
LONG_ADDS_MB = 80

#: What a prediction, or a load with its close, may leave behind.
SLOPE_BYTES = 1000

#: Memory comes in pages: over fewer looks it may well stand still by chance.
LEAST_SAMPLES = 10

_MB = 1e6

_WORK = {
    ("slope", "array"): "prediction, array",
    ("slope", "nii.gz"): "prediction, .nii.gz",
    ("slope", "dicom"): "prediction, DICOM folder",
    ("cycles", ""): "load and close",
    ("sessions", ""): "the runtime alone, opened and dropped",
}


def rows(document: dict[str, Any]) -> Iterator[str]:
    """The page's tables, line by line."""
    packages = ("onnxruntime", "openvino", "numpy", "nibabel", "pydicom")
    yield f"{result_file.machine_line(document, packages)}."
    yield ""
    yield from peak_rows(document)
    yield ""
    yield from slope_rows(document)


def peak_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown per model, runtime and scan: the largest of its processes."""
    yield "| model | runtime | scan | peak of the first answer, MB | of four | at most | |"
    yield "| --- | --- | --- | ---: | ---: | ---: | --- |"
    usual = min(row["shape"][2] for row in document["peaks"])
    for row in document["peaks"]:
        limit = LIMITS_MB.get(row["runtime"].rpartition("-")[0])
        if limit and row["shape"][2] > usual:
            limit += LONG_ADDS_MB
        first, later = (max(row[key]) / _MB for key in ("first_bytes", "later_bytes"))
        cells = [
            f"`{row['model']}`",
            f"`{row['runtime']}`",
            " x ".join(map(str, row["shape"])),
            f"{first:.0f}",
            f"{later:.0f}",
            str(limit or ""),
            "over" if limit and later > limit else "",
        ]
        yield "| " + " | ".join(cells) + " |"


def slope_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown per work that was repeated."""
    yield (
        "| repeated | model | runtime | times | bytes each (95 %) | R² | of them in use"
        " | held at the end, MB | |"
    )
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |"
    for row in document["slopes"]:
        cells = [
            _WORK[row["what"], row["source"]] + (", explained" if row["explain"] else ""),
            f"`{row['model']}`",
            f"`{row['runtime']}`",
            f"{row['count']}",
            _slope(row),
            f"{row['r2']:.2f}",
            _slope(row["in_use"]) if "in_use" in row else "",
            f"{row['held_bytes'] / _MB:.0f}",
            verdict(row),
        ]
        yield "| " + " | ".join(cells) + " |"


def _slope(line: dict[str, Any]) -> str:
    low, high = line["ci95"]
    return f"{line['bytes_each']:.0f} ({low:.0f} to {high:.0f})"


def verdict(row: dict[str, Any]) -> str:
    """What the interval says: nothing where it lies under the limit."""
    if row["handles_added"] > 0:
        return f"leaves {row['handles_added']} files or threads open"
    low, high = row["ci95"]
    if row["samples"] < LEAST_SAMPLES or low <= SLOPE_BYTES < high:
        return "too few to tell"
    return "grows" if low > SLOPE_BYTES else ""


def page(text: str) -> str:
    """The page with its tables between their marks."""
    return fill(text, "memory", rows(result_file.read("memory")))


PAGES = {"docs/memory.md": page}

if __name__ == "__main__":
    main(PAGES)
