"""Scans that cannot be prepared: named, left out where that is asked for, and told at the end."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ctedge.errors import DatasetError, NotHounsfield, UnreadableScan
from ctedge.progress import Reporter
from ctedge.spec import KERAS_EXAMPLE
from ctedge_training.datasets.labels import read_labels
from ctedge_training.datasets.store import prepare
from ctedge_training.tasks import CLASSIFIER
from scan_factory import (
    ROWS,
    SHAPE,
    labelled,
    opened,
    prepared,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may spoil."""
    return Path(shutil.copytree(data, tmp_path / "own"))


def test_a_corrupt_scan_is_named_and_with_skip_bad_left_out(own: Path, tmp_path: Path) -> None:
    (own / "scan_1.nii.gz").write_bytes(b"no scan")
    with pytest.raises(UnreadableScan, match=r"own/scan_1\.nii\.gz"):
        prepared(own, tmp_path / "store")
    lines: list[str] = []
    reporter = Reporter(say=lines.append, bars=False)
    made = prepared(own, tmp_path / "store", skip_bad=True, reporter=reporter)
    assert [v.sample.name for v in made.volumes] == [name for name, *_ in ROWS if "1" not in name]
    assert [line for line in lines if line.startswith("skipped")] == [
        f"skipped scan_1.nii.gz: {own}/scan_1.nii.gz: not a NIfTI file"
    ]
    assert len(opened(tmp_path / "store", CLASSIFIER).volumes) == len(ROWS) - 1


def test_what_prediction_would_refuse_is_not_learnt_from(own: Path, tmp_path: Path) -> None:
    import nibabel

    picture = np.full(SHAPE, 200, np.int16)
    nibabel.save(nibabel.Nifti1Image(picture, np.diag([-1.0, 1, 1, 1])), own / "scan_1.nii.gz")
    with pytest.raises(NotHounsfield, match="scan_1"):
        prepared(own, tmp_path / "store")


def test_a_bad_scan_that_empties_a_class_or_a_split_ends_it(own: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (own / "scan_5.nii.gz").write_bytes(b"no scan")
    with pytest.raises(DatasetError, match="one class only in the split 'validation'"):
        prepared(own, store, skip_bad=True)
    (own / "scan_4.nii.gz").write_bytes(b"no scan either")
    with pytest.raises(DatasetError, match="the split 'validation' is empty"):
        prepared(own, store, skip_bad=True)
    for name, *_ in ROWS:
        (own / name).write_bytes(b"no scan")
    with pytest.raises(DatasetError, match="no scan is left") as caught:
        prepared(own, store, skip_bad=True)
    assert "scan_0" in str(caught.value)
    assert not (store / "index.json").exists()


def test_one_scan_is_not_told_as_several(own: Path, tmp_path: Path) -> None:
    (own / ROWS[0][0]).write_bytes(b"no scan")
    samples = read_labels(own, CLASSIFIER)[:1]
    lines: list[str] = []
    said = Reporter(say=lines.append, bars=False)
    with pytest.raises(DatasetError, match="no scan is left") as caught:
        prepare(samples, KERAS_EXAMPLE, tmp_path / "cache", skip_bad=True, reporter=said)
    assert lines[0].startswith("1 scan; preprocessed volumes in ")
    assert str(caught.value.found).startswith("1 bad one; ")
