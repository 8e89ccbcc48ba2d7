"""How well and how fast the lungs of phantoms are found, by how much of them is diseased.

    python benchmarks/lungs.py -o benchmarks/results/lungs.json

One row an involvement class at a coarse shape, and the time of a full-size scan in CPU seconds:
wall time would say more about what else the machine does.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import result_file

from ctedge import CTScan, segment_lungs
from ctedge.bench.machine import BenchMachine
from ctedge.phantom import Phantom, draw_patient, render

SHAPE = (128, 128, 48)
FULL_SHAPE = (512, 512, 300)
#: None is as the generator draws patients: half of them healthy, the others 1 to 60 %.
SHARES = (None, 0.0, 0.1, 0.3, 0.6)

#: Patients that nobody looked at while the method was made.
FIRST_SEED = 200

REPEATS = 3

PACKAGES = ("scipy",)


def scan_of(phantom: Phantom) -> CTScan:
    return CTScan.from_oriented(phantom.voxels, phantom.affine, source="phantom")


def dice(found: Any, truth: Any) -> float:
    return float(2 * (found & truth).sum() / (found.sum() + truth.sum()))


def involvement(share: float | None, seeds: range) -> dict[str, Any]:
    """Dice over the patients of one class."""
    values, missed, spilt = [], [], []
    for seed in seeds:
        phantom = render(draw_patient(seed, lesion_share=share), shape=SHAPE)
        scan, truth = scan_of(phantom), phantom.lung_mask
        found = segment_lungs(scan).on(scan)
        values.append(dice(found, truth))
        missed.append(float((truth & ~found).sum() / truth.sum()))
        spilt.append(float((found & ~truth).sum() / truth.sum()))
    return {
        "involvement": share,
        "dice_mean": round(float(np.mean(values)), 4),
        "dice_median": round(float(np.median(values)), 4),
        "dice_least": round(min(values), 4),
        "least_of_seed": list(seeds)[int(np.argmin(values))],
        "below_0.97": int(np.sum(np.array(values) < 0.97)),
        "missed_share": round(float(np.mean(missed)), 4),
        "spilt_share": round(float(np.mean(spilt)), 4),
    }


def full_size(*, full_resolution: bool, phantom: Phantom) -> dict[str, Any]:
    """CPU seconds and Dice of a scan as scanners make it; slices of 1 mm."""
    scan, seconds = scan_of(phantom), []
    for _ in range(REPEATS):
        start = time.process_time()
        lungs = segment_lungs(scan, full_resolution=full_resolution)
        seconds.append(time.process_time() - start)
    return {
        "shape": list(scan.shape),
        "full_resolution": full_resolution,
        "cpu_seconds_median": round(float(np.median(seconds)), 3),
        "cpu_seconds_most": round(max(seconds), 3),
        "dice": round(dice(lungs.on(scan), phantom.lung_mask), 4),
    }


def thin_slices(seed: int) -> Phantom:
    """A patient scanned in as many slices of 1 mm as are asked for."""
    patient = draw_patient(seed, lesion_share=0.1)
    scanner = dataclasses.replace(
        patient.scanner, spacing_mm=1.0, thickness_mm=1.25, slices=FULL_SHAPE[2]
    )
    return render(dataclasses.replace(patient, scanner=scanner))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=40)
    options = parser.parse_args()
    machine = BenchMachine.here()
    seeds = range(FIRST_SEED, FIRST_SEED + options.seeds)
    phantom = thin_slices(FIRST_SEED)
    document = {
        "shape": list(SHAPE),
        "seeds": [seeds.start, seeds.stop - 1],
        "rows": [involvement(share, seeds) for share in SHARES],
        "full_size": [full_size(full_resolution=fine, phantom=phantom) for fine in (False, True)],
    }
    result_file.write(
        options.output,
        machine=machine,
        packages=PACKAGES,
        body=document,
    )


if __name__ == "__main__":
    main()
