"""Compressed pixels: carried over bit for bit, and nothing beside the frames."""

from __future__ import annotations

import io
import struct

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ctedge.deidentify.reading import Refused
from deidentify_factory import clean, cleaned, ct
from dicom_frames import can_encode, frame_of, jpeg_2000

SYNTAXES = [JPEGLosslessSV1, JPEGExtended12Bit, JPEGLSLossless, JPEG2000Lossless, RLELossless]
SIDE = 32
PIXELS = np.random.default_rng(5).integers(0, 3000, (SIDE, SIDE)).astype(np.uint16)
CANARY = b"KANARIENVOGEL. "
ITEM = b"\xfe\xff\x00\xe0"


def frame(syntax: str) -> bytes:
    assert can_encode(syntax)
    made = frame_of(PIXELS, syntax, 12)
    return made + b"\0" * (len(made) % 2)


def items(*contents: bytes) -> bytes:
    """A basic offset table, and fragments."""
    return b"".join(ITEM + struct.pack("<I", len(one)) + one for one in contents)


def compressed(pixels: bytes, syntax: str, frames: int = 1) -> FileDataset:
    dataset = ct(Rows=SIDE, Columns=SIDE, PixelData=pixels, BitsStored=12, HighBit=11)
    if frames > 1:
        dataset.NumberOfFrames = frames
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


#: A frame of run lengths is one fragment, PS3.5 A.4.2.
WAYS = [(syntax, n) for syntax in SYNTAXES for n in (1, 3) if (syntax, n) != (RLELossless, 3)]


@pytest.mark.parametrize(("syntax", "fragments"), WAYS)
@pytest.mark.parametrize("frames", [1, 2])
def test_frames_are_neither_decoded_nor_fragmented_anew(tmp_path, syntax, fragments, frames):
    pixels = encapsulate(
        [frame(syntax)] * frames, fragments_per_frame=fragments, has_bot=fragments == 1
    )
    dataset = compressed(pixels, syntax, frames)
    assert cleaned(tmp_path, dataset).PixelData == pixels


def test_one_byte_of_any_value_fills_a_fragment_up(tmp_path):
    whole = frame_of(PIXELS, JPEGLosslessSV1, 12)
    for more in (b"", b"\0", b"\x9a"):  # encoders leave there what their memory held
        if (len(whole) + len(more)) % 2 == 0:
            pixels = items(b"", whole + more)
            assert cleaned(tmp_path, compressed(pixels, JPEGLosslessSV1)).PixelData == pixels


def comment(text: bytes, marker: int = 0xFE) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(text) + 2) + text


def comment_2000(text: bytes) -> bytes:
    return struct.pack(">HHH", 0xFF64, len(text) + 4, 1) + text


def with_header(syntax: str, text: bytes) -> bytes:
    """A frame with a segment in its header."""
    made = frame_of(PIXELS, syntax, 12)
    if syntax == JPEG2000Lossless:
        at = made.index(b"\xff\x52")  # behind SIZ, which is the first
        return made[:at] + text + made[at:]
    return made[:2] + text + made[2:]


