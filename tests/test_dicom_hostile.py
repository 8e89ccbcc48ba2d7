"""Files made to cost memory, time or a traceback: each is refused, soon, with one of our errors."""

from __future__ import annotations

import importlib
import struct
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ctedge import CTEdgeError, IrregularSeries, UnreadableScan, read_scan
from dicom_factory import edit, hu_of, las, save, slices, splice, write_series

opening = importlib.import_module("ctedge.readers.dicom.opening")

WANTED = (0x5200, 0x9229)  # a sequence that is read
UNWANTED = (0x0008, 0x1115)  # and one that is not
UNDEFINED = 0xFFFFFFFF
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)


hu = hu_of(4, 6, 8)


def sequence(tag: tuple[int, int], length: int) -> bytes:
    return struct.pack("<HH2sHI", *tag, b"SQ", 0, length)


# Headers


@pytest.mark.parametrize("tag", [WANTED, UNWANTED])
@pytest.mark.parametrize("depth", [50, 2000])
def test_sequences_inside_sequences(tmp_path, hu, tag, depth):
    opened = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    splice(write_series(tmp_path, hu)[1], (sequence(tag, UNDEFINED) + opened) * depth)
    with pytest.raises(UnreadableScan, match=r"001\.dcm: the DICOM file is damaged"):
        read_scan(tmp_path)


@pytest.mark.parametrize("tag", [WANTED, UNWANTED])
@pytest.mark.parametrize("reads", range(1000, 1004))  # in the midst of an item, and between
def test_a_sequence_of_a_million_items(tmp_path, hu, tag, reads, monkeypatch):
    monkeypatch.setattr(opening, "MAX_HEADER_READS", reads)  # a test has no half minute
    splice(write_series(tmp_path, hu)[1], sequence(tag, UNDEFINED) + ITEM * 1_000_000)
    with pytest.raises(UnreadableScan, match="a header without end"):
        read_scan(tmp_path)


def test_a_sequence_of_a_million_items_that_says_its_length(tmp_path, hu):
    blob = sequence(WANTED, len(ITEM) * 1_000_000) + ITEM * 1_000_000
    splice(write_series(tmp_path, hu)[1], blob)
    with pytest.raises(UnreadableScan, match="a sequence without end"):
        read_scan(tmp_path)


def test_a_million_values_of_one_element(tmp_path, hu):
    blob = struct.pack("<HH2sHI", 0x0028, 0x0030, b"UT", 0, 2_000_000) + b"1\\" * 1_000_000
    path = write_series(tmp_path, hu)[1]
    edit(path, PixelSpacing=None)
    splice(path, blob, before=(0x0028, 0x0100))
    with pytest.raises(UnreadableScan, match="a value of 2000000 bytes"):
        read_scan(tmp_path)


def test_a_header_without_end(tmp_path, hu, monkeypatch):
    monkeypatch.setattr(opening, "MAX_HEADER_BYTES", 1000)
    write_series(tmp_path, hu, ImageType=("ORIGINAL",) * 200)
    with pytest.raises(UnreadableScan, match="a header without end"):
        read_scan(tmp_path)


NUMBERS = ["nan", "inf", "-inf", "1e400", "abc", "", "1\\2\\3\\4\\5\\6\\7", "\xff"]


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "RescaleSlope"])
def test_text_in_the_place_of_numbers(tmp_path, hu, keyword, text):
    path = write_series(tmp_path, hu)[1]
    edit(path, **{keyword: None})
    tag = pydicom.tag.Tag(keyword)
    value = text.encode("latin-1") + b" " * (len(text) % 2)
    blob = struct.pack("<HH2sH", tag.group, tag.elem, b"DS", len(value)) + value
    after = {"PixelSpacing": (0x28, 0x100), "ImagePositionPatient": (0x20, 0x37)}
    splice(path, blob, before=after.get(keyword, (0x7FE0, 0x10)))
    with pytest.raises(CTEdgeError) as caught:
        read_scan(tmp_path)
    assert "001.dcm" in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize("vr", [b"UN", b"FD", b"SQ", b"OB", b"LO", b"AT", b"??"])
