"""Compressed frames that claim a size of their own, or cost more than they are worth."""

from __future__ import annotations

import struct

import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1

from ctedge import UnreadableScan, preprocess, read_scan
from ctedge.readers.dicom.codestream import check_codestream
from dicom_factory import hu_of, slices

hu = hu_of(4, 6, 8)


def jpeg_2000(
    rows: int,
    columns: int,
    *,
    components: int = 1,
    bits: int = 16,
    tile: tuple[int, int] | None = None,
) -> bytes:
    tile_rows, tile_columns = tile or (rows, columns)
    sizes = (columns, rows, 0, 0, tile_columns, tile_rows, 0, 0)
    size = struct.pack(">HIIIIIIIIH", 0, *sizes, components)
    segment = size + bytes([bits - 1, 1, 1]) * components
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(segment) + 2) + segment


def jpeg(rows: int, columns: int, *, components: int = 1, bits: int = 16, sof: int = 0xC1) -> bytes:
    head = struct.pack(">BHHB", bits, rows, columns, components) + bytes(3 * components)
    comment = b"\xff\xfe\x00\x06\xff\xc3\xff\xf7"  # markers inside a comment are none
    return b"\xff\xd8" + comment + b"\xff\xff" + struct.pack(">BH", sof, len(head) + 2) + head


TABLES, SCAN = b"\xff\xc4\x00\x04ab", b"\xff\xda\x00\x04cd"


CODED = TABLES + SCAN + b"coded\xff\x00data\xff\xd9"


def lossless(rest: bytes) -> bytes:
    return jpeg(6, 8, sof=0xC3) + rest


BOXES = b"\x00\x00\x00\x0cjP  \r\n\x87\n" + b"\x00\x00\x00\x14ftypjp2 \x00\x00\x00\x00jp2 "


@pytest.mark.parametrize(
    "frame",
    [
        jpeg_2000(6, 8),
        BOXES + b"\x00\x00\x00\x00jp2c" + jpeg_2000(6, 8),
        jpeg(6, 8) + CODED,
        jpeg(6, 8, bits=12) + CODED,
        jpeg(6, 8, sof=0xC2) + CODED[:-2] + CODED,
        jpeg(6, 8, sof=0xF7) + SCAN + b"coded\xff\x00\xff\x7fdata\xff\xd9",
        lossless(TABLES + SCAN + b"coded\xff\x00data\xff\xd3\xff\xd9"),
        lossless(TABLES + TABLES + SCAN + b"coded data\xff\xff\xd9\x00"),
        b"\xff\xd8" + TABLES + lossless(SCAN + b"coded data\xff\xd9")[2:],
    ],
)
def test_a_frame_of_the_promised_size_passes(frame):
    check_codestream(frame, rows=6, columns=8, bits_allocated=16)


@pytest.mark.parametrize(
    "frame",
    [
        jpeg_2000(6, 4_000_000_000),
        jpeg_2000(6, 8, components=3),
        jpeg_2000(6, 8, bits=32),
        jpeg(65535, 65535),
        jpeg(6, 8, components=4),
        jpeg_2000(6, 8, tile=(1, 1)),
        jpeg_2000(6, 8, tile=(0, 8)),
        jpeg(6, 8, sof=0xC9) + CODED,  # arithmetic coding
        jpeg(6, 8),
        jpeg(6, 8) + CODED[:-2] + CODED,
        jpeg(6, 8) + CODED[:-2],
        jpeg(6, 8, sof=0xF7) + SCAN + b"coded data",
        # Lossless frames without tables, or with markers in coded data.
        lossless(SCAN + b"coded data\xff\xd9"),
        lossless(b"\xff\xc4" + SCAN + b"coded data\xff\xd9"),
        lossless(TABLES + SCAN + b"coded\xff\xdbdata\xff\xd9"),
        lossless(TABLES + SCAN + b"coded data"),
        lossless(TABLES + b"garbage" + SCAN + b"coded data\xff\xd9"),
        jpeg(6, 8, bits=130, sof=0xF7),
        jpeg(0, 8),
        jpeg(6, 8)[:-4],
        jpeg(6, 8)[:9],
        BOXES,
        BOXES + b"\x00\x00\x00\x08jp2c",
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        bytes(100),
        b"\xff" * 100,
    ],
)
def test_a_frame_of_another_size_is_refused_before_it_is_decoded(frame):
    with pytest.raises(ValueError, match=r"frame|codestream"):
        check_codestream(frame, rows=6, columns=8, bits_allocated=16)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (JPEG2000Lossless, jpeg_2000(40_000, 40_000)),
        (JPEGLosslessSV1, jpeg(40_000, 40_000) + TABLES),
    ],
)
def test_a_codestream_bomb(hu, syntax, frame):
    made = slices(hu)
    for one in made:
        one.PixelData = pydicom.encaps.encapsulate([frame])
        one.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(UnreadableScan, match=r"(?s)damaged.*40000 x 40000"):
        preprocess(read_scan(made))


@pytest.mark.parametrize("sof", [0xC1, 0xC2])
@pytest.mark.parametrize("scans", [2, 65])
def test_each_scan_costs_a_pass(sof, scans):
    """Progressive JPEG has some; a frame that has far more is made to cost time."""
    frame = jpeg(6, 8, sof=sof) + TABLES + (SCAN + b"coded") * scans + b"\xff\xd9"
    if sof == 0xC2 and scans == 2:
        check_codestream(frame, rows=6, columns=8, bits_allocated=16)
    else:
        with pytest.raises(ValueError, match=r"1 header and (2|65) scans"):
            check_codestream(frame, rows=6, columns=8, bits_allocated=16)
