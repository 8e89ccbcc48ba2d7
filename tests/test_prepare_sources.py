"""Which files a data folder is read by, and which options its layout does not take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ctedge.errors import DatasetError
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES
from scan_factory import (
    class_folders,
    labelled,
    opened,
    write_labels,
    write_scan,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


def test_a_label_file_of_another_name_goes_before_the_folders_own(
    data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("path,label,split\nscan_0.nii.gz,abnormal,train\n")
    (volume,) = opened(data, CLASSIFIER, labels=other, cache=tmp_path).volumes
    assert (volume.sample.answer, volume.sample.truth) == (1.0, {"label": 1.0})


def test_scans_without_the_answer_of_the_task_are_refused(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.nii.gz", 1)
    write_labels(tmp_path, "path,label,score,split\na.nii.gz,,3,train\n")
    with pytest.raises(DatasetError, match="line 2: unknown label"):
        opened(tmp_path, CLASSIFIER)
    assert opened(tmp_path, SEVERITY).volumes[0].sample.truth == {"score": 3.0}
    write_labels(tmp_path, "path,label,score,split\na.nii.gz,normal,101,train\n")
    with pytest.raises(DatasetError, match="line 2: unreadable score"):
        opened(tmp_path, CLASSIFIER)


def test_a_folder_that_lists_nothing_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError, match="no label file"):
            opened(folder, CLASSIFIER)


def test_a_spec_of_another_name_is_refused(data: Path) -> None:
    for task in (CLASSIFIER, SLICES):
        with pytest.raises(DatasetError, match="no preprocessing called 'nothing'") as caught:
            opened(data, task, Settings(spec="nothing"))
        assert "--spec" in str(caught.value)


CLASSES = ("clear", "covid")


def test_options_that_a_layout_would_ignore_are_refused(data: Path, tmp_path: Path) -> None:
    class_folders(tmp_path, CLASSES, 8)
    refused: list[tuple[str, Path, dict[str, Any]]] = [
        ("--labels", tmp_path, {"classes": CLASSES, "labels": data / "labels.csv"}),
        ("--shares", data, {"shares": {"train": 1.0, "validation": 1.0}}),
        ("--masks", data, {"masks": tmp_path}),
    ]
    for option, folder, how in refused:
        with pytest.raises(DatasetError, match=f"{option} cannot be used here"):
            opened(folder, CLASSIFIER, **how)
