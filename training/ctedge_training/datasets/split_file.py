"""`splits.csv`: which scan of which patient is in which split, with digests.

It stands in a prepared store and in every run folder. A scan that a run has learnt from can so be
told from one that tests it, whatever the data folder says later; also where only what was prepared
from it is the same: compressed again, under another header, or handed on as HDF5.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ctedge.errors import DatasetError
from ctedge_training.datasets.table import read_rows
from ctedge_training.datasets.volume import Volume

SPLIT_FILE = "splits.csv"
COLUMNS = ("path", "slice", "patient", "split", "scan_sha256", "input_sha256")

#: Files of earlier versions lack it.
_LATER = "input_sha256"


def split_table(volumes: Sequence[Volume]) -> str:
    """The file's text, a row a volume."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for volume in volumes:
        sample = volume.sample
        index = "" if sample.slice_index is None else sample.slice_index
        digests = (volume.scan_sha256, volume.stored_sha256)
        writer.writerow([sample.name, index, sample.patient, sample.split, *digests])
    return text.getvalue()


def refuse_learnt(folder: Path, volumes: Sequence[Volume]) -> None:
    """Refuse to test a run on scans or patients that it was trained or validated with.

    Args:
        folder: the run's; one without a `splits.csv` (an imported network) refuses nothing.
        volumes: what is to be judged as test scans.

    Raises:
        DatasetError: the run has seen some of them, or its file is broken.
    """
    path = folder / SPLIT_FILE
    if not path.is_file():
        return
    known = read_rows(path, [name for name in COLUMNS if name != _LATER], optional=(_LATER,))
    rows = [row for _, row in known if row["split"] != "test"]
    scans = {row["scan_sha256"] for row in rows}
    inputs = {row.get(_LATER, "") for row in rows} - {""}
    patients = {row["patient"] for row in rows} - {""}
    seen = [
        volume.sample.name
        for volume in volumes
        if volume.scan_sha256 in scans
        or volume.stored_sha256 in inputs
        or volume.sample.patient in patients
    ]
    if seen:
        raise DatasetError(
            f"{folder}: the network has learnt from scans or patients that would test it",
            found=f"{len(seen)} of {len(volumes)}, for instance {seen[0]}",
            expected="test scans of patients that took no part in the training",
            fix="use the split of the training (its splits.csv), or other scans",
        )
