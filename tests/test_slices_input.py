"""One slice through the contract: the same as a volume of one, and as scipy's zoom."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from ctedge import (
    SLICE_STUDY,
    CTScan,
    InvalidBundle,
    NotHounsfield,
    PreprocessSpec,
    SliceSpec,
    UnsupportedGeometry,
    preprocess,
)
from ctedge.slice_input import slice_of_picture, slice_of_scan, slices_of_scan, three_channels
from ctedge.spec import IMAGENET_DEVIATION, IMAGENET_MEAN, KERAS_EXAMPLE, spec_from_json
from ctedge.tensor import network_batch

#: float32 has steps of 6e-8 below 1; two interpolations and a scaling stay within a few steps.
PARITY = 1e-6

IMAGENET = replace(SLICE_STUDY, mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)


def zoomed(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    factors = [want / have for want, have in zip(shape, plane.shape, strict=True)]
    # "nearest": rounding may ask for a point just beyond the last one.
    return ndimage.zoom(plane.astype(np.float64), factors, order=1, mode="nearest")


# The spec


@pytest.mark.parametrize("spec", [SLICE_STUDY, IMAGENET], ids=lambda spec: str(spec.mean[0]))
def test_a_spec_survives_json(spec):
    again = SliceSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert spec_from_json(spec.to_json(), task="slices") == spec
    assert again.input_shape == (224, 224, 3)


def test_a_task_has_its_own_kind_of_spec():
    assert spec_from_json(KERAS_EXAMPLE.to_json(), task="classifier") == KERAS_EXAMPLE
    for task, other in (("slices", KERAS_EXAMPLE), ("classifier", SLICE_STUDY)):
        with pytest.raises(InvalidBundle, match="other fields"):
            spec_from_json(other.to_json(), task=task)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [224]},
        {"shape": [224, 224, 1]},
        {"shape": [0, 224]},
        {"shape": [224, 10**9]},
        {"shape": ["a", 224]},
        {"hu_window": [400, -1000]},
        {"hu_window": [float("nan"), 400]},
        {"interpolation": "cubic"},
        {"mean": [0, 0]},
        {"mean": [0, 0, 0, 0]},
        {"mean": [0, 0, float("nan")]},
        {"mean": [0, 0, 11]},
        {"deviation": [1, 1, 0]},
        {"deviation": [1, 1, 1, 1]},
        {"deviation": [1, 1, -1]},
        {"deviation": None},
        {"axes": "PL"},
    ],
    ids=str,
)
def test_a_broken_spec_is_refused(change):
    with pytest.raises(InvalidBundle):
        SliceSpec.from_json({**SLICE_STUDY.to_json(), **change})


def test_a_missing_field_is_refused():
    document = SLICE_STUDY.to_json()
    for field in document:
        with pytest.raises(InvalidBundle, match="other fields"):
            SliceSpec.from_json({key: value for key, value in document.items() if key != field})


# A slice of a scan


@pytest.mark.parametrize("index", [0, 7, 19])
def test_a_slice_of_a_scan_is_a_volume_of_one(chest, index):
    spec = PreprocessSpec(name="one", shape=(224, 224, 1), axes="PLS")
    made = slice_of_scan(CTScan.from_array(chest), index, SLICE_STUDY)
    np.testing.assert_array_equal(made.volume, preprocess(chest[:, :, index : index + 1], spec))
    assert made.volume.dtype == np.float32
    assert (made.lowest_hu, made.highest_hu) == (
        chest[:, :, index].min(),
        chest[:, :, index].max(),
    )


@pytest.mark.parametrize("shape", [(224, 224), (512, 512), (300, 411), (16, 1000), (225, 223)])
def test_a_slice_is_what_scipys_zoom_gives(rng, shape):
    voxels = rng.integers(-1500, 900, (*shape, 2)).astype(np.int16)
    plane = (np.clip(voxels[:, ::-1, 1].T.astype(np.float64), -1000, 400) + 1000) / 1400
    made = slice_of_scan(CTScan.from_array(voxels), 1, SLICE_STUDY)
    np.testing.assert_allclose(
        made.volume[:, :, 0], zoomed(plane, SLICE_STUDY.shape), rtol=0, atol=PARITY
    )


def test_several_slices_are_each_of_them(chest):
    scan = CTScan.from_array(chest)
    several = slices_of_scan(scan, (5, 2), SLICE_STUDY)
    assert several.volume.shape == (2, 224, 224)
    for made, index in zip(several.volume, (5, 2), strict=True):
        np.testing.assert_array_equal(made, slice_of_scan(scan, index, SLICE_STUDY).volume[..., 0])
    assert several.lowest_hu == chest[:, :, [2, 5]].min()
    assert several.highest_hu == chest[:, :, [2, 5]].max()


@pytest.mark.parametrize("index", [-1, 20, 1000])
def test_a_slice_that_is_not_there_is_refused(chest, index):
    with pytest.raises(UnsupportedGeometry, match=f"no slice {index}"):
        slice_of_scan(CTScan.from_array(chest), index, SLICE_STUDY)


# A picture


@pytest.mark.parametrize("shape", [(224, 224), (512, 512), (300, 411), (16, 1000)])
def test_a_picture_is_what_scipys_zoom_gives(rng, shape):
    levels = rng.integers(0, 256, shape, dtype=np.uint8)
    made = slice_of_picture(levels, SLICE_STUDY).volume
    assert made.shape == (224, 224, 1)
    np.testing.assert_allclose(
        made[:, :, 0], zoomed(levels / 255, SLICE_STUDY.shape), rtol=0, atol=PARITY
    )


def test_a_pictures_rows_and_columns_stay_where_they_are(rng):
    spec = SliceSpec(name="as it is", shape=(40, 30))
    levels = rng.integers(0, 256, spec.shape, dtype=np.uint8)
    made = slice_of_picture(levels, spec).volume[:, :, 0]
    np.testing.assert_allclose(made, levels / 255, rtol=0, atol=PARITY)
    assert made.min() >= 0.0
    assert made.max() <= 1.0


def test_a_picture_of_a_slice_is_that_slice(rng):
    """Anterior up and the patient's left on the right, from voxels that grow to L, A and S."""
    grey = rng.integers(0, 256, (33, 41))
    voxels = np.rint(grey / 255 * 1400 - 1000)[::-1].T[:, :, np.newaxis]
    of_scan = slice_of_scan(CTScan.from_array(voxels), 0, SLICE_STUDY).volume
    of_picture = slice_of_picture(grey.astype(np.uint8), SLICE_STUDY).volume
    np.testing.assert_allclose(of_picture, of_scan, rtol=0, atol=0.5 / 1400 + PARITY)


