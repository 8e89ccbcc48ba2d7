"""What `predict` and `assess` say of scans that are fit to be judged, and of others that are not.

    python benchmarks/quality_table.py -o benchmarks/results/quality.json

CTEDGE_TEST_DATA names the folder with real scans; without it their rows are left out. Facts only:
no voxel and no name is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import result_file

from ctedge import KERAS_EXAMPLE, CTEdgeError, CTScan, assess, read_scan
from ctedge.bench.machine import BenchMachine
from ctedge.preprocessing import resample
from ctedge.quality import Quality, judge

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import quality_factory as factory

#: Real scans, what is said to `read_scan`, and what they are.
REAL: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("dicom/noncovid_chest_two_acquisitions", {"acquisition": 2}, "a chest, contrast medium"),
    ("dicom/covid_chest", {}, "a chest, COVID-19"),
    ("nifti/covid_chest_raw_hu.nii.gz", {}, "the same, every third slice"),
    ("dicom/phantom_chest_jpeg2000", {}, "a phantom's chest, lungs of open air"),
)

#: Parts of a volume that are no whole chest.
HALVES: dict[str, Any] = {
    "upper": lambda x, z: np.s_[:, :, z // 2 :],
    "lower": lambda x, z: np.s_[:, :, : z // 2],
    "right": lambda x, z: np.s_[: x // 2],
    "left": lambda x, z: np.s_[x // 2 :],
}

#: Synthetic chests: share of the lungs that is diseased, and seeds.
PHANTOMS = ((0.0, range(12)), (0.1, range(12, 18)), (0.3, range(18, 24)), (0.6, range(24, 30)))

#: Seeds of those that are cut in half, or filled.
CUT = range(4)

PACKAGES = ("scipy", "nibabel", "pydicom", "imagecodecs")


def row(name: str, fit: bool, scans: Iterable[CTScan]) -> dict[str, Any]:
    """One row of the table: of one scan its measures, of several how often each flag stands."""
    said: dict[str, Counter[str]] = {
        key: Counter() for key in ("predict_red", "predict_notes", "assess_red", "assess_notes")
    }
    seen: list[Quality] = []
    for scan in scans:
        glance = judge(scan, resample(scan, KERAS_EXAMPLE), spec=KERAS_EXAMPLE)
        full = assess(scan)
        for how, quality in (("predict", glance), ("assess", full)):
            for flag in quality.flags:
                said[f"{how}_{'red' if flag.red else 'notes'}"][flag.code] += 1
        seen.append(full)
    facts = {"scan": name, "fit": fit, "count": len(seen)}
    return facts | {key: dict(codes) for key, codes in said.items()} | measures(seen)


def measures(seen: list[Quality]) -> dict[str, Any]:
    """Least and most of what was measured."""
    values: dict[str, list[float]] = {}
    for quality in seen:
        image, lungs = quality.image, quality.lungs
        volume = None if lungs is None or lungs.volume_ml is None else lungs.volume_ml.both
        for key, value, digits in (
            ("lungs_ml", volume, 0),
            ("air_hu", image and image.air_peak_hu, 0),
            ("tissue_hu", image and image.tissue_peak_hu, 0),
            ("noise_hu", image and image.noise_hu, 1),
            ("cycles_per_mm", image and image.noise_frequency_per_mm, 2),
            ("mediastinum_hu", image and image.mediastinum_hu, 0),
        ):
            if value is not None:
                values.setdefault(key, []).append(round(float(value), digits))
    return {key: [min(of_all), max(of_all)] for key, of_all in values.items()}


def real_rows(root: Path) -> Iterator[dict[str, Any]]:
    for name, options, what in REAL:
        try:
            scan = read_scan(root / name, **options)
        except CTEdgeError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        yield row(f"{Path(name).name}: {what}", True, [scan])
        if name.startswith("nifti"):
            continue
        for part, of_shape in HALVES.items():
            piece = scan.voxels[of_shape(scan.shape[0], scan.shape[2])]
            half = CTScan.from_oriented(piece, scan.affine, source=part)
            yield row(f"{Path(name).name}: its {part} half", False, [half])


def phantom_rows() -> Iterator[dict[str, Any]]:
    for share, seeds in PHANTOMS:
        scans = (factory.scan_of(factory.chest(seed, share)) for seed in seeds)
        yield row(f"{len(seeds)} synthetic chests, {share:.0%} of the lungs diseased", True, scans)
    for part in HALVES:
        halves = (factory.half(part, seed) for seed in CUT)
        yield row(f"{part} halves of {len(CUT)} synthetic chests", False, halves)
    filled = (factory.without_lungs(seed) for seed in CUT)
    yield row(f"{len(CUT)} synthetic chests, lungs filled", False, filled)
    yield row("a head", False, [factory.head()])
    yield row("an abdomen", False, [factory.abdomen()])
    yield row("an abdomen with the bases of the lungs", False, [factory.abdomen(lung_bases=True)])
    yield row("a cylinder of water", False, [factory.water()])


def seeds() -> dict[str, Any]:
    """Of the synthetic chests: by diseased share, and of those that are cut or filled."""
    shares = {f"{share:.0%}": [of.start, of.stop - 1] for share, of in PHANTOMS}
    return {"chests": shares, "halves, filled": [CUT.start, CUT.stop - 1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    machine = BenchMachine.here()
    rows: list[dict[str, Any]] = []
    scans = result_file.scans()
    if scans is not None:
        rows += real_rows(scans)
    rows += phantom_rows()
    result_file.write(
        options.output,
        command=result_file.typed(reads_scans=True),
        machine=machine,
        packages=PACKAGES,
        body={"seeds": seeds(), "rows": rows},
    )


if __name__ == "__main__":
    main()
