"""The tables of times in docs/reading-dicom.md, made from `reading.json` and `codecs.json`.

python benchmarks/reading_tables.py --write
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import result_file
from page import fill, main
from result_file import machine_line

#: What the rows of `reading.json` are called, in their order.
SERIES = {
    "test_600_slices_uncompressed": "600 slices, uncompressed",
    "test_124_slices_jpeg_lossless": "124 slices, JPEG Lossless",
}


def reading_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown per series."""
    yield machine_line(document, ("pydicom", "imagecodecs", "numpy", "scipy")) + "."
    yield from result_file.doubts(document)
    yield ""
    columns = (
        "ctedge | CV | script | CV | times faster | peak of ctedge, MiB | of the script | share"
    )
    yield f"| series of 512 x 512 | {columns} |"
    yield "| --- |" + " ---: |" * 8
    found = {one["name"]: one["extra_info"] for one in document["benchmarks"]}
    for test, name in SERIES.items():
        row = found.get(test)
        if row is None:
            yield f"| {name} | not taken yet |" + " |" * 7
            continue
        cells = [
            name,
            _seconds(row["ctedge"]),
            _seconds(row["script"]),
            f"{row['times_faster']:.1f}",
            f"{row['peak_mib']:.0f}",
            f"{row['script_peak_mib']:.0f}",
            f"{row['memory_share']:.0%}",
        ]
        yield "| " + " | ".join(cells) + " |"


def _seconds(times: dict[str, Any]) -> str:
    return f"{times['p50_ms'] / 1e3:.2f} s | {times['cv']:.1%}"


def codec_rows(document: dict[str, Any]) -> Iterator[str]:
    """One line of Markdown per frame: ctedge, then each of pydicom's plugins that decodes it."""
    packages = ("imagecodecs", "pydicom", "python-gdcm", "pyjpegls", "pylibjpeg-openjpeg", "pillow")
    yield f"{machine_line(document, packages)}; median of {document['rounds']}."
    yield from result_file.doubts(document)
    yield ""
    yield "| frame | transfer syntax | ctedge, ms | CV | pydicom's plugins, ms |"
    yield "| --- | --- | ---: | ---: | --- |"
    for row in document["rows"]:
        size = " x ".join(map(str, row["shape"]))
        folder, _, name = row["file"].rpartition("/")
        source = name if folder in ("", "transfer_syntaxes") else folder
        plugins = ", ".join(
            f"{name} {found['p50_ms']:.1f}"
            for name, found in sorted(row["pydicom_plugins"].items())
        )
        uid = row["uid"].removeprefix("1.2.840.10008.")
        cells = [
            f"{source.partition('.dcm')[0]}, {size}",
            f"{row['syntax'].partition(' (')[0]} ({uid})",
            f"{row['ctedge']['p50_ms']:.1f}",
            f"{row['ctedge']['cv']:.0%}",
            plugins or "none installed",
        ]
        yield "| " + " | ".join(cells) + " |"


#: Each table by the file that it is made from.
PLACES = {"reading": reading_rows, "codecs": codec_rows}


def page(text: str) -> str:
    """The page with its tables between their marks."""
    for name, rows in PLACES.items():
        text = fill(text, name, rows(result_file.read(name)))
    return text


PAGES = {"docs/reading-dicom.md": page}

if __name__ == "__main__":
    main(PAGES)
