"""Native pixels of a file are taken from their place, and are those that pydicom would find."""

from __future__ import annotations

import struct

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ctedge import UnreadableScan, read_scan
from dicom_factory import enhanced, hu_of, save, slices, write_series

SHAPE = (16, 20, 24)

hu = hu_of(*SHAPE)

LAYOUTS = {
    "8 bits": {"bits": (8, 8, 7)},
    "12 of 16 bits": {"bits": (16, 12, 11)},
    "16 bits, signed": {"bits": (16, 16, 15), "signed": True},
    "32 bits, signed": {"bits": (32, 32, 31), "signed": True},
}

syntaxes = pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])


@pytest.fixture
def not_looked_for(monkeypatch):
    """pydicom, that looks for them, reads the header again."""

    def refuse(*_args, **_named):
        raise AssertionError("pydicom was asked")

    return lambda: monkeypatch.setattr(pydicom.pixels, "pixel_array", refuse)


@syntaxes
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path, rng, not_looked_for, layout, syntax):
    low = -128 if "signed" in LAYOUTS[layout] else 0
    stored = rng.integers(low, 128, SHAPE)
    how = {"stored": stored, "syntax": syntax, "slope": 4, "intercept": -500} | LAYOUTS[layout]
    expected = read_scan(slices(np.zeros(SHAPE), **how)).voxels  # pydicom's, of data sets
    paths = write_series(tmp_path / "series", np.zeros(SHAPE), **how)
    with paths[0].open("ab") as stream:  # an element behind the pixels
        vr = b"" if syntax == ImplicitVRLittleEndian else b"OB\0\0"
        stream.write(b"\xfc\xff\xfc\xff" + vr + struct.pack("<I", 4) + bytes(4))
    not_looked_for()
    np.testing.assert_array_equal(read_scan(tmp_path / "series").voxels, expected)


def test_frames_of_one_file(tmp_path, hu, not_looked_for):
    order = [3, 1, 2, 0, *range(4, len(hu))]
    made = enhanced(hu, order=order)
    expected = read_scan(made).voxels
    path = save(tmp_path / "enhanced.dcm", made)
    not_looked_for()
    np.testing.assert_array_equal(read_scan(path).voxels, expected)


def said_to_be_implicit(folder, hu):
    """Files with explicit VRs that say otherwise; pydicom warns, and reads their header."""
    paths = write_series(folder, hu)
    explicit = ExplicitVRLittleEndian.encode() + b"\0"
    for path in paths:
        content = path.read_bytes()
        assert content.count(explicit) == 1
        told = ImplicitVRLittleEndian.encode().ljust(len(explicit), b"\0")
        path.write_bytes(content.replace(explicit, told))
    return paths


@pytest.mark.filterwarnings("ignore:Expected implicit VR, but found")
def test_files_of_another_syntax_than_they_say(tmp_path, hu):
    """Whose pixels pydicom would take from four bytes before their place."""
    write_series(tmp_path / "series", hu)
    said_to_be_implicit(tmp_path / "wrong", hu)
    found, expected = (read_scan(tmp_path / name).voxels for name in ("wrong", "series"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore:Expected implicit VR, but found")
def test_files_of_another_syntax_are_not_left_to_pydicom(tmp_path, hu):
    path = said_to_be_implicit(tmp_path / "wrong", hu)[5]
    content = path.read_bytes()
    place = content.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    path.write_bytes(content[:place] + struct.pack("<I", 8) + content[place + 4 :])
    with pytest.raises(UnreadableScan, match=f"{path.name}.*\n.*another syntax"):
        _ = read_scan(tmp_path / "wrong").voxels


@pytest.mark.parametrize("length", [0xFFFFFFFF, 8])
def test_an_element_that_says_another_length_is_left_to_pydicom(tmp_path, hu, length):
    """Which counts the pixels by rows and columns; that there are as many bytes, we have seen."""
    paths = write_series(tmp_path / "series", hu)
    expected = read_scan(tmp_path / "series").voxels
    content = paths[5].read_bytes()
    place = content.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    paths[5].write_bytes(content[:place] + struct.pack("<I", length) + content[place + 4 :])
    asked, looked_for = [], pydicom.pixels.pixel_array
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pydicom.pixels,
            "pixel_array",
            lambda *given, **named: asked.append(1) or looked_for(*given, **named),
        )
        np.testing.assert_array_equal(read_scan(tmp_path / "series").voxels, expected)
    assert asked == [1]


def test_pixels_of_an_unknown_vr_are_left_to_pydicom(tmp_path, hu):
    """Read as a length, "UN" is more bytes than these small slices have."""
    paths = write_series(tmp_path / "series", hu)
    expected = read_scan(tmp_path / "series").voxels
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00UN"))
    np.testing.assert_array_equal(read_scan(tmp_path / "series").voxels, expected)