#: As the sources of the encoders have it, or files that they wrote.
OWN = [
    (JPEGLosslessSV1, comment(b"LEAD Technologies Inc. V1.01\0")),
    (JPEGLosslessSV1, comment(b"MITRA_DICOM_STANDARD")),
    (JPEGLosslessSV1, comment(b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90\n")),
    (JPEGLosslessSV1, comment(b"Lavc58.134.100")),
    (JPEGLosslessSV1, comment(b"JFIF\0\1\1\0\0\1\0\1\0\0", 0xE0)),
    (JPEGLosslessSV1, comment(b"Adobe\0\x64\0\0\0\0\0", 0xEE)),
    (JPEGLSLossless, comment(b"charls 2.4.2\0")),
    (JPEG2000Lossless, comment_2000(b"Kakadu-v7.3.3")),
    (
        JPEG2000Lossless,
        comment_2000(
            b"Kdu-Layer-Info: log_2{Delta-D(squared-error)/Delta-L(bytes)}, L(bytes)\n"
            b"-192.0,  9.8e+04\n"
        ),
    ),
    (JPEG2000Lossless, comment_2000(b"Created by GDCM/OpenJPEG version 2.3.1")),
    (JPEG2000Lossless, comment_2000(b"Creator: JasPer Version 1.900.12")),
    (JPEG2000Lossless, comment_2000(b"OpenJPH Ver 0.26.3.")),
]


def with_it(syntax: str, segment: bytes) -> FileDataset:
    return compressed(encapsulate([with_header(syntax, segment)]), syntax)


@pytest.mark.parametrize(("syntax", "segment"), OWN)
def test_an_encoders_own_words_pass_bit_for_bit(tmp_path, syntax, segment):
    dataset = with_it(syntax, segment)
    assert cleaned(tmp_path, dataset).PixelData == dataset.PixelData


@pytest.mark.parametrize(("syntax", "segment"), OWN)
@pytest.mark.parametrize("more", [b" Ann Lee", b"Lee", b", ward 7", b"\n19510317", b"\0Ann"])
def test_a_word_behind_an_encoders_own_is_refused(tmp_path, syntax, segment, more):
    length = struct.unpack_from(">H", segment, 2)[0] + len(more)
    longer = segment[:2] + struct.pack(">H", length) + segment[4:] + more
    with pytest.raises(Refused, match="no known encoder") as caught:
        clean(tmp_path, with_it(syntax, longer))
    assert "Lee" not in str(caught.value)


@pytest.mark.parametrize(
    ("syntax", "segment"),
    [
        (JPEGLosslessSV1, comment(b"Mrs Ann Lee, ward 7.")),
        (JPEGLosslessSV1, comment(b"LEAD Technologies Inc. Ann Lee")),
        (JPEGLosslessSV1, comment(b"Aware Ann Lee")),
        (JPEGLosslessSV1, comment(b"CREATOR: gd-jpeg v1.0 (using Ann Lee), quality = 90\n")),
        (JPEGLosslessSV1, comment(b"Exif\0\0Ann Lee.", 0xE1)),
        (JPEGLosslessSV1, comment(b"JFIF\0Ann Lee\0\0", 0xE0)),
        (JPEGLosslessSV1, comment(b"Adobe\0Ann Lee", 0xEE)),
        (JPEGLosslessSV1, comment(b"HP\0Lee.", 0xE9)),
        (JPEGLSLossless, comment(b"SPIFF\0\1\2Ann Lee, 17 March 1951.", 0xE8)),
        (JPEG2000Lossless, comment_2000(b"Ann Lee.")),
        (JPEG2000Lossless, comment_2000(b"Kakadu Ann Lee")),
        (JPEG2000Lossless, comment_2000(b"Kdu-Layer-Info: Ann Lee, 17.03.1951")),
        (JPEG2000Lossless, comment_2000(b"Created by OpenJPEG for Ann Lee")),
    ],
)
def test_text_that_is_nobodys_but_a_persons_is_refused(tmp_path, syntax, segment):
    with pytest.raises(Refused, match="no known encoder"):
        clean(tmp_path, with_it(syntax, segment))


def of_jp2() -> bytes:
    """The boxes of a JP2 file with one more, of text."""
    made = jpeg_2000(PIXELS, 12, kind="jp2")
    at = made.index(b"jp2c") - 4
    return made[:at] + struct.pack(">I4s", 8 + len(CANARY), b"xml ") + CANARY + made[at:]


def rle(**changes: bytes) -> bytes:
    made = bytearray(frame(RLELossless))
    for at, content in changes.items():
        place = int(at.removeprefix("at_"))
        made[place : place + len(content)] = content
    return bytes(made)


def even(made: bytes) -> bytes:
    return made + b"\0" * (len(made) % 2)


JPEG, LS, J2K = (frame(one) for one in (JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless))
EOI = JPEG.rindex(b"\xff\xd9")
TILE = J2K.index(b"\xff\x93")
IN_TILE = bytearray(J2K[:TILE] + comment_2000(CANARY) + J2K[TILE:])
PSOT = J2K.index(b"\xff\x90") + 6
struct.pack_into(">I", IN_TILE, PSOT, struct.unpack_from(">I", J2K, PSOT)[0] + 6 + len(CANARY))
HIDDEN = {
    "boxes of a JP2 file": (JPEG2000Lossless, items(b"", even(of_jp2()))),
    "behind EOC": (JPEG2000Lossless, items(b"", even(J2K + CANARY))),
    "COM in a tile-part": (JPEG2000Lossless, items(b"", even(bytes(IN_TILE)))),
    "behind EOI": (JPEGLosslessSV1, items(b"", even(JPEG + CANARY))),
    "behind EOI, JPEG-LS": (JPEGLSLossless, items(b"", even(LS + CANARY))),
    "COM behind the scan": (
        JPEGLosslessSV1,
        items(b"", even(JPEG[:EOI] + comment(CANARY) + JPEG[EOI:])),
    ),
    "APP behind the scan": (
        JPEGLosslessSV1,
        items(b"", even(JPEG[:EOI] + comment(CANARY, 0xEA) + JPEG[EOI:])),
    ),
    "COM opens a fragment": (
        JPEGLosslessSV1,
        items(b"", JPEG[:2], even(comment(CANARY) + JPEG[2:])),
    ),
    "an unknown marker": (
        JPEGLosslessSV1,
        items(b"", even(JPEG[:2] + comment(CANARY, 0xF0) + JPEG[2:])),
    ),
    "a long scan header": (
        JPEGLosslessSV1,
        items(b"", even(JPEG.replace(b"\xff\xda\0\x08", b"\xff\xda\0\x17" + CANARY))),
    ),
    "one more fragment": (JPEGLosslessSV1, items(b"", even(JPEG), even(CANARY))),
    "one more frame": (JPEGLosslessSV1, items(b"", even(JPEG), even(JPEG))),
    "an empty fragment": (JPEGLosslessSV1, items(b"", b"", even(JPEG))),
    "the offset table": (JPEGLosslessSV1, items(even(CANARY), even(JPEG))),
    "one wrong offset": (JPEGLosslessSV1, items(b"NAME", even(JPEG))),
    "behind the run lengths": (RLELossless, items(b"", even(rle() + CANARY))),
    "unused offsets": (RLELossless, items(b"", rle(at_16=CANARY))),
    "no frame at all": (JPEGLosslessSV1, items(b"", even(CANARY))),
}


@pytest.mark.parametrize(("syntax", "pixels"), HIDDEN.values(), ids=HIDDEN)
def test_bytes_that_are_none_of_a_frames_are_refused(tmp_path, syntax, pixels):
    with pytest.raises(Refused) as caught:
        clean(tmp_path, compressed(pixels, syntax))
    assert "KANARIEN" not in str(caught.value)


@pytest.mark.parametrize("wrong", [False, True])
def test_extended_offsets_stay_where_they_are_those_of_the_frames(tmp_path, wrong):
    pixels, offsets, lengths = encapsulate_extended([JPEG, JPEG])
    dataset = compressed(pixels, JPEGLosslessSV1, 2)
    dataset.ExtendedOffsetTable = offsets
    dataset.ExtendedOffsetTableLengths = lengths if not wrong else CANARY + b"."
    one = pydicom.dcmread(io.BytesIO(clean(tmp_path, dataset).data))
    kept = (one.get("ExtendedOffsetTable"), one.get("ExtendedOffsetTableLengths"))
    assert kept == ((None, None) if wrong else (offsets, lengths))
    assert one.PixelData == pixels
