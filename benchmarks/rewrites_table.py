"""The tables of docs/rewrites.md, made from `rewrites.json`; a test holds the page to them.

python benchmarks/rewrites_table.py --write
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "rewrites.json"
PAGE = Path(__file__).parent.parent / "docs" / "rewrites.md"


def rewrite_rows(document: dict[str, Any] | None = None) -> Iterator[str]:
    """One line of Markdown per graph, runtime and precision."""
    document = document or json.loads(RESULT.read_text())
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


def predict_rows(document: dict[str, Any] | None = None) -> Iterator[str]:
    """One line of Markdown per candidate of `ctedge predict`."""
    document = document or json.loads(RESULT.read_text())
    size = " x ".join(map(str, document["predict_shape"]))
    yield f"| `ctedge predict` of a {size} .nii.gz | peak, MB |"
    yield "| --- | ---: |"
    for row in document["predict"]:
        yield f"| {row['model']}, {row['runtime']} {row['precision']} | {row['peak_mb']} |"


def page(text: str) -> str:
    """The page with its tables between their marks."""
    for mark, rows in (("rewrites", rewrite_rows()), ("predict", predict_rows())):
        table = "\n".join(rows)
        text = re.sub(
            rf"(<!-- {mark} -->\n).*?(<!-- end -->)", rf"\1\n{table}\n\n\2", text, flags=re.DOTALL
        )
    return text


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(PAGE.read_text()))
    else:
        print("\n".join([*rewrite_rows(), "", *predict_rows()]))
