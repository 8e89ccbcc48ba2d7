"""Pictures and slices of volumes, prepared for networks of slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctedge.errors import (
    DatasetError,
    NotHounsfield,
    UnreadableScan,
    UnsupportedGeometry,
)
from ctedge.readers import read_scan
from ctedge.slice_input import slice_of_scan
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Source
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES
from scan_factory import (
    SHAPE,
    opened,
    told,
    write_labels,
    write_scan,
)

SIDES = Settings(grid=(24, 20))
CLASSES = ("clear", "covid")


def write_pictures(folder: Path, classes: tuple[str, str] = CLASSES, count: int = 8) -> Path:
    pillow = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(3)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            levels = rng.integers(0, 255, (rng.integers(40, 70), rng.integers(40, 70)), np.uint8)
            pillow.fromarray(levels).save(folder / name / f"{number}.png")
    return folder


def test_pictures_of_many_sizes_in_class_folders(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "data")
    store = tmp_path / "store"
    source = Source(folder=folder, classes=CLASSES, workers=2)
    made = prepare_store(source, store, SLICES, SIDES)
    shapes = {tuple(v.facts["shape"]) for v in made.volumes}
    assert len(shapes) > 5
    assert {v.load().shape for v in made.volumes} == {(24, 20)}
    again = opened(store, SLICES, SIDES)
    assert (again.labels, again.spec) == (CLASSES, made.spec)
    assert told(again) == told(made)
    assert [v.facts for v in again.volumes] == [v.facts for v in made.volumes]
    for task in (CLASSIFIER, SEVERITY):
        with pytest.raises(DatasetError, match=f"not prepared for {task.name}"):
            opened(store, task, Settings())


@pytest.mark.parametrize(
    ("mode", "suffix", "message"),
    [
        ("RGBA", "png", r"covid/9\.png: the picture is not 8-bit grey"),
        ("P", "png", r"covid/9\.png: the picture is not 8-bit grey"),
        ("I;16", "png", r"covid/9\.png: the picture is not 8-bit grey"),
        ("jpeg", "png", r"covid/9\.png: the picture is of another format"),
        ("tiny", "png", r"covid/9\.png: the picture has an unlikely size"),
        ("blank", "png", r"covid/9\.png: the picture shows nothing"),
        ("cut", "png", r"covid/9\.png: the picture cannot be read"),
    ],
)
def test_a_picture_that_is_none_is_named(
    tmp_path: Path, mode: str, suffix: str, message: str
) -> None:
    write_pictures(tmp_path)
    from PIL import Image

    levels = np.random.default_rng(1).integers(0, 255, (40, 40), np.uint8)
    path = tmp_path / "covid" / f"9.{suffix}"
    if mode == "jpeg":
        Image.fromarray(levels).save(path, format="JPEG")
    elif mode == "tiny":
        Image.fromarray(levels[:8]).save(path)
    elif mode == "blank":
        Image.fromarray(levels * 0 + 7).save(path)
    elif mode == "cut":
        Image.fromarray(levels).save(path)
        path.write_bytes(path.read_bytes()[:200])
    else:
        Image.fromarray(levels).convert(mode).save(path)
    with pytest.raises((UnreadableScan, UnsupportedGeometry), match=message):
        opened(tmp_path, SLICES, SIDES, classes=CLASSES)
    left = opened(tmp_path, SLICES, SIDES, classes=CLASSES, skip_bad=True)
    assert len(left.volumes) == 16


def slices_of(folder: Path, *rows: str) -> Path:
    for number in range(4):
        write_scan(folder / f"scan_{number}.nii.gz", number)
    return write_labels(folder, "\n".join(["path,label,split,slice", *rows]) + "\n")


def test_slices_of_volumes_are_the_sdks(tmp_path: Path) -> None:
    folder = slices_of(
        tmp_path / "data",
        "scan_0.nii.gz,normal,train,0",
        "scan_0.nii.gz,abnormal,train,19",
        "scan_1.nii.gz,normal,validation,7",
        "scan_2.nii.gz,abnormal,validation,7",
    )
    store = tmp_path / "store"
    made = prepare_store(Source(folder=folder), store, SLICES, SIDES)
    assert len({v.stored for v in made.volumes}) == 4
    for volume in made.volumes:
        assert volume.sample.slice_index is not None
        scan = read_scan(volume.sample.path)
        expected = slice_of_scan(scan, volume.sample.slice_index, made.spec).volume[..., 0]
        np.testing.assert_allclose(volume.load(), expected, atol=2.5e-4)
        assert volume.facts["shape"] == list(SHAPE)
    again = opened(store, SLICES, SIDES)
    assert [v.sample.slice_index for v in again.volumes] == [0, 19, 7, 7]
    assert told(again) == told(made)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (
            ["scan_0.nii.gz,normal,train,20"],
            UnsupportedGeometry,
            r"scan_0\.nii\.gz: there is no sl",
        ),
        (["scan_0.nii.gz,normal,train,"], DatasetError, "which slice of the volume"),
        (["scan_0.nii.gz,normal,train,-1"], DatasetError, "line 2: unusable slice"),
        (["scan_0.nii.gz,normal,train,1.0"], DatasetError, "line 2: unusable slice"),
        (["scan_0.nii.gz,normal,train,²"], DatasetError, "line 2: unusable slice"),
        (["scan_0.nii.gz,normal,train,3"] * 2, DatasetError, "line 3: the scan is listed twice"),
        (
            ["scan_0.nii.gz,normal,train,3", "scan_0.nii.gz,normal,test,4"],
            DatasetError,
            "the same scan stands in two splits",
        ),
        (["picture.png,normal,train,3"], DatasetError, r"picture\.png: a picture has no slices"),
    ],
)
def test_unsound_slices_are_refused(
    tmp_path: Path, rows: list[str], error: type[Exception], message: str
) -> None:
    folder = slices_of(tmp_path, *rows)
    (folder / "picture.png").touch()
    with pytest.raises(error, match=message):
        opened(folder, SLICES, SIDES)


def test_a_slice_of_a_volume_is_nothing_for_networks_of_volumes(tmp_path: Path) -> None:
    slices_of(tmp_path, "scan_0.nii.gz,normal,train,3")
    with pytest.raises(DatasetError, match="line 2: unusable slice"):
        opened(tmp_path, CLASSIFIER)
    (tmp_path / "labels.csv").unlink()
    write_pictures(tmp_path)
    with pytest.raises(UnreadableScan, match="a picture of one slice is no scan"):
        opened(tmp_path, CLASSIFIER, classes=CLASSES)


def test_a_slice_that_prediction_would_refuse_is_not_learnt_from(tmp_path: Path) -> None:
    import nibabel

    voxels = np.random.default_rng(2).normal(-850, 60, SHAPE).astype(np.int16)
    voxels[:4] = 60
    voxels[:, :, 5] = 60
    image = nibabel.Nifti1Image(voxels, np.diag([-1.5, 1.5, 2.0, 1.0]))
    slices_of(tmp_path, "scan_0.nii.gz,normal,train,5", "scan_0.nii.gz,normal,train,6")
    nibabel.save(image, tmp_path / "scan_0.nii.gz")
    with pytest.raises(NotHounsfield, match=r"scan_0\.nii\.gz: the values are no Hounsfield"):
        opened(tmp_path, SLICES, SIDES)
    assert len(opened(tmp_path, SLICES, SIDES, skip_bad=True).volumes) == 1
