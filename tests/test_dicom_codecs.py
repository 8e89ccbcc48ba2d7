"""Transfer syntaxes: each is decoded exactly, or named."""

from __future__ import annotations

import struct
import sys

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from ctedge import CodecUnavailable, UnreadableScan, read_scan
from dicom_factory import enhanced, las, save, slices, write_series
from dicom_frames import can_encode, jpeg_2000, lossless_jpeg, put_frames

SHAPE = (4, 70, 66)

#: JPEG-LS with NEAR 2, and quantised coefficients of a smooth picture, in stored values.
LOSSY_HU = 12

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
]

JPEG_LS_12 = (
    "ffd8fff7000b0c0010001001011100ffda00080101000000000139251d150d07fa4a3a4a3800b5f7df9ee94949"
    "08c8892948481f8005548f9ebc2576e9cb823a46ed8a8e9a3284c9112420fbe4546f3ae968a271c71b21a4eda2"
    "0a269a68b3d0b2cb2cbfa12361f5030c3059a8185d75deff2e44f3f2ebac597facb2cb3dfab2c42f165952c9f9"
    "ad6b5efb6b5a0017f18c2c7f58c631efa631658a996b2c3f16b5adef95ad6583db0acaff52d6b5bdf0b528af79"
    "53015df0a5294f7ba94a2b9dd997db33333deccaa56eaaaaaf2aaabdaaaaa56aa2aaab2aaabda8aaa5669aaaa9"
    "2526abda6aaa56292aa4494970ffd9"
)


@pytest.fixture
def hu() -> np.ndarray:
    """(slices, rows, columns), smooth: codecs are made for that."""
    z, y, x = np.meshgrid(*[np.linspace(0, 3, n) for n in SHAPE], indexing="ij")
    return (900 * np.sin(x + z) * np.cos(y)).astype(np.int16)


def needs_encoder(syntax) -> None:
    if syntax.is_compressed and syntax.is_encapsulated and not can_encode(syntax):
        pytest.skip(f"nothing installed encodes {syntax.name}")


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"signed": True, "intercept": 0},
        {"bits": (16, 12, 11)},
        {"bits": (16, 12, 11), "signed": True, "intercept": 0},
    ],
    ids=str,
)
def test_lossless_syntaxes_give_the_same_hu(tmp_path, hu, syntax, layout):
    needs_encoder(syntax)
    write_series(tmp_path, hu, syntax=syntax, **layout)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


@pytest.mark.parametrize(
    ("syntax", "layout"),
    [
        (JPEGExtended12Bit, {"bits": (16, 12, 11)}),
        (JPEGBaseline8Bit, {"bits": (8, 8, 7), "slope": 8}),
        (JPEGLSNearLossless, {}),
        (JPEG2000, {"bits": (16, 12, 11)}),
        (HTJ2K, {}),
    ],
)
def test_lossy_syntaxes_come_near(tmp_path, hu, syntax, layout):
    needs_encoder(syntax)
    write_series(tmp_path, hu, syntax=syntax, **layout)
    found = read_scan(tmp_path).voxels
    assert np.abs(found.astype(float) - las(hu)).mean() < LOSSY_HU * layout.get("slope", 1) / 2


@pytest.mark.parametrize(
    "syntax",
    [RLELossless, JPEGLSLossless, JPEGLosslessSV1, HTJ2KLossless],
    ids=lambda syntax: syntax.name,
)
def test_data_sets_in_memory_and_frames_of_one_object(hu, syntax):
    needs_encoder(syntax)
    np.testing.assert_array_equal(read_scan(slices(hu, syntax=syntax)).voxels, las(hu))
    np.testing.assert_array_equal(read_scan(enhanced(hu, syntax=syntax)).voxels, las(hu))


# What the frames themselves may be


def hu_of_frames(hu: np.ndarray, encode, syntax, **layout) -> np.ndarray:
    """The series with frames of our own making, as it is read."""
    made = slices(hu, **layout)
    for one in made:
        kind = f"<{'i' if one.PixelRepresentation else 'u'}{one.BitsAllocated // 8}"
        pixels = np.frombuffer(one.PixelData, kind).reshape(one.Rows, one.Columns)
        put_frames(one, [encode(pixels)], syntax)
    return read_scan(made).voxels


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("predictor", range(1, 8))
def test_each_predictor_of_lossless_jpeg(hu, predictor, bits):
    found = hu_of_frames(
        hu,
        lambda pixels: lossless_jpeg(pixels, bits, predictor=predictor),
        JPEGLossless,
        bits=(16, bits, bits - 1),
        signed=True,
        intercept=0,
    )
    np.testing.assert_array_equal(found, las(hu))


def test_a_point_transform_of_lossless_jpeg(hu):
    found = hu_of_frames(
        hu, lambda pixels: lossless_jpeg(pixels, 12, shift=2), JPEGLossless, bits=(16, 12, 11)
    )
    np.testing.assert_array_equal(found, las(((hu + 1024) & ~3) - 1024))


def test_restart_intervals_of_lossless_jpeg(hu):
    quarter = np.ascontiguousarray(hu[:, :20])
    found = hu_of_frames(
        np.tile(quarter, (1, 10, 1)),
        lambda pixels: lossless_jpeg(pixels[:20], 16, times=10),
        JPEGLosslessSV1,
    )
    np.testing.assert_array_equal(found, las(np.tile(quarter, (1, 10, 1))))


