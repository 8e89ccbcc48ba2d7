"""Every layout of a data folder becomes the same kind of data, or an error that says why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge.errors import (
    DatasetError,
)
from ctedge.phantom import write_studies
from ctedge.preprocessing import preprocess
from ctedge.readers import read_scan
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Source
from ctedge_training.hrct.masks import MaskFiles
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES
from scan_factory import (
    GRID,
    SETTINGS,
    class_folders,
    labelled,
    opened,
    told,
    write_labels,
    write_scan,
)

LUNGS = Settings(spec="severity-study-lungs", grid=GRID)
CLASSES = ("clear", "covid")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


# Label files.


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


# Class folders.


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


# Studies of the HRCT study.


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pydicom")
    folder = tmp_path_factory.mktemp("studies")
    write_studies(folder, count=10, seed=4, shape=(40, 36, 18))
    return folder


def test_studies_with_their_masks_serve_both_tasks(studies: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = prepare_store(Source(folder=studies, workers=2), store, SEVERITY, LUNGS)
    masks = MaskFiles(folder=studies / "masks")
    for volume in made.volumes:
        scan = read_scan(volume.sample.path)
        mask = masks(volume.sample.name, scan)
        np.testing.assert_allclose(
            volume.load(), preprocess(scan, made.spec, lung_mask=mask), atol=2.5e-4
        )
        assert (volume.load() == 0).mean() > 0.5
    splits = [v.sample.split for v in made.volumes]
    assert (splits.count("train"), splits.count("validation")) == (8, 2)
    classes = opened(store, CLASSIFIER, LUNGS)
    assert classes.labels == ("normal", "abnormal")
    for volume in classes.volumes:
        covid = not volume.sample.name.startswith("npatient")
        assert volume.sample.truth["label"] == volume.sample.answer == float(covid)
        assert (volume.sample.truth["score"] > 0) == covid
        assert volume.sample.patient == volume.sample.name
    shares = {"train": 1.0, "validation": 1.0}
    halves = opened(studies, SEVERITY, LUNGS, shares=shares, cache=store)
    assert [v.sample.split for v in halves.volumes].count("validation") == 5


def test_another_mask_is_another_file_and_none_an_error(studies: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(studies / "masks", masks)
    cache = tmp_path / "cache"
    first = opened(studies, SEVERITY, LUNGS, cache=cache)
    kept = opened(studies, SEVERITY, LUNGS, cache=cache, masks=masks)
    assert [v.stored for v in kept.volumes] == [v.stored for v in first.volumes]
    whole = opened(studies, SEVERITY, Settings(grid=GRID), cache=cache)
    assert not {v.stored for v in whole.volumes} & {v.stored for v in first.volumes}
    import nibabel

    path = masks / "patient-01.nii.gz"
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[labels > 0] = 2
    labels[:, :, :4] = 0
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), path)
    changed = opened(studies, SEVERITY, LUNGS, cache=cache, masks=masks)
    differ = [
        a.sample.name
        for a, b in zip(first.volumes, changed.volumes, strict=True)
        if a.stored != b.stored
    ]
    assert differ == ["patient-01"]
    path.unlink()
    with pytest.raises(DatasetError, match="no lung mask for patient-01"):
        opened(studies, SEVERITY, LUNGS, cache=cache, masks=masks)


def test_two_scans_never_share_a_lung_mask(tmp_path: Path) -> None:
    for site in ("north", "south"):
        write_scan(tmp_path / site / "scan.nii.gz", len(site))
    write_scan(tmp_path / "south" / "scan.nii.gz", 3)
    rows = [f"{site}/scan.nii.gz,5,train" for site in ("north", "south")]
    write_labels(tmp_path, "\n".join(["path,score,split", *rows]) + "\n")
    with pytest.raises(DatasetError, match="two scans would take the lung mask 'scan'") as caught:
        opened(tmp_path, SEVERITY, LUNGS)
    assert "north/scan.nii.gz and south/scan.nii.gz" in str(caught.value)


def test_a_changed_slice_of_a_study_is_another_scan(studies: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    own = tmp_path / "own"
    shutil.copytree(studies, own)
    settings = Settings(grid=GRID)
    before = opened(own, SEVERITY, settings, cache=tmp_path / "cache")
    path = sorted((own / "covid" / "patient-01").iterdir())[3]
    image = pydicom.dcmread(path)
    image.PixelData = np.ascontiguousarray(image.pixel_array[::-1]).tobytes()
    image.save_as(path)
    after = opened(own, SEVERITY, settings, cache=tmp_path / "cache")
    pairs = zip(before.volumes, after.volumes, strict=True)
    assert [a.sample.name for a, b in pairs if a.stored != b.stored] == ["patient-01"]
