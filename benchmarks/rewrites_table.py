"""The tables of docs/rewrites.md, made from `rewrites.json`.

python benchmarks/rewrites_table.py --write
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import result_file
from page import fill, main


def graph_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown per graph, runtime and precision."""
    packages = ("onnxruntime", "openvino", "numpy")
    yield f"{result_file.machine_line(document, packages)}; median of {document['rounds']} rounds."
    yield from result_file.doubts(document)
    yield ""
    yield "| model | runtime | graph | batch | ms a volume | peak, MB | answers move by |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    for row in document["rows"]:
        moved = row["largest_difference"]
        cells = [
            row["model"],
            f"{row['runtime']} {row['precision']}",
            row["graph"],
            str(row["batch"]),
            f"{row['ms_a_volume']:.0f}",
            str(row["peak_mb"]),
            "0" if moved == 0 else f"{moved:.0e}",
        ]
        yield "| " + " | ".join(cells) + " |"


def predict_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown per candidate of `ctedge predict`."""
    size = " x ".join(map(str, document["predict_shape"]))
    yield f"| `ctedge predict` of a {size} .nii.gz | peak, MB |"
    yield "| --- | ---: |"
    for row in document["predict"]:
        yield f"| {row['model']}, {row['runtime']} {row['precision']} | {row['peak_mb']} |"


PLACES = {"graphs": graph_rows, "predict": predict_rows}


def page(text: str) -> str:
    """The page with its tables between their marks."""
    document = result_file.read("rewrites")
    for name, rows in PLACES.items():
        text = fill(text, f"rewrites: {name}", rows(document))
    return text


PAGES = {"docs/rewrites.md": page}

if __name__ == "__main__":
    main(PAGES)
