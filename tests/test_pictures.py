"""A picture is read as 8-bit grey, or refused with the reason."""

from __future__ import annotations

import shutil
import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL", exc_type=ImportError)

from PIL import Image

from ctedge import InputError, ScanNotFound, UnreadableScan, UnsupportedGeometry, read_scan
from ctedge.readers.picture import is_picture, read_picture


@pytest.fixture
def levels(rng):
    return rng.integers(0, 256, (40, 30), dtype=np.uint8)


def save(path, array, mode=None, **options):
    picture = Image.fromarray(array)
    (picture if mode is None else picture.convert(mode)).save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "A.PNG"])
def test_a_grey_png_keeps_every_level(tmp_path, levels, name):
    read = read_picture(save(tmp_path / name, levels))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, levels)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG"])
def test_a_grey_jpeg_is_read(tmp_path, name):
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    read = read_picture(save(tmp_path / name, smooth, quality=95))
    assert read.shape == (64, 48)
    assert np.abs(read.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_grey_in_three_channels_is_grey(tmp_path, name):
    smooth = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    read = read_picture(save(tmp_path / name, smooth, "RGB"))
    assert read.shape == (64, 48)
    assert np.abs(read.astype(int) - smooth).max() <= 8


@pytest.mark.parametrize(
    ("mode", "found"),
    [("RGBA", "RGBA"), ("P", "palette"), ("LA", "transparency"), ("1", "black and white")],
)
def test_other_modes_are_refused(tmp_path, levels, mode, found):
    with pytest.raises(UnreadableScan, match=found):
        read_picture(save(tmp_path / "a.png", levels, mode))


def test_sixteen_bits_are_refused(tmp_path, levels):
    with pytest.raises(UnreadableScan, match="16-bit"):
        read_picture(save(tmp_path / "a.png", levels.astype(np.uint16) * 256))


def test_a_jpeg_in_printing_colours_is_refused(tmp_path, levels):
    with pytest.raises(UnreadableScan, match="CMYK"):
        read_picture(save(tmp_path / "a.jpg", levels, "CMYK"))


def test_colour_is_refused(tmp_path, levels):
    marked = np.stack([levels] * 3, axis=-1)
    marked[3:9, 3:9] = (255, 0, 0)
    with pytest.raises(UnreadableScan, match="in colour"):
        read_picture(save(tmp_path / "a.png", marked))


def test_one_level_that_is_to_be_transparent_is_refused(tmp_path, levels):
    with pytest.raises(UnreadableScan, match="transparent"):
        read_picture(save(tmp_path / "a.png", levels, transparency=0))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_that_is_to_be_turned_is_refused(tmp_path, levels, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    with pytest.raises(UnreadableScan, match="EXIF orientation 6"):
        read_picture(save(tmp_path / name, levels, exif=exif))
    exif[0x0112] = 1
    assert read_picture(save(tmp_path / name, levels, exif=exif)).shape == levels.shape


def test_a_jpeg_named_png_is_refused(tmp_path, levels):
    shutil.copy(save(tmp_path / "a.jpg", levels), tmp_path / "a.png")
    with pytest.raises(UnreadableScan, match="another format") as caught:
        read_picture(tmp_path / "a.png")
    assert (caught.value.found, caught.value.expected) == ("JPEG", "PNG")


def test_a_picture_that_moves_is_refused(tmp_path, levels):
    path = tmp_path / "a.png"
    frames = [Image.fromarray(np.roll(levels, shift, axis=0)) for shift in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableScan, match="moves") as caught:
        read_picture(path)
    assert caught.value.found == "3 frames"


@pytest.mark.parametrize("shape", [(15, 40), (40, 15), (1, 1), (16, 8200)])
def test_an_unlikely_size_is_refused(tmp_path, shape):
    with pytest.raises(UnsupportedGeometry, match="size"):
        read_picture(save(tmp_path / "a.png", np.zeros(shape, np.uint8)))


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_damaged_picture_is_refused(tmp_path, levels, name):
    whole = save(tmp_path / name, levels).read_bytes()
    cuts = {0, 1, 8, 20, 33, 40, len(whole) // 2, len(whole) - 30}
    for cut in cuts:
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(UnreadableScan) as caught:
            read_picture(tmp_path / name)
        assert str(caught.value).count(str(tmp_path)) == 1


def test_damaged_bytes_are_read_or_refused_but_never_another_error(tmp_path, levels, rng):
    path = save(tmp_path / "a.png", levels, exif=Image.Exif())
    whole = bytearray(path.read_bytes())
    for _ in range(150):
        spoilt = bytearray(whole)
        for position in rng.integers(0, 120, 3):
            spoilt[position] ^= int(rng.integers(1, 256))
        path.write_bytes(spoilt)
        try:
            assert read_picture(path).ndim == 2
        except InputError:
            continue


def test_a_header_that_promises_a_giant_is_refused_undecoded(tmp_path):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
    )
    with pytest.raises(UnsupportedGeometry, match="9000 x 9000"):
        read_picture(tmp_path / "a.png")


def test_no_such_picture(tmp_path):
    for name in ("none.png", ""):
        with pytest.raises(ScanNotFound, match="no such picture"):
            read_picture(tmp_path / name)


def test_what_has_another_name_is_no_picture(tmp_path, levels):
    shutil.copy(save(tmp_path / "a.png", levels), tmp_path / "a.gif")
    with pytest.raises(UnreadableScan, match=r"\.png, \.jpg, \.jpeg"):
        read_picture(tmp_path / "a.gif")


def test_a_folder_with_such_a_name_is_no_picture(tmp_path):
    (tmp_path / "series.png").mkdir()
    assert not is_picture(tmp_path / "series.png")
    assert is_picture("somewhere/slice.JPeG")
    assert not is_picture("scan.nii.gz")


def test_a_picture_is_no_scan_and_the_message_says_where_it_goes(tmp_path, levels):
    with pytest.raises(UnreadableScan, match="model for slices"):
        read_scan(save(tmp_path / "a.png", levels))
