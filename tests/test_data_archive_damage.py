"""Archives that are damaged, cut off, encrypted or packed in a way that none is published in."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from archive_factory import SCAN, pack, patched, refused, unpack
from ctedge.errors import DatasetError


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "CT-0.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "CT-0"


@pytest.mark.parametrize("bit", [0x1, 0x40, 0x2000])
def test_encrypted_members(archive, folder, bit):
    pack(archive, {"a.nii": SCAN})
    data = bytearray(archive.read_bytes())
    table = data.index(b"PK\1\2")
    for at in (6, table + 8):
        data[at : at + 2] = struct.pack("<H", bit)
    archive.write_bytes(data)
    refused(archive, folder, "encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_nobody_publishes_scans_in(archive, folder, method):
    pack(archive, {"a.nii": SCAN}, method)
    refused(archive, folder, "compressed in a way")


def test_a_member_shorter_than_declared(archive, folder):
    pack(archive, {"a.nii": SCAN})
    patched(archive, struct.pack("<I", len(SCAN)), struct.pack("<I", len(SCAN) + 1))
    refused(archive, folder, "damaged member|another length")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit(archive, folder, method):
    pack(archive, {"a.nii": SCAN, "b.nii": SCAN}, method)
    data = bytearray(archive.read_bytes())
    data[200] ^= 1
    archive.write_bytes(data)
    refused(archive, folder, "damaged member")


def test_another_name_in_front_of_the_bytes(archive, folder):
    pack(archive, {"a.nii": SCAN})
    patched(archive, b"a.nii", b"b.nii", 1)
    refused(archive, folder, "damaged member")


@pytest.mark.parametrize("length", [0, 10, 2000, -1, -30])
def test_a_short_file_is_no_archive(archive, folder, length):
    pack(archive, {"a.nii": SCAN, "b.nii": SCAN})
    data = archive.read_bytes()
    archive.write_bytes(data[:length])
    refused(archive, folder, "no whole zip file")


def test_no_archive_at_all(archive, folder):
    with pytest.raises(DatasetError, match="no whole zip file") as caught:
        unpack(archive, folder)
    assert "No such file" in str(caught.value)


def test_damage_at_random_is_never_another_error(archive, folder, rng):
    """Whatever bytes are changed, an archive unpacks to its true scans or is refused."""
    pack(archive, {"CT-0/a.nii": SCAN[:300], "CT-0/b.nii": bytes(500), "c.txt": b"c"})
    honest = archive.read_bytes()
    refusals = 0
    for round_ in range(400):
        data = bytearray(honest)
        for at in rng.integers(0, len(data), 1 + round_ % 3):
            data[at] = rng.integers(0, 256)
        archive.write_bytes(data)
        target = folder / str(round_)
        try:
            found = unpack(archive, target)
        except DatasetError:
            refusals += 1
            assert not target.exists()
        else:
            for name in found.scans:
                assert (target / name).read_bytes() in {SCAN[:300], bytes(500), b"c"}
    assert refusals > 200
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
