"""Pixels: carried over bit for bit, or, where they may show a name, refused."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.datadict import keyword_for_tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from ctedge import UnreadableScan
from ctedge.deidentify.reading import Refused
from deidentify_factory import clean, cleaned, ct
from dicom_factory import item


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_native_pixels_stay_bit_for_bit(tmp_path, syntax):
    dataset = ct()
    dataset.file_meta.TransferSyntaxUID = syntax
    one = cleaned(tmp_path, dataset)
    assert one.PixelData == dataset.PixelData
    assert one.file_meta.TransferSyntaxUID == syntax


def test_float_pixels_and_lookup_tables_stay(tmp_path):
    table = item(LUTDescriptor=[4, 0, 16], ModalityLUTType="HU", LUTExplanation="Whitfield")
    table.add_new("LUTData", "US", [1, 2, 3, 4])
    one = cleaned(tmp_path, ct(ModalityLUTSequence=[table]))
    assert one.ModalityLUTSequence[0].LUTData == [1, 2, 3, 4]
    assert one.ModalityLUTSequence[0].LUTExplanation == ""
    values = np.arange(64, dtype="<f4").tobytes()
    one = cleaned(tmp_path, ct(PixelData=None, FloatPixelData=values, BitsAllocated=32))
    assert one.FloatPixelData == values


CANARY = b"KANARIENVOGEL..." * 4


@pytest.mark.parametrize("tag", [0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009])
def test_nothing_lies_beside_the_one_pixel_element(tmp_path, tag):
    dataset = ct()
    dataset.add_new(tag, {1: "OV", 2: "OV", 8: "OF", 9: "OD"}[tag & 0xF], CANARY)
    answer = clean(tmp_path, dataset)
    assert b"KANARIENVOGEL" not in answer.data
    assert answer.counts[keyword_for_tag(tag), "removed"] == 1


def test_float_pixels_are_as_long_as_the_image(tmp_path):
    values = np.arange(64, dtype="<f4").tobytes()
    for spare, error in ((CANARY, Refused), (b"", UnreadableScan)):
        pixels = values + spare if spare else values[:-4]
        with pytest.raises(error):
            clean(tmp_path, ct(PixelData=None, FloatPixelData=pixels, BitsAllocated=32))


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_lookup_table_is_cut_to_what_its_descriptor_says(tmp_path, sequence):
    table = item(LUTDescriptor=[4, 0, 16], ModalityLUTType="HU")
    table.add_new("LUTData", "OW", bytes(range(8)) + CANARY)
    answer = clean(tmp_path, ct(**{sequence: [table]}))
    assert b"KANARIENVOGEL" not in answer.data
    one = cleaned(tmp_path, ct(**{sequence: [table]}))
    assert one[sequence][0].LUTData == bytes(range(8))
    table["LUTData"].value = bytes(6)
    assert "LUTData" not in cleaned(tmp_path, ct(**{sequence: [table]}))[sequence][0]


def test_palettes_are_removed(tmp_path):
    dataset = ct(RedPaletteColorLookupTableDescriptor=[4, 0, 16])
    for tag in (0x00281201, 0x00281202, 0x00281203, 0x00281221):
        dataset.add_new(tag, "OW", CANARY)
    assert b"KANARIENVOGEL" not in clean(tmp_path, dataset).data
    assert "RedPaletteColorLookupTableDescriptor" not in cleaned(tmp_path, dataset)


TWELVE = {"BitsStored": 12, "HighBit": 11}


@pytest.mark.parametrize(
    ("high", "passes"), [(0x0000, True), (0xF000, True), (0x8000, False), (0x1000, False)]
)
def test_bits_beside_the_pixels_hold_zeros_or_the_sign(tmp_path, high, passes):
    pixels = np.arange(64, dtype="<u2") | 0x0800 | high
    dataset = ct(**TWELVE, PixelRepresentation=1, PixelData=pixels.astype("<u2").tobytes())
    if passes:
        assert cleaned(tmp_path, dataset).PixelData == dataset.PixelData
    else:
        with pytest.raises(Refused, match="beside the pixels"):
            clean(tmp_path, dataset)
        padded = ct(**TWELVE, PixelData=dataset.PixelData)
        padded.PixelPaddingValue = 5
        with pytest.raises(Refused, match="beside the pixels"):
            clean(tmp_path, padded)


def test_the_padding_value_may_lie_beyond_the_stored_bits(tmp_path):
    pixels = np.arange(64, dtype="<u2")
    pixels[:5] = 63536
    dataset = ct(**TWELVE, PixelData=pixels.tobytes(), PixelPaddingValue=63536)
    assert cleaned(tmp_path, dataset).PixelData == dataset.PixelData


def test_a_small_picture_in_a_sequence_is_removed(tmp_path):
    icon = item(Rows=1, Columns=2, BitsAllocated=8, PixelData=b"ab")
    one = cleaned(tmp_path, ct(IconImageSequence=[icon], PixelMeasuresSequence=[icon]))
    assert "IconImageSequence" not in one
    assert "PixelData" not in one.PixelMeasuresSequence[0]


SUSPICIOUS = {
    "BurnedInAnnotation": {"BurnedInAnnotation": "YES"},
    "RecognizableVisualFeatures": {"RecognizableVisualFeatures": "YES"},
    "screen": {"ImageType": ["DERIVED", "PRIMARY", "SCREEN SAVE"]},
    "DERIVED and SECONDARY": {"ImageType": ["DERIVED", "SECONDARY", "MPR"]},
    "dose page": {"SeriesDescription": "Dose Report"},
    "patient protocol": {"SeriesDescription": "Patient Protocol"},
    "image class": {"SOPClassUID": SecondaryCaptureImageStorage},
    "basic text": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"},
    "encapsulated": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"},
    "presentation": {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"},
    "Modality": {"Modality": "SR"},
    "ConversionType": {"ConversionType": "WSD"},
    "coloured": {"SamplesPerPixel": 3, "PixelData": bytes(384)},
    "overlay": {"OverlayRows": 8},
    "more bytes": {"PixelData": bytes(128) + b"NAME"},
}


@pytest.mark.parametrize("changes", SUSPICIOUS.values(), ids=SUSPICIOUS)
def test_what_may_show_a_name_is_refused(tmp_path, changes):
    dataset = ct(**{key: value for key, value in changes.items() if key != "OverlayRows"})
    if "OverlayRows" in changes:  # an overlay without data of its own: in the pixels' spare bits
        dataset.add_new(0x60000010, "US", 8)
        dataset.add_new(0x60000102, "US", 15)
    with pytest.raises(Refused) as caught:
        clean(tmp_path, dataset)
    assert len(caught.value.args[0]) >= 1


def test_an_ordinary_reconstruction_is_not_suspicious(tmp_path):
    kinds = ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    assert cleaned(tmp_path, ct(ImageType=kinds, BurnedInAnnotation="NO")).ImageType == kinds


@pytest.mark.parametrize("name", ["Whitfield", "HOSP-0042317"])
def test_a_name_among_the_pixels_bytes_is_refused(tmp_path, name):
    pixels = bytes(40) + name.encode()
    with pytest.raises(Refused, match="identifying value"):
        clean(tmp_path, ct(PixelData=pixels.ljust(128, b"\0")))


def test_overlays_and_curves_are_removed(tmp_path):
    dataset = ct()
    dataset.add_new(0x60000010, "US", 8)
    dataset.add_new(0x60003000, "OW", bytes(8))
    dataset.add_new(0x50000010, "US", 8)
    one = cleaned(tmp_path, dataset)
    assert not [tag for tag in one.keys() if tag.group in (0x5000, 0x6000)]  # noqa: SIM118
    assert isinstance(one, pydicom.FileDataset)