@pytest.mark.parametrize("tag", [(0x28, 0x10), (0x20, 0x32), (0x28, 0x30), (0x8, 0x60), (0x8, 0x8)])
def test_values_of_another_kind(tmp_path, hu, tag, vr):
    for path in write_series(tmp_path, hu):
        data = bytearray(path.read_bytes())
        place = data.index(struct.pack("<HH", *tag), 300)
        data[place + 4 : place + 6] = vr
        path.write_bytes(data)
    shape, said = (8, 6, 4), None
    try:
        shape = read_scan(tmp_path).shape
    except CTEdgeError as error:
        said = error.fix
    assert shape == (8, 6, 4)
    assert said is None or said


# Pixels


@pytest.mark.parametrize("size", [(65535, 65535), (4097, 4097), (0, 8), (8, 65535)])
def test_more_pixels_than_bytes(tmp_path, hu, size):
    for path in write_series(tmp_path, hu):
        edit(path, Rows=size[0], Columns=size[1])
    with pytest.raises((UnreadableScan, IrregularSeries)):
        read_scan(tmp_path)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("rows", [4096, 65535])
def test_more_compressed_pixels_than_bytes(hu, syntax, rows):
    made = slices(hu, syntax=RLELossless)
    for one in made:
        one.Rows = one.Columns = rows
        one.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(UnreadableScan, match="damaged"):
        _ = read_scan(made).voxels


@pytest.mark.parametrize("data", [b"", b"\x00\x00"])
def test_pixels_of_no_length(tmp_path, hu, data):
    write_series(tmp_path, hu, PixelData=data)
    with pytest.raises(UnreadableScan, match="96 are promised"):
        read_scan(tmp_path)


def test_no_pixels_at_all(tmp_path, hu):
    for number, one in enumerate(slices(hu)):
        del one.PixelData
        save(tmp_path / f"{number}.dcm", one)
    with pytest.raises(UnreadableScan, match="it ends before its pixels"):
        read_scan(tmp_path)


def test_two_frames_of_pixels_in_one_slice(tmp_path, hu):
    path = write_series(tmp_path, hu)[3]
    edit(path, PixelData=pydicom.dcmread(path).PixelData * 2)
    np.testing.assert_array_equal(read_scan(tmp_path).voxels, las(hu))


# Deflated


@pytest.mark.parametrize("damage", ["bomb", "cut", "noise"])
def test_deflated_objects(tmp_path, hu, damage, monkeypatch):
    monkeypatch.setattr(opening, "MAX_INFLATED_BYTES", 10 << 20)
    for number, one in enumerate(slices(hu, syntax=DeflatedExplicitVRLittleEndian)):
        if damage == "bomb":
            one.PixelData = bytes(20 << 20)
        path = save(tmp_path / f"{number}.dcm", one)
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-200])
        elif damage == "noise":
            path.write_bytes(path.read_bytes()[:-200] + bytes(range(200)))
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 100_000
    with pytest.raises(UnreadableScan, match="inflates beyond" if damage == "bomb" else "damaged"):
        read_scan(tmp_path)


def test_the_limit_holds_wherever_the_syntax_is_named(tmp_path, hu, monkeypatch):
    """Not only where the first group is short and in order."""
    monkeypatch.setattr(opening, "MAX_INFLATED_BYTES", 1 << 20)
    name = DeflatedExplicitVRLittleEndian.encode()
    filler = struct.pack("<HH2sHI", 2, 0x0001, b"OB", 0, 8000) + bytes(8000)
    syntax = struct.pack("<HH2sH", 2, 0x0010, b"UI", len(name)) + name
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = squeezer.compress(bytes(4 << 20)) + squeezer.flush()
    (tmp_path / "bomb.dcm").write_bytes(bytes(128) + b"DICM" + filler + syntax + bomb)
    with pytest.raises(UnreadableScan, match="inflates beyond"):
        read_scan(tmp_path)
