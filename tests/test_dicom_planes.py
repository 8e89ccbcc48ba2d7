"""Only what the network reads is decoded, and it makes no difference to the input."""

from __future__ import annotations

import numpy as np
import pytest

from ctedge import CTScan, UnreadableScan, preprocess, read_scan
from ctedge.slice_input import slice_of_scan, slices_of_scan
from ctedge.spec import KERAS_EXAMPLE, SEVERITY_STUDY, SLICE_STUDY
from dicom_factory import WAYS, enhanced, oriented, save, slices, write_series

SPECS = {spec.name: spec for spec in (KERAS_EXAMPLE, SEVERITY_STUDY)}

#: Orders of summation differ where an array lies otherwise in memory: float32 over 0..1.
ROUNDING = 1e-6


@pytest.fixture
def volume(rng) -> np.ndarray:
    """(X, Y, Z) HU in LAS"""
    return rng.integers(-1000, 1200, (20, 16, 30)).astype(np.int16)


@pytest.fixture
def long(rng) -> np.ndarray:
    """More planes than any input reads."""
    return rng.integers(-1000, 1200, (20, 16, 150)).astype(np.int16)


def same_as_array(scan: CTScan, array: np.ndarray, spec) -> None:
    """The lazy way equals the whole array bit for bit, and any other array by rounding."""
    lazy = preprocess(scan, spec)
    whole = np.ascontiguousarray(scan.voxels.T).T  # planes, then rows, then columns towards Left
    np.testing.assert_array_equal(lazy, preprocess(whole, spec))
    np.testing.assert_allclose(lazy, preprocess(array, spec), atol=ROUNDING)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_lie_gives_the_same_input(volume, way, spec):
    pixels, geometry = oriented(volume, *WAYS[way])
    scan = read_scan(slices(pixels, **geometry))
    same_as_array(scan, volume, SPECS[spec])
    np.testing.assert_array_equal(scan.voxels, volume)


@pytest.mark.parametrize("spec", SPECS)
def test_reversed_files_and_mixed_types(tmp_path, volume, spec):
    pixels, geometry = oriented(volume, *WAYS["prone"])
    slopes = [1.0] * 29 + [0.5]  # the last slice is float, the others whole
    write_series(tmp_path, pixels, reverse=True, slope=slopes, **geometry)
    same_as_array(read_scan(tmp_path), volume, SPECS[spec])


def test_slices_are_the_same_as_of_the_array(volume):
    scan = read_scan(slices(volume.transpose(2, 1, 0)[:, ::-1]))
    array = CTScan.from_array(np.ascontiguousarray(volume.T).T)  # rows after rows, as in files
    for index in (0, 15, 29):
        lazy = slice_of_scan(scan, index, SLICE_STUDY)
        np.testing.assert_array_equal(lazy.volume, slice_of_scan(array, index, SLICE_STUDY).volume)
    many = slices_of_scan(scan, [3, 29, 3, 0], SLICE_STUDY)
    expected = slices_of_scan(array, [3, 29, 3, 0], SLICE_STUDY)
    np.testing.assert_array_equal(many.volume, expected.volume)
    assert (many.lowest_hu, many.highest_hu) == (expected.lowest_hu, expected.highest_hu)


def read_by(spec, count: int) -> set[int]:
    """The slices that an input of aligned ends is made of."""
    wanted = dict(zip(spec.axes, spec.shape, strict=True))["S"]
    at = np.arange(wanted) * (count - 1) / (wanted - 1)
    lower = np.floor(np.minimum(at, count - 1)).astype(int)
    return {*lower.tolist(), *np.minimum(lower + 1, count - 1).tolist()}


@pytest.mark.parametrize("spec", SPECS)
def test_slices_that_no_input_reads_may_be_damaged_or_gone(tmp_path, long, spec):
    paths = write_series(tmp_path, long.transpose(2, 1, 0)[:, ::-1])
    scan = read_scan(tmp_path)
    unread = sorted(set(range(150)) - read_by(SPECS[spec], 150))
    assert len(unread) > 10
    for number, index in enumerate(unread):
        if number % 2:
            paths[index].unlink()
        else:
            paths[index].write_bytes(paths[index].read_bytes()[:700])
    np.testing.assert_allclose(
        preprocess(scan, SPECS[spec]), preprocess(long, SPECS[spec]), atol=ROUNDING
    )
    with pytest.raises(UnreadableScan):
        _ = scan.voxels


def test_a_slice_that_has_gone_is_named(tmp_path, volume):
    paths = write_series(tmp_path, volume[:, :, :20].transpose(2, 1, 0))
    scan = read_scan(tmp_path)
    paths[0].unlink()
    with pytest.raises(UnreadableScan, match=f"^{tmp_path}/000.dcm: cannot be read"):
        preprocess(scan)
    np.testing.assert_array_equal(next(scan.planes.each([7])), volume[:, ::-1, 7])


def test_what_was_decoded_is_kept_for_the_next_model(tmp_path, volume):
    paths = write_series(tmp_path, volume.transpose(2, 1, 0))
    scan = read_scan(tmp_path)
    first = preprocess(scan)
    for path in paths:
        path.unlink()
    np.testing.assert_array_equal(preprocess(scan), first)


def test_the_whole_array_is_kept(tmp_path, volume):
    paths = write_series(tmp_path, volume.transpose(2, 1, 0)[:, ::-1])
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.voxels, volume)
    for path in paths:
        path.unlink()
    assert scan.voxels is scan.voxels
    np.testing.assert_allclose(preprocess(scan), preprocess(volume), atol=ROUNDING)


def test_planes_come_in_the_order_asked_for_also_twice(volume):
    scan = read_scan(slices(volume.transpose(2, 1, 0)[:, ::-1]))
    order = [29, 0, 0, 15, 29]
    for index, plane in zip(order, scan.planes.each(order), strict=True):
        np.testing.assert_array_equal(plane, volume[:, :, index])


def test_a_walk_that_is_broken_off_leaves_nothing_behind(tmp_path, volume):
    write_series(tmp_path, volume.transpose(2, 1, 0)[:, ::-1])
    scan = read_scan(tmp_path)
    planes = scan.planes.each(range(30))
    next(planes)
    planes.close()
    np.testing.assert_array_equal(next(scan.planes.each([20])), volume[:, :, 20])


def test_frames_of_one_object(tmp_path, volume):
    path = save(tmp_path / "one.dcm", enhanced(volume.transpose(2, 1, 0)[:, ::-1]))
    same_as_array(read_scan(path), volume, KERAS_EXAMPLE)
