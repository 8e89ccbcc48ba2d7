"""A file that changes between its header and its voxels is refused; one that does not is read."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from bundle_factory import write_tiny
from ctedge import Classifier, SeverityRegressor, UnreadableScan, preprocess, read_scan
from ctedge.bundle.maps import MapRecord
from ctedge.explanation import Explanation
from ctedge.readers import inflate, nifti
from ctedge.spec import KERAS_EXAMPLE
from dicom_factory import write_series

#: Longer than a tick of the clock by which file systems tell when a file was written.
TICK_S = 0.05

SUFFIXES = [".nii", ".nii.gz"]
KINDS = [*SUFFIXES, "dicom"]
CHANGED = "the file changed after it was opened"

RECORD = MapRecord(
    name="layer_cam", method="layer-cam", shape=(63, 63, 31), origin=(1.5,) * 3, step=(2.0,) * 3
)


def write(path: Path, kind: str, volume: np.ndarray, affine: np.ndarray) -> None:
    """One scan; written long ago, as far as its files say."""
    if kind == "dicom":
        written = write_series(path, volume.transpose(2, 1, 0), series="1.2.3", study="1.2.4")
    else:
        nibabel.save(nibabel.Nifti1Image(volume, affine), path)
        written = [path]
    for one in written:
        os.utime(one, ns=(10**18, 10**18))


def files(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


@pytest.fixture
def two(tmp_path, rng, las_affine) -> Callable[[str], tuple[Path, Path]]:
    """Where two patients' scans lie, alike in all but their voxels."""

    def written(kind: str) -> tuple[Path, Path]:
        paths = tuple(tmp_path / f"{name}{'' if kind == 'dicom' else kind}" for name in "ab")
        for path in paths:
            volume = rng.integers(-1000, 1200, (30, 28, 90)).astype(np.int16)
            write(path, kind, volume, las_affine)
        return paths

    return written


@pytest.fixture
def classifier(tmp_path) -> Iterator[Classifier]:
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    with Classifier.load(bundle, device="cpu", runtime="onnxruntime") as loaded:
        yield loaded


def replaced(mine: Path, other: Path) -> None:
    for here, there in zip(files(mine), files(other), strict=True):
        there.replace(here)


def rewritten(mine: Path, other: Path) -> None:
    for here, there in zip(files(mine), files(other), strict=True):
        here.write_bytes(there.read_bytes())


