"""Stored pixels to HU: every layout that CTs have, and what becomes air."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from ctedge import IrregularSeries, NonFiniteVoxels, UnreadableScan, read_scan
from dicom_factory import NATIVE, hu_of, item, las, slices, write_series

AIR = -1000
SHAPE = (4, 6, 8)


hu = hu_of(*SHAPE)


LAYOUTS = {
    "16 bits unsigned": {},
    "16 bits signed": {"signed": True},
    "16 bits signed, HU as they are": {"signed": True, "intercept": 0},
    "12 of 16 bits": {"bits": (16, 12, 11)},
    "12 of 16 bits signed": {"bits": (16, 12, 11), "signed": True, "intercept": 0},
    "14 of 16 bits signed": {"bits": (16, 14, 13), "signed": True},
    "32 bits": {"bits": (32, 32, 31)},
    "32 bits signed": {"bits": (32, 32, 31), "signed": True},
    "an offset for every slice": {"intercept": [-1024, -1000, -1100, -2000]},
    "a slope for every slice": {"slope": [1, 2, 4, 0.5]},
    "an offset beyond 16 bits": {"intercept": -33792},
    "little endian without VRs": {"syntax": ImplicitVRLittleEndian, "signed": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_stored_values(hu, layout):
    how = LAYOUTS[layout]
    even = hu // 4 * 4  # exact for every slope above
    np.testing.assert_array_equal(read_scan(slices(even, **how)).voxels, las(even))


def test_eight_bits(rng):
    stored = rng.integers(0, 256, SHAPE)
    made = slices(np.zeros(SHAPE), stored=stored, bits=(8, 8, 7), slope=10, intercept=-1000)
    np.testing.assert_array_equal(read_scan(made).voxels, las(stored * 10 - 1000))


def test_fractional_slopes_give_float32(rng):
    stored = rng.integers(0, 1000, SHAPE)
    scan = read_scan(slices(np.zeros(SHAPE), stored=stored, slope=1.25, intercept=-1024.5))
    assert scan.voxels.dtype == np.float32
    np.testing.assert_array_equal(scan.voxels, las(stored * 1.25 - 1024.5).clip(-1024))


@pytest.mark.parametrize("signed", [False, True])
def test_overlays_beside_the_stored_bits_are_cut_off(hu, signed):
    values = (hu.astype(np.int64) + (0 if signed else 1024)) & 0xFFF
    made = slices(
        hu,
        stored=(values | 0xA000).astype(np.uint16).view(np.int16) if signed else values | 0xA000,
        bits=(16, 12, 11),
        signed=signed,
        intercept=0 if signed else -1024,
    )
    np.testing.assert_array_equal(read_scan(made).voxels, las(hu))


def test_values_in_the_upper_bits(hu):
    stored = ((hu.astype(np.int64) + 1024) << 4) | 0b101
    made = slices(hu, stored=stored, bits=(16, 12, 15))
    np.testing.assert_array_equal(read_scan(made).voxels, las(hu))


# What was not measured


def ringed(hu: np.ndarray, value: int) -> tuple[np.ndarray, np.ndarray]:
    """Stored values with a corner of padding, and the HU to expect."""
    stored, expected = hu.astype(np.int64) + 1024, hu.copy()
    stored[:, 0, 0], expected[:, 0, 0] = value, AIR
    return stored, las(expected)


@pytest.mark.parametrize(
    ("value", "how"),
    [
        (-2000, {"signed": True}),
        (-2000, {"signed": True, "bits": (16, 12, 11)}),  # beyond the 12 stored bits
        (0, {}),
        (63536, {"bits": (16, 16, 15)}),
        (-32768, {"signed": True}),
    ],
)
def test_padding_becomes_air(hu, value, how):
    stored, expected = ringed(hu.clip(-1000, 1000), value)
    made = slices(hu, stored=stored, PixelPaddingValue=value, **how)
    np.testing.assert_array_equal(read_scan(made).voxels, expected)


def test_padding_of_a_signed_image_that_is_written_unsigned(hu):
    stored, expected = ringed(hu, -2000)
    made = slices(hu, stored=stored, signed=True, PixelPaddingValue=63536)
    np.testing.assert_array_equal(read_scan(made).voxels, expected)


def test_a_range_of_padding(hu):
    stored, expected = ringed(hu, 5000)
    stored[:, 1, 1] = 5100
    expected[1, -2] = AIR
    made = slices(hu, stored=stored, PixelPaddingValue=5000, PixelPaddingRangeLimit=5200)
    np.testing.assert_array_equal(read_scan(made).voxels, expected)


@pytest.mark.parametrize("outside", [-2000, -3024, -1025])
def test_what_lies_below_the_scale_becomes_air(hu, outside):
    odd = hu.copy()
    odd[:, 0, 0] = outside
    expected = hu.copy()
    expected[:, 0, 0] = AIR
    made = slices(odd, signed=True)
    np.testing.assert_array_equal(read_scan(made).voxels, las(expected))


def test_the_lowest_value_of_the_scale_is_kept(hu):
    hu[:, 0, 0] = -1024
    assert read_scan(slices(hu)).voxels.min() == -1024


# The modality LUT


def table(values: np.ndarray, *, first: int = 0, kind: str = "HU", bits: int = 16) -> Sequence:
    one = item(ModalityLUTType=kind)
    one.add_new("LUTDescriptor", "US", [len(values) % 65536, first, bits])
    one.add_new("LUTData", "OW", values.astype("<u2").tobytes())
    return Sequence([one])


def with_table(rng, **how):
    stored = rng.integers(0, 120, SHAPE)
    made = slices(
        np.zeros(SHAPE),
        stored=stored,
        slope=1,
        RescaleSlope=None,
        RescaleIntercept=None,
        ModalityLUTSequence=table(np.arange(100) * 7, **how),
    )
    return stored, made


def test_a_lookup_table_to_hu(rng):
    stored, made = with_table(rng, first=10)
    expected = las((stored - 10).clip(0, 99) * 7)  # the nearest entry beyond its ends
    np.testing.assert_array_equal(read_scan(made).voxels, expected)


@pytest.mark.parametrize("vr", ["OW", "US"])
@pytest.mark.parametrize("syntax", NATIVE)
def test_a_lookup_table_in_every_byte_order(tmp_path, rng, syntax, vr):
    stored, entries = rng.integers(0, 120, SHAPE), np.arange(100) * 7
    one = item(ModalityLUTType="HU")
    one.add_new("LUTDescriptor", "US", [100, 10, 16])
    words = entries.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    one.add_new("LUTData", vr, words if vr == "OW" else entries.tolist())
    write_series(
        tmp_path,
        np.zeros(SHAPE),
        stored=stored,
        syntax=syntax,
        RescaleSlope=None,
        RescaleIntercept=None,
        ModalityLUTSequence=Sequence([one]),
    )
    expected = las((stored - 10).clip(0, 99) * 7)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, expected)
    given = [pydicom.dcmread(path) for path in sorted(tmp_path.iterdir())]
    np.testing.assert_array_equal(read_scan(given).voxels, expected)


def test_a_lookup_table_to_something_else_is_refused(rng):
    _, made = with_table(rng, kind="OD")
    with pytest.raises(IrregularSeries, match="lookup table"):
        read_scan(made)


def test_a_lookup_table_cut_short(rng):
    _, made = with_table(rng)
    for one in made:
        one.ModalityLUTSequence[0].LUTData = bytes(20)
    with pytest.raises(UnreadableScan, match="damaged"):
        read_scan(made)


# Refused


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        ({"RescaleSlope": -1}, "RescaleSlope"),
        ({"RescaleSlope": 0}, "RescaleSlope"),
        ({"RescaleIntercept": None}, "RescaleIntercept"),
        ({"BitsStored": 17}, "17 stored"),
        ({"HighBit": 3}, "high bit 3"),
        ({"BitsAllocated": 12}, "12 bits allocated"),
        ({"BitsAllocated": None}, "BitsAllocated"),
        ({"PixelRepresentation": 7, "RescaleIntercept": None}, "RescaleIntercept"),
    ],
)
def test_layouts_that_no_ct_has_are_refused(tmp_path, hu, elements, message):
    write_series(tmp_path, hu, **elements)
    with pytest.raises(IrregularSeries, match=message):
        read_scan(tmp_path)


def test_a_slope_beyond_numbers_is_refused(hu):
    scan = read_scan(slices(hu + 1, RescaleSlope=1e38, RescaleIntercept=1e38))
    with pytest.raises(NonFiniteVoxels, match="RescaleSlope"):
        _ = scan.voxels
