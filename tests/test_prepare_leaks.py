"""One scan or one patient in two splits, or with two answers, is refused before any training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge_training.tasks import CLASSIFIER
from scan_factory import (
    opened,
    write_labels,
    write_scan,
)


def rows_of(folder: Path, *rows: str) -> Path:
    return write_labels(folder, "\n".join(["path,label,score,split,patient", *rows]) + "\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("copy.nii.gz,normal,0,test,", "the same scan stands in two splits"),
        ("copy.nii.gz,abnormal,0,train,", "the same scan has two answers"),
        ("again.nii,normal,0,test,", "the same scan stands in two splits"),
        ("again.nii,abnormal,0,train,", "the same scan has two answers"),
        ("other.nii.gz,normal,0,test,p1", "the patient 'p1' stands in two splits"),
    ],
)
def test_leaks_are_refused(tmp_path: Path, row: str, message: str) -> None:
    folder = tmp_path / "data"
    first = write_scan(folder / "a.nii.gz", 1)
    shutil.copy(first, folder / "copy.nii.gz")
    write_scan(folder / "again.nii", 1)  # the same voxels in other bytes
    write_scan(folder / "other.nii.gz", 2)
    rows_of(folder, "a.nii.gz,normal,0,train,p1", row)
    with pytest.raises(DatasetError, match=message):
        opened(folder, CLASSIFIER)


def test_a_copy_in_the_same_split_with_the_same_answer_is_no_leak(tmp_path: Path) -> None:
    shutil.copy(write_scan(tmp_path / "a.nii.gz", 1), tmp_path / "b.nii.gz")
    rows_of(tmp_path, "a.nii.gz,normal,0,train,", "b.nii.gz,normal,0,train,")
    first, second = opened(tmp_path, CLASSIFIER).volumes
    assert first.stored == second.stored
