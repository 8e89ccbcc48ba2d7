"""The contract is held against the published pipeline, written as its users write it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ctedge import KERAS_EXAMPLE, SEVERITY_STUDY, CTScan, InputError, NonFiniteVoxels, preprocess
from ctedge.preprocessing import resample
from ctedge.spec import PreprocessSpec

#: float32 has steps of 6e-8 below 1; three interpolations and a scaling stay within a few steps.
PARITY = 1e-6


def published_pipeline(voxels: np.ndarray) -> np.ndarray:
    """Clip, scale, rotate by 90 degrees, zoom to 128 x 128 x 64, all by scipy."""
    volume = voxels.astype(np.float64)
    volume[volume < -1000] = -1000
    volume[volume > 400] = 400
    volume = ((volume + 1000) / 1400).astype(np.float32)
    volume = ndimage.rotate(volume, 90, reshape=False)
    factors = [want / have for want, have in zip((128, 128, 64), volume.shape, strict=True)]
    return ndimage.zoom(volume, factors, order=1)


def expected(voxels: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """The same in float64 for any size and spec, by scipy's map_coordinates."""
    low, high = spec.hu_window
    values = (np.clip(voxels.astype(np.float64), low, high) - low) / (high - low)
    if spec.axes == "PLS":
        values = np.rot90(values, 1, axes=(0, 1))
    else:
        assert spec.axes == "SPL"
        values = values[:, ::-1].transpose(2, 1, 0)
    grid = np.meshgrid(
        *(np.linspace(0, n - 1, m) for n, m in zip(values.shape, spec.shape, strict=True)),
        indexing="ij",
    )
    return ndimage.map_coordinates(values, grid, order=1, mode="nearest")


@pytest.mark.parametrize(
    ("width", "depth"),
    [
        (16, 64),
        (17, 1),
        (64, 2),
        (127, 63),
        (128, 64),
        (129, 65),
        (200, 41),
        (256, 100),
        (300, 600),
    ],
)
def test_equals_the_published_pipeline_on_square_slices(rng, width, depth):
    voxels = rng.integers(-3024, 3071, (width, width, depth)).astype(np.int16)
    difference = np.abs(preprocess(voxels) - published_pipeline(voxels)).max()
    assert difference <= PARITY


@pytest.mark.parametrize("spec", [KERAS_EXAMPLE, SEVERITY_STUDY], ids=lambda spec: spec.name)
@pytest.mark.parametrize("shape", [(31, 50, 22), (200, 150, 70), (2, 300, 1), (128, 128, 64)])
def test_follows_the_contract_on_any_shape(rng, spec, shape):
    voxels = rng.integers(-1500, 900, shape).astype(np.int16)
    result = preprocess(voxels, spec)
    assert result.shape == spec.shape
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected(voxels, spec), rtol=0, atol=PARITY)


@pytest.mark.parametrize("spec", [KERAS_EXAMPLE, SEVERITY_STUDY], ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    "dtype", ["i1", "<i2", ">i2", "<u2", "<i4", ">i4", "u4", "i8", "<f2", "<f4", ">f4", "f8"]
)
def test_the_answer_does_not_depend_on_the_number_type(rng, dtype, spec):
    values = rng.integers(0, 100, (33, 40, 21))
    np.testing.assert_array_equal(
        preprocess(values.astype(dtype), spec), preprocess(values.astype(np.int16), spec)
    )


@pytest.mark.parametrize("spec", [KERAS_EXAMPLE, SEVERITY_STUDY], ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    "lay",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        lambda a: np.ascontiguousarray(a.transpose(2, 1, 0)).transpose(2, 1, 0),
        lambda a: np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1),
        lambda a: np.ascontiguousarray(a[::-1, ::-1, ::-1])[::-1, ::-1, ::-1],
        lambda a: np.repeat(np.repeat(a, 2, axis=0), 3, axis=2)[::2, :, ::3],
    ],
    ids=["C", "F", "ZYX", "YZX", "negative strides", "gaps"],
)
def test_the_answer_does_not_depend_on_the_memory_layout(chest, lay, spec):
    laid = lay(chest)
    np.testing.assert_array_equal(laid, chest)
    laid.flags.writeable = False
    # The axes are interpolated in memory order, so the last bit may differ.
    np.testing.assert_allclose(preprocess(laid, spec), preprocess(chest, spec), rtol=0, atol=PARITY)


def test_the_scan_is_left_as_it_was(chest):
    before = chest.copy()
    preprocess(chest)
    np.testing.assert_array_equal(chest, before)


def test_rows_run_from_anterior_to_posterior_and_columns_towards_left():
    voxels = np.full((20, 20, 20), -1000, np.int16)
    voxels[-1, -1, -1] = 400  # the leftmost, most anterior, most superior voxel
    assert preprocess(voxels)[0, -1, -1] == 1.0
    assert preprocess(voxels, SEVERITY_STUDY)[-1, 0, -1] == 1.0


def test_both_specs_show_the_same_anatomy(rng):
    voxels = rng.integers(-1000, 400, (128, 128, 64)).astype(np.int16)
    keras_view = preprocess(voxels).transpose(2, 0, 1)
    np.testing.assert_allclose(preprocess(voxels, SEVERITY_STUDY), keras_view, atol=PARITY)


def test_window_ends_become_0_and_1_and_values_are_clipped():
    voxels = np.array([-30000, -1000, 400, 30000], np.int16).repeat(16).reshape(4, 4, 4)
    result = preprocess(voxels)
    assert result.min() == 0.0
    assert result.max() == 1.0


def test_outside_the_lung_mask_becomes_the_lower_end_of_the_window(chest):
    spec = PreprocessSpec(name="lungs", shape=chest.shape[::-1], axes="SPL", lungs_only=True)
    mask = np.zeros(chest.shape, bool)
    mask[10:30, 5:20, 3:9] = True
    masked = np.where(mask, chest, -1000)
    whole = PreprocessSpec(name="whole", shape=spec.shape, axes="SPL")
    np.testing.assert_array_equal(
        preprocess(chest, spec, lung_mask=mask), preprocess(masked, whole)
    )


def test_a_mask_must_be_given_exactly_where_the_spec_asks_for_one(chest):
    lungs = PreprocessSpec(name="lungs", shape=(4, 4, 4), axes="PLS", lungs_only=True)
    with pytest.raises(ValueError, match="needs a lung mask"):
        preprocess(chest, lungs)
    with pytest.raises(ValueError, match="takes no lung mask"):
        preprocess(chest, lung_mask=np.ones(chest.shape, bool))
    with pytest.raises(ValueError, match="has shape"):
        preprocess(chest, lungs, lung_mask=np.ones((2, 2, 2), bool))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(chest, bad):
    broken = chest.astype(np.float32)
    broken[3, 4, 5] = bad
    with pytest.raises(NonFiniteVoxels, match="1 of 28800 voxels"):
        preprocess(broken)


@pytest.mark.parametrize(
    "voxels",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 4, 2)),
        np.zeros((4, 0, 4)),
        np.zeros((4, 4, 4), complex),
        np.full((4, 4, 4), "air"),
    ],
    ids=["2D", "4D", "empty", "complex", "text"],
)
def test_what_is_no_volume_is_an_input_error(voxels):
    with pytest.raises(InputError):
        preprocess(voxels)


def test_the_range_of_hu_that_was_read_is_reported(chest):
    seen = resample(CTScan.from_array(chest), KERAS_EXAMPLE)
    assert (seen.lowest_hu, seen.highest_hu) == (chest.min(), chest.max())
