"""What the reader makes of real DICOM: one row a folder, and one a file where files stand alone.

    python benchmarks/real_scans.py -o benchmarks/results/real-scans.json

CTEDGE_TEST_DATA names the folder with `dicom/` in it. Facts only: no voxel and no name is kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import result_file

from ctedge import CTEdgeError, preprocess, read_scan
from ctedge.bench.machine import BenchMachine
from ctedge.errors import counted
from ctedge.readers.dicom.gather import gather
from ctedge.readers.dicom.pixels import check_decodable, decode
from ctedge.readers.dicom.series import find_series

#: Folders that hold one study, with what is said to `read_scan`.
FOLDERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("covid_chest", {}),
    ("noncovid_chest_two_acquisitions", {}),
    ("noncovid_chest_two_acquisitions", {"acquisition": 2}),
    ("noncovid_chest_two_acquisitions", {"acquisition": 3}),
    ("phantom_chest_jpeg2000", {}),
    ("scout_and_secondary_capture", {}),
    ("oddities", {}),
)

#: Folders whose files stand alone.
COLLECTIONS = ("transfer_syntaxes", "oddities", "scout_and_secondary_capture")

PACKAGES = ("pydicom", "imagecodecs")


def slice_row(path: Path, label: str) -> dict[str, Any]:
    """A file that stands alone: is its one slice decoded, and to which HU?"""
    facts: dict[str, Any] = {"source": label, "said": ""}
    try:
        (series,) = find_series(gather(path)).series
        image = series.images[0]
        slices = series.slices()
        check_decodable(
            {image.syntax: image.syntax_name},
            label=label,
            bits_stored={one.values.bits_stored for one in slices},
        )
        pixels = [decode(one) for one in slices]
    except CTEdgeError as error:
        found = str(error.found or "").replace(f"{path}: ", "").replace(str(path), "")
        what = error.what.replace(str(path), label).removeprefix(f"{label}: ")
        return facts | {"answer": type(error).__name__, "what": what, "found": found[:400]}
    rows, columns = pixels[0].shape
    low, high = min(float(p.min()) for p in pixels), max(float(p.max()) for p in pixels)
    what = f"{columns} x {rows} pixels, {low:.0f} to {high:.0f} HU"
    return facts | {"answer": "a slice", "what": what, "found": image.syntax_name}


def row(source: Path, label: str, options: dict[str, Any]) -> dict[str, Any]:
    said = ", ".join(f"{name}={value!r}" for name, value in options.items())
    facts: dict[str, Any] = {"source": label, "said": said}
    try:
        scan = read_scan(source, **options)
        preprocess(scan)
    except CTEdgeError as error:
        where = str(source)
        what = error.what.replace(f"{where}: ", "").replace(where, label)
        found = str(error.found or "").replace(where, label)
        return facts | {"answer": type(error).__name__, "what": what, "found": found[:400]}
    x, y, z = scan.spacing_mm
    return facts | {
        "answer": "a volume",
        "what": f"{' x '.join(map(str, scan.shape))} voxels of {x:.3f} x {y:.3f} x {z:.3f} mm",
        "found": f"{counted(len(scan.excluded), 'file')} left out" if scan.excluded else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    scans = result_file.scans()
    if scans is None:
        parser.error(result_file.NO_SCANS)
    machine = BenchMachine.here()
    root = scans / "dicom"
    rows = [row(root / name, f"{name}/", said) for name, said in FOLDERS]
    for name in COLLECTIONS:
        paths = sorted((root / name).iterdir())
        rows += [slice_row(path, f"{name}/{path.name}") for path in paths]
    result_file.write(
        options.output,
        command=result_file.typed(reads_scans=True),
        machine=machine,
        packages=PACKAGES,
        body={"rows": rows},
    )


if __name__ == "__main__":
    main()
