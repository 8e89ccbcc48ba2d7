"""A DICOM folder to the network's input, as scripts do it: pydicom, stack, scipy.

python benchmarks/peers/dicom_script.py FOLDER

Prints seconds and the peak of the process' memory in MiB.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pydicom
from scipy import ndimage


def peak_mib() -> float:
    """Of this process alone: what `getrusage` says may be that of the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def main() -> None:
    start = time.perf_counter()
    slices = [pydicom.dcmread(path) for path in sorted(Path(sys.argv[1]).iterdir())]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    volume = np.stack([one.pixel_array for one in slices], axis=-1).astype(np.float32)
    volume = volume * float(slices[0].RescaleSlope) + float(slices[0].RescaleIntercept)
    volume = np.clip(volume, -1000, 400)
    volume = (volume + 1000) / 1400
    factors = [want / have for want, have in zip((128, 128, 64), volume.shape, strict=True)]
    ndimage.zoom(volume, factors, order=1)
    seconds = time.perf_counter() - start
    print(f"{seconds:.3f} {peak_mib():.0f}")


if __name__ == "__main__":
    main()