def rewritten_at_the_same_time(mine: Path, other: Path) -> None:
    """As by `cp -p` of a scan that came out of the same archive: also the time is the same."""
    time.sleep(TICK_S)
    for here, there in zip(files(mine), files(other), strict=True):
        before = here.stat()
        shutil.copy2(there, here)
        assert (here.stat().st_ino, here.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def touched(mine: Path, _: Path) -> None:
    for here in files(mine):
        here.touch()


def longer(mine: Path, _: Path) -> None:
    for here in files(mine):
        with here.open("ab") as stream:
            stream.write(bytes(100))
        os.utime(here, ns=(10**18, 10**18))


def cut(mine: Path, _: Path) -> None:
    for here in files(mine):
        os.truncate(here, here.stat().st_size - 100)


CHANGES = {
    "replaced": (replaced, "another file under the same name"),
    "rewritten": (rewritten, "written to or touched since|bytes"),
    "rewritten at the same time": (rewritten_at_the_same_time, "written to or touched since|bytes"),
    "touched": (touched, "written to or touched since"),
    "longer": (longer, "bytes"),
    "cut": (cut, "bytes"),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_that_changed_is_not_judged(two, classifier, kind, how):
    mine, other = two(kind)
    scan = read_scan(mine)
    change, found = CHANGES[how]
    change(mine, other)
    for use in (classifier.predict, preprocess, lambda scan: scan.voxels):
        with pytest.raises(UnreadableScan, match=CHANGED) as caught:
            use(scan)
        assert any(str(path) in caught.value.what for path in files(mine))
        assert any(part in caught.value.found for part in found.split("|"))
        assert "read the scan again" in caught.value.fix
    if how != "cut":  # what is there now is read as what it is
        assert 0 < classifier.predict(mine).probability < 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_scan_that_does_not_change_is_read_again_and_again(two, classifier, kind):
    mine, _ = two(kind)
    scan = read_scan(mine)
    scan.planes.kept_bytes = scan.planes._room = 0
    first = classifier.predict(scan)
    assert classifier.predict(scan).logit == classifier.predict(mine).logit == first.logit
    np.testing.assert_array_equal(scan.voxels, read_scan(mine).voxels)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_link_that_points_elsewhere_is_another_file(two, tmp_path, kind):
    mine, other = two(kind)
    link = tmp_path / f"latest{kind}"
    link.symlink_to(mine)
    scan = read_scan(link)
    np.testing.assert_array_equal(scan.voxels, read_scan(mine).voxels)
    scan = read_scan(link)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(UnreadableScan, match=CHANGED):
        preprocess(scan)


def test_a_link_to_a_folder_that_points_elsewhere_is_another_series(two, tmp_path):
    mine, other = two("dicom")
    link = tmp_path / "latest"
    link.symlink_to(mine)
    scan = read_scan(link)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(UnreadableScan, match=CHANGED):
        preprocess(scan)


def test_another_name_of_the_same_file_is_the_same_file(two, tmp_path):
    mine, _ = two(".nii")
    second = tmp_path / "second.nii"
    second.hardlink_to(mine)
    link = tmp_path / "latest.nii"
    link.symlink_to(mine)
    scan = read_scan(link)
    link.unlink()
    link.symlink_to(second)
    np.testing.assert_array_equal(preprocess(scan), preprocess(read_scan(mine)))


def test_slices_that_exchange_their_names_are_refused(two):
    mine, _ = two("dicom")
    scan = read_scan(mine)
    first, *_, last = files(mine)
    spare = mine / "spare"
    first.rename(spare)
    last.rename(first)
    spare.rename(last)
    with pytest.raises(UnreadableScan, match=CHANGED):
        _ = scan.voxels
    np.testing.assert_array_equal(read_scan(mine).voxels, read_scan(files(mine)).voxels)


@pytest.mark.parametrize("kind", KINDS)
def test_two_models_judge_one_scan_or_the_second_refuses(two, classifier, tmp_path, kind):
    mine, other = two(kind)
    scan = read_scan(mine)
    scan.planes.kept_bytes = scan.planes._room = 0
    classifier.predict(scan)
    replaced(mine, other)
    bundle = write_tiny(tmp_path / "severity.ctedge", task="severity").path
    with (
        SeverityRegressor.load(bundle, device="cpu", runtime="onnxruntime") as regressor,
        pytest.raises(UnreadableScan, match=CHANGED),
    ):
        regressor.predict(scan)


@pytest.mark.parametrize("kind", [".nii.gz", "dicom"])
def test_what_was_kept_is_of_the_scan_that_was_read(two, classifier, kind):
    mine, other = two(kind)
    scan = read_scan(mine)
    first = classifier.predict(scan)
    replaced(mine, other)
    assert classifier.predict(scan).logit == first.logit
    assert classifier.predict(mine).logit != first.logit
    with pytest.raises(UnreadableScan, match=CHANGED):
        _ = scan.voxels


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_an_overlay_shows_the_scan_that_was_judged_or_is_not_drawn(two, tmp_path, kind, kept):
    mine, other = two(kind)
    scan = read_scan(mine)
    if not kept:
        scan.planes.kept_bytes = scan.planes._room = 0
    cells = np.ones(RECORD.shape, np.float32)
    explanation = Explanation(cells=cells, scan=scan, spec=KERAS_EXAMPLE, record=RECORD)
    drawn = explanation.write_overlay(tmp_path / "first.png").read_bytes()
    replaced(mine, other)
    target = tmp_path / "second.png"
    if kept and kind != ".nii":  # which is quick to read again
        assert explanation.write_overlay(target).read_bytes() == drawn
    else:
        with pytest.raises(UnreadableScan, match=CHANGED):
            explanation.write_overlay(target)
        assert not target.exists()


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_file_that_is_rewritten_while_its_planes_are_read(two, monkeypatch, kind):
    """Neither half of it is given with the other, and it is not called damaged."""
    monkeypatch.setattr(inflate, "_CHUNK_BYTES", 1024)
    monkeypatch.setattr(inflate, "_STEP_BYTES", 3000)
    mine, other = two(kind)
    planes = read_scan(mine).planes.each(range(90))
    next(planes)
    rewritten(mine, other)
    with pytest.raises(UnreadableScan, match=CHANGED):
        list(planes)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_floating_point_voxels_are_those_of_the_header(two, monkeypatch, rng, las_affine, kind):
    """They are read at once, but not by the same opening."""
    mine, other = two(kind)
    for path in (mine, other):
        volume = rng.uniform(-1000, 1000, (20, 18, 16)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume, las_affine), path)
    read_layout = nifti.read_layout

    def slow(*arguments):
        replaced(mine, other)
        return read_layout(*arguments)

    monkeypatch.setattr(nifti, "read_layout", slow)
    with pytest.raises(UnreadableScan, match=CHANGED):
        read_scan(mine)


def test_a_slice_that_changes_while_its_header_is_read(two, monkeypatch):
    """It is called changed, and not damaged."""
    mine, other = two("dicom")
    dcmread = pydicom.dcmread

    def slow(*arguments, **more):
        for here, there in zip(files(mine), files(other), strict=True):
            here.write_bytes(there.read_bytes()[:300])
        return dcmread(*arguments, **more)

    monkeypatch.setattr(pydicom, "dcmread", slow)
    with pytest.raises(UnreadableScan, match=CHANGED):
        read_scan(mine)


def test_streams_and_data_sets_are_not_concerned(two):
    mine, other = two("dicom")
    expected = read_scan(mine).voxels
    streams = [path.open("rb") for path in files(mine)]
    scan = read_scan(streams)
    for stream in streams:
        stream.close()
    rewritten(mine, other)
    np.testing.assert_array_equal(scan.voxels, expected)
