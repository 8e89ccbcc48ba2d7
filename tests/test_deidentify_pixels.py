"""Pixels: carried over bit for bit, or, where they may show a name, refused."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from ctedge.deidentify import deidentify_folder
from ctedge.deidentify.instance import Refused
from deidentify_factory import clean, cleaned, ct, item, write


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_native_pixels_stay_bit_for_bit(tmp_path, syntax):
    dataset = ct()
    dataset.file_meta.TransferSyntaxUID = syntax
    one = cleaned(tmp_path, dataset)
    assert one.PixelData == dataset.PixelData
    assert one.file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEG2000Lossless, RLELossless])
@pytest.mark.parametrize("fragments", [1, 3])
def test_compressed_frames_are_neither_decoded_nor_fragmented_anew(tmp_path, syntax, fragments):
    dataset = ct()
    # No codec reads these frames: they can only pass as they are.
    frame = np.random.default_rng(5).bytes(3000)
    dataset.PixelData = encapsulate([frame], fragments_per_frame=fragments, has_bot=fragments == 1)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    path = write(tmp_path / "in" / "a.dcm", dataset)
    summary = deidentify_folder(tmp_path / "in", tmp_path / "out")
    (one,) = summary.outcomes
    before, after = path.read_bytes(), (tmp_path / "out" / one.output).read_bytes()
    start = bytes.fromhex("e07f1000")  # (7FE0,0010), to the end of the file
    assert after[after.index(start) :] == before[before.index(start) :]


def test_float_pixels_and_lookup_tables_stay(tmp_path):
    table = item(LUTDescriptor=[4, 0, 16], ModalityLUTType="HU", LUTExplanation="Whitfield")
    table.add_new("LUTData", "US", [1, 2, 3, 4])
    one = cleaned(tmp_path, ct(ModalityLUTSequence=[table]))
    assert one.ModalityLUTSequence[0].LUTData == [1, 2, 3, 4]
    assert one.ModalityLUTSequence[0].LUTExplanation == ""
    values = np.arange(64, dtype="<f4").tobytes()
    one = cleaned(tmp_path, ct(PixelData=None, FloatPixelData=values, BitsAllocated=32))
    assert one.FloatPixelData == values


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


def jpeg(marker: int, text: bytes) -> bytes:
    """The header of a JPEG frame with one segment, and coded data."""
    segment = struct.pack(">BBH", 0xFF, marker, len(text) + 2) + text
    return b"\xff\xd8" + segment + b"\xff\xda\0\x08" + bytes(range(1, 90))


def jpeg_2000(text: bytes) -> bytes:
    segment = struct.pack(">HHH", 0xFF64, len(text) + 4, 1) + text
    return b"\xff\x4f" + segment + b"\xff\x90\0\x0a" + bytes(range(1, 90))


@pytest.mark.parametrize(
    ("frame", "passes"),
    [
        (jpeg(0xFE, b"LEAD Technologies Inc. V1.01"), True),
        (jpeg(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), True),
        (jpeg_2000(b"Kakadu-v7.3.3"), True),
        (jpeg(0xFE, b"Mrs Ann Lee, ward 7"), False),
        (jpeg(0xFE, b"LEAD Technologies Inc. 19510317"), False),
        (jpeg(0xE1, b"Exif\0\0Ann Lee"), False),
        (jpeg_2000(b"Ann Lee"), False),
    ],
)
def test_only_an_encoders_own_comment_passes_in_a_compressed_frame(tmp_path, frame, passes):
    dataset = ct(PixelData=encapsulate([frame]))
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    if passes:
        assert cleaned(tmp_path, dataset).PixelData == dataset.PixelData
    else:
        with pytest.raises(Refused, match="no known encoder"):
            clean(tmp_path, dataset)


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
