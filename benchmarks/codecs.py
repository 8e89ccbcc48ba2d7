"""CPU of one frame in each compressed syntax: our table of codecs against pydicom's plugins.

    python benchmarks/codecs.py -o benchmarks/results/codecs.json
    python benchmarks/reading_tables.py --write

CTEDGE_TEST_DATA names the folder with real scans: of its dicom/transfer_syntaxes one file of each
syntax is taken, and the first slice of each chest beside it; without it their rows are left out. A
synthetic frame stands in each lossless syntax. CPU milliseconds of one frame. Of
pydicom's plugins those that are installed are named.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import result_file
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from times import summary

from ctedge.bench.machine import BenchMachine
from ctedge.readers.dicom.codecs import CODECS, decode_frame
from ctedge.readers.dicom.values import StoredValues

ROUNDS = 15

#: Of the noise in the synthetic frames.
SEED = 1

PACKAGES = (
    *("pydicom", "imagecodecs", "python-gdcm"),
    *("pyjpegls", "pylibjpeg-openjpeg", "pylibjpeg-libjpeg", "pillow"),
)


def cpu_times(work: Callable[[], Any], rounds: int) -> dict[str, Any]:
    work()
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append(1e3 * (time.process_time() - began))
    return summary(taken)


def real_frames() -> Iterator[tuple[str, Any]]:
    scans = result_file.scans()
    if scans is None:
        return
    folder = scans / "dicom"
    singles = sorted((folder / "transfer_syntaxes").glob("CTImage*"))
    series = [sorted(one.iterdir())[0] for one in sorted(folder.glob("*chest*")) if one.is_dir()]
    for path in [*singles, *series]:
        dataset = pydicom.dcmread(path)
        if dataset.file_meta.TransferSyntaxUID in CODECS:
            yield f"{path.parent.name}/{path.name}", dataset


def synthetic_frames() -> Iterator[tuple[str, Any]]:
    sys.path.insert(0, str(result_file.REPOSITORY / "tests"))
    from dicom_factory import slices
    from dicom_frames import LOSSLESS

    noise = np.random.default_rng(SEED).normal(0, 12, (1, 512, 512))
    hu = (np.hypot(*np.mgrid[-2:2:512j, -2:2:512j]) * 700 - 900 + noise).astype(np.int16)
    for syntax in (*LOSSLESS, pydicom.uid.RLELossless):
        yield "synthetic", slices(hu, syntax=syntax)[0]


def of_plugins(frame: bytes, dataset: Any, rounds: int) -> dict[str, dict[str, Any]]:
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
            found[name] = cpu_times(work, rounds)
        except (RuntimeError, NotImplementedError, ValueError):
            continue
    return found


def row(label: str, dataset: Any, rounds: int) -> dict[str, Any]:
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
        "ctedge": cpu_times(ours, rounds),
        "pydicom_plugins": of_plugins(frame, dataset, rounds),
    }


def shown(one: dict[str, Any]) -> str:
    """A row for reading along."""
    plugins = ", ".join(
        f"{name} {found['p50_ms']:.2f}" for name, found in one["pydicom_plugins"].items()
    )
    took = f"{one['uid'][18:]:6} {one['ctedge']['p50_ms']:7.2f} ms   pydicom: {plugins or 'none'}"
    return f"{took}   {one['file'][-40:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="fewer show that it works")
    options = parser.parse_args()
    machine = BenchMachine.here()
    warnings.simplefilter("ignore")  # what old files get wrong
    rows = []
    for label, dataset in chain(real_frames(), synthetic_frames()):
        rows.append(row(label, dataset, options.rounds))
        print(shown(rows[-1]), flush=True)
    result_file.write(
        options.output,
        command=result_file.typed(reads_scans=True),
        machine=machine,
        packages=PACKAGES,
        body={
            "measured": "CPU milliseconds of one frame, median",
            "rounds": options.rounds,
            "seed": SEED,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