def test_the_window_of_the_spec_does_not_change_a_picture(rng):
    levels = rng.integers(0, 256, (50, 50), dtype=np.uint8)
    narrow = replace(SLICE_STUDY, hu_window=(-160.0, 240.0))
    np.testing.assert_array_equal(
        slice_of_picture(levels, narrow).volume, slice_of_picture(levels, SLICE_STUDY).volume
    )


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint16, bool])
def test_other_than_8_bit_levels_are_refused(dtype):
    with pytest.raises(NotHounsfield, match="8 bits"):
        slice_of_picture(np.zeros((20, 20), dtype), SLICE_STUDY)


@pytest.mark.parametrize("shape", [(20,), (20, 20, 3)])
def test_other_than_two_axes_are_refused(shape):
    with pytest.raises(UnsupportedGeometry, match="two axes"):
        slice_of_picture(np.zeros(shape, np.uint8), SLICE_STUDY)


# The channels


def test_three_channels_are_equal_or_normalised(rng):
    grey = rng.random((2, 5, 4), np.float32)
    plain = three_channels(grey, SLICE_STUDY)
    assert plain.shape == (2, 5, 4, 3)
    assert plain.dtype == np.float32
    for channel in range(3):
        np.testing.assert_array_equal(plain[..., channel], grey)
    expected = (grey[..., None] - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_DEVIATION)
    np.testing.assert_allclose(three_channels(grey, IMAGENET), expected, rtol=0, atol=1e-6)


def test_a_batch_has_its_channels_first(rng):
    slices = rng.random((2, 224, 224), np.float32)
    batch = network_batch(slices, IMAGENET)
    assert batch.shape == (2, 3, 224, 224)
    assert batch.flags.c_contiguous
    np.testing.assert_array_equal(np.moveaxis(batch, 1, -1), three_channels(slices, IMAGENET))
    volumes = rng.random((2, 3, 4, 5), np.float32)
    spec = PreprocessSpec(name="tiny", shape=(3, 4, 5), axes="PLS")
    np.testing.assert_array_equal(network_batch(volumes, spec), volumes[:, np.newaxis])
