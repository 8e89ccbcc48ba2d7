"""A folder of scans for each class: labelled and dealt out, or an error that says why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Source
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from scan_factory import (
    SETTINGS,
    class_folders,
    opened,
    told,
    write_scan,
)

CLASSES = ("clear", "covid")


def test_class_folders_are_labelled_and_dealt_out(tmp_path: Path) -> None:
    class_folders(tmp_path, CLASSES, 8)
    made = opened(tmp_path, CLASSIFIER, classes=CLASSES)
    assert made.labels == CLASSES
    assert {v.sample.name: v.sample.answer for v in made.volumes} == {
        f"{name}/{number}.nii.gz": float(answer)
        for answer, name in enumerate(CLASSES)
        for number in range(8)
    }
    counts = {
        split: sorted(v.sample.answer for v in made.volumes if v.sample.split == split)
        for split in ("train", "validation", "test")
    }
    assert [len(answers) for answers in counts.values()] == [11, 3, 2]
    assert all(set(answers) == {0.0, 1.0} for answers in counts.values())
    assert opened(tmp_path, CLASSIFIER, classes=CLASSES) == made
    other = opened(tmp_path, CLASSIFIER, classes=CLASSES, split_seed=1)
    assert [v.sample.split for v in other.volumes] != [v.sample.split for v in made.volumes]
    halves = {"train": 0.5, "validation": 0.5}
    shared = opened(tmp_path, CLASSIFIER, classes=CLASSES, shares=halves)
    assert sorted(v.sample.split for v in shared.volumes) == ["train"] * 8 + ["validation"] * 8


def test_the_folders_of_the_keras_example_need_no_option(tmp_path: Path) -> None:
    class_folders(tmp_path, ("CT-0", "CT-23"), 5)
    made = opened(tmp_path, CLASSIFIER)
    assert made.labels == ("normal", "abnormal")
    splits = [v.sample.split for v in made.volumes]
    assert (splits.count("train"), splits.count("validation")) == (7, 3)
    assert {v.sample.answer for v in made.volumes if v.sample.name.startswith("CT-23")} == {1.0}
    with pytest.raises(DatasetError, match="no label file"):
        opened(tmp_path, SEVERITY)


def test_the_names_of_class_folders_are_carried_through_the_store(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", CLASSES, 8)
    store = tmp_path / "store"
    made = prepare_store(Source(folder=folder, classes=CLASSES), store, CLASSIFIER, SETTINGS)
    again = opened(store, CLASSIFIER)
    assert again.labels == CLASSES
    assert told(again) == told(made)
    with pytest.raises(DatasetError, match="not prepared for severity"):
        opened(store, SEVERITY)


def test_class_folders_have_no_scores(tmp_path: Path) -> None:
    class_folders(tmp_path, CLASSES, 8)
    with pytest.raises(DatasetError, match="class folders have no score") as caught:
        opened(tmp_path, SEVERITY, classes=CLASSES)
    assert "--classes clear,covid" in str(caught.value)


def copied_across(folder: Path) -> None:
    shutil.copy(folder / "clear" / "1.nii.gz", folder / "covid" / "other.nii.gz")


def one_of_a_class(folder: Path) -> None:
    for path in sorted((folder / "covid").iterdir())[1:]:
        path.unlink()


def emptied(folder: Path) -> None:
    shutil.rmtree(folder / "covid")
    (folder / "covid").mkdir()


def with_notes(folder: Path) -> None:
    (folder / "covid" / "notes.txt").touch()


def with_folder(folder: Path) -> None:
    (folder / "covid" / "more.nii.gz").mkdir()


def with_dead_link(folder: Path) -> None:
    (folder / "covid" / "dead.nii.gz").symlink_to(folder / "nowhere.nii.gz")


def with_odd_name(folder: Path) -> None:
    write_scan(folder / "covid" / "a\nb.nii.gz", 77)


def again_in_other_bytes(folder: Path) -> None:
    write_scan(folder / "covid" / "again.nii", 1)  # clear/1.nii.gz, not compressed


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (copied_across, "the same file lies in both classes"),
        (one_of_a_class, "would hold no patient of the class 'covid'"),
        (one_of_a_class, "1 patient of this class for 3 splits"),
        (emptied, "covid: the class is empty"),
        (lambda folder: shutil.rmtree(folder / "covid"), "no folder of that class"),
        (with_notes, "covid: something that is no scan"),
        (with_folder, "covid: something that is no scan"),
        (with_dead_link, "covid: something that is no scan"),
        (with_odd_name, "covid: something that is no scan"),
        (again_in_other_bytes, "the same scan (has two answers|stands in two splits)"),
    ],
)
def test_unsound_class_folders_are_refused(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    class_folders(tmp_path, CLASSES, 8)
    spoil(tmp_path)
    with pytest.raises(DatasetError, match=message):
        opened(tmp_path, CLASSIFIER, classes=CLASSES)


def test_copies_in_one_class_stay_on_one_side(tmp_path: Path) -> None:
    class_folders(tmp_path, CLASSES, 8)
    for number in range(8):
        shutil.copy(
            tmp_path / "clear" / f"{number}.nii.gz", tmp_path / "clear" / f"c{number}.nii.gz"
        )
    made = opened(tmp_path, CLASSIFIER, classes=CLASSES)
    splits = {v.sample.name: v.sample.split for v in made.volumes}
    for number in range(8):
        assert splits[f"clear/{number}.nii.gz"] == splits[f"clear/c{number}.nii.gz"]
