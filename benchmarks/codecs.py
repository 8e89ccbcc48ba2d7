"""CPU of one frame in each compressed syntax: our table of codecs against pydicom's plugins.

    python benchmarks/codecs.py [--data FOLDER] [--output results/codecs.json]

Takes the real files in FOLDER/dicom/transfer_syntaxes, one of each syntax, the first slice of each
chest beside it, and a synthetic frame in each lossless syntax. Medians of CPU milliseconds of one
frame. Of pydicom's plugins those that are installed are named, and may be none.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder

from ctedge.extras import version_of
from ctedge.files import write_atomic
from ctedge.readers.dicom.codecs import CODECS, decode_frame
from ctedge.readers.dicom.values import StoredValues

REPOSITORY = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CTEDGE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
ROUNDS = 15
PACKAGES = (
    *("ctedge", "imagecodecs", "numpy", "pydicom"),
    *("python-gdcm", "pyjpegls", "pylibjpeg-openjpeg", "pillow"),
)


def median_ms(work: Callable[[], Any]) -> float:
    work()
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        taken.append(1e3 * (time.process_time() - began))
    return round(statistics.median(taken), 2)


def real_frames(data: Path) -> Iterator[tuple[str, Any]]:
    folder = data / "dicom"
    singles = sorted((folder / "transfer_syntaxes").glob("CTImage*"))
    series = [sorted(one.iterdir())[0] for one in sorted(folder.glob("*chest*")) if one.is_dir()]
    for path in [*singles, *series]:
        dataset = pydicom.dcmread(path)
        if dataset.file_meta.TransferSyntaxUID in CODECS:
            yield f"{path.parent.name}/{path.name}", dataset


def synthetic_frames() -> Iterator[tuple[str, Any]]:
    sys.path.insert(0, str(REPOSITORY / "tests"))
    from dicom_factory import slices
    from dicom_frames import LOSSLESS

    noise = np.random.default_rng(1).normal(0, 12, (1, 512, 512))
    hu = (np.hypot(*np.mgrid[-2:2:512j, -2:2:512j]) * 700 - 900 + noise).astype(np.int16)
    for syntax in (*LOSSLESS, pydicom.uid.RLELossless):
        yield "synthetic", slices(hu, syntax=syntax)[0]


def plugin_ms(frame: bytes, dataset: Any) -> dict[str, float]:
    """Each of pydicom's plugins that decodes this frame."""
    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except NotImplementedError:
        return {}
    options = {
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": dataset.BitsAllocated,
        "bits_stored": dataset.BitsStored,
        "pixel_representation": dataset.PixelRepresentation,
    }
    found = {}
    for name in decoder.available_plugins:

        def work(name: str = name) -> Any:
            return decoder.as_array(
                encapsulate([frame]), index=0, raw=True, decoding_plugin=name, **options
            )

        try:
            found[name] = median_ms(work)
        except (RuntimeError, NotImplementedError, ValueError):
            continue
    return found


def row(label: str, dataset: Any) -> dict[str, Any]:
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    syntax = dataset.file_meta.TransferSyntaxUID
    values = StoredValues(
        bits_allocated=dataset.BitsAllocated,
        bits_stored=dataset.BitsStored,
        high_bit=dataset.HighBit,
        signed=bool(dataset.PixelRepresentation),
        padding=None,
        slope=1.0,
        intercept=0.0,
        table=None,
    )

    def ours() -> Any:
        return decode_frame(
            frame, syntax=syntax, rows=dataset.Rows, columns=dataset.Columns, values=values
        )

    return {
        "file": label,
        "syntax": syntax.name,
        "uid": str(syntax),
        "shape": [dataset.Rows, dataset.Columns],
        "ours_ms": median_ms(ours),
        "pydicom_plugins_ms": plugin_ms(frame, dataset),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # what old files get wrong
    frames = [*real_frames(options.data), *synthetic_frames()]
    rows = [row(label, dataset) for label, dataset in frames]
    for one in rows:
        plugins = ", ".join(f"{name} {ms}" for name, ms in one["pydicom_plugins_ms"].items())
        print(
            f"{one['uid'][18:]:6} {one['ours_ms']:7.2f} ms   pydicom: {plugins or 'none'}", end=""
        )
        print(f"   {one['file'][-40:]}")
    document = {
        "measured": "CPU milliseconds of one frame, median",
        "rounds": ROUNDS,
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine()},
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
        "rows": rows,
    }
    if options.output:
        write_atomic(options.output, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