@pytest.mark.parametrize("bits", [12, 13, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("said", [False, True])
def test_a_codestream_of_another_sign_than_the_header_says(hu, bits, signed, said):
    """The bits are the same, and the header says which of them is the sign."""

    def encode(pixels: np.ndarray) -> bytes:
        low = pixels.astype(np.int32) & ((1 << bits) - 1)
        negative = (low >> (bits - 1)) * said
        return jpeg_2000((low - (negative << bits)).astype("<i2" if said else "<u2"), bits)

    layout = {"bits": (16, bits, bits - 1), "signed": signed, "intercept": 0 if signed else -1024}
    found = hu_of_frames(hu, encode, JPEG2000Lossless, **layout)
    np.testing.assert_array_equal(found, las(hu))


def test_jpeg_ls_of_12_bits():
    """What another encoder (pyjpegls 1.5.1) makes of 16 x 16 signed pixels."""
    pixels = ((np.add.outer(np.arange(16), np.arange(16)) * 37) % 400 - 200).astype(np.int16)
    found = hu_of_frames(
        np.stack([pixels] * 4),
        lambda _: bytes.fromhex(JPEG_LS_12),
        JPEGLSLossless,
        bits=(16, 12, 11),
        signed=True,
        intercept=0,
    )
    np.testing.assert_array_equal(found, las(np.stack([pixels] * 4)))


def test_jpeg_2000_in_boxes(hu):
    found = hu_of_frames(hu, lambda pixels: jpeg_2000(pixels, 16, kind="jp2"), JPEG2000Lossless)
    np.testing.assert_array_equal(found, las(hu))


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("filling", [0, 1, 4])
def test_runs_that_are_filled_up_with_zeros(hu, bits, filling):
    """As some writers do, to an even length and beyond: two zeros are one more byte."""
    layout = {"bits": (bits, bits, bits - 1)}
    if bits == 8:
        hu, layout = (hu // 16 * 16), {**layout, "slope": 16}

    def encode(pixels: np.ndarray) -> bytes:
        planes = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
        segments = [
            b"".join(b"\x00" + bytes([byte]) for byte in planes[place :: bits // 8])
            + bytes(filling)
            for place in range(bits // 8)
        ]
        starts = [64 + sum(map(len, segments[:place])) for place in range(len(segments))]
        header = [len(segments), *starts, *[0] * (15 - len(segments))]
        return struct.pack("<16I", *header) + b"".join(segments)

    np.testing.assert_array_equal(hu_of_frames(hu, encode, RLELossless, **layout), las(hu))


# What is not decoded


@pytest.mark.parametrize("uid", ["4.103", "4.92", "4.52", "8.1", "4.999"])
def test_a_syntax_that_nothing_decodes_is_named(tmp_path, hu, uid):
    """MPEG-4, JPEG 2000 part 2, arithmetic JPEG, deflated frames, and one that does not exist."""
    known, wanted = "1.2.840.10008.1.2.4.103", f"1.2.840.10008.1.2.{uid}"
    for number, one in enumerate(slices(hu)):
        one.file_meta.TransferSyntaxUID = known
        one.PixelData = pydicom.encaps.encapsulate([bytes(64)])
        one["PixelData"].is_undefined_length = True
        path = save(tmp_path / f"{number}.dcm", one)
        named = wanted.encode().ljust(len(known), b"\0")
        path.write_bytes(path.read_bytes().replace(known.encode(), named))
    with pytest.raises(CodecUnavailable, match=wanted.replace(".", r"\.")):
        read_scan(tmp_path)


def test_without_the_package_the_syntax_and_what_adds_it_are_named(tmp_path, hu, monkeypatch):
    write_series(tmp_path, hu, syntax=JPEGLosslessSV1)
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(CodecUnavailable, match=r"(?s)JPEG Lossless.*4\.70.*pip install") as caught:
        read_scan(tmp_path)
    assert "ctedge[dicom]" in str(caught.value)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, HTJ2KLossless], ids=lambda one: one.name)
def test_a_frame_of_no_codec_is_damage(tmp_path, hu, syntax):
    for number, one in enumerate(slices(hu)):
        put_frames(one, [bytes(64)], syntax)
        save(tmp_path / f"{number}.dcm", one)
    with pytest.raises(UnreadableScan, match="no known codec"):
        _ = read_scan(tmp_path).voxels


def test_a_frame_of_another_codec_is_damage(hu):
    with pytest.raises(UnreadableScan, match="JPEG_2000, not of its syntax"):
        hu_of_frames(hu, lambda pixels: jpeg_2000(pixels, 16), JPEGLosslessSV1)


@pytest.mark.parametrize(
    ("syntax", "found"),
    [
        (JPEG2000Lossless, "Jpeg2kError: "),  # what the library says
        (JPEGLSLossless, "ValueError: a compressed frame "),
        (RLELossless, "ImcdError: "),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_damaged_pixels_are_told_by_file_and_codec(tmp_path, hu, syntax, found):
    paths = write_series(tmp_path / "series", hu, syntax=syntax)
    one = pydicom.dcmread(paths[1])
    frame = pydicom.encaps.get_frame(one.PixelData, 0, number_of_frames=1)
    put_frames(one, [frame[: len(frame) // 2]], syntax)
    save(paths[1], one)
    with pytest.raises(UnreadableScan) as caught:
        _ = read_scan(tmp_path / "series").voxels
    assert caught.value.what.endswith(
        f"001.dcm: its pixels, compressed as {syntax.name}, are damaged"
    )
    assert str(caught.value.found).startswith(found)
    assert "export the series again" in caught.value.fix
