"""Archives that unpack to more than they should, or say that they do not."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from archive_factory import SCAN, pack, patched, refused, unpack
from ctedge_training.mosmed import archive as module
from ctedge_training.mosmed.archive import contents


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "CT-0.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "CT-0"


def test_too_many_members(archive, folder, monkeypatch):
    monkeypatch.setattr(module, "_MOST_MEMBERS", 3)
    pack(archive, {f"{number}.nii": SCAN for number in range(3)})
    assert len(contents(archive).scans) == 3
    pack(archive, {f"{number}.nii": SCAN for number in range(4)})
    refused(archive, folder, "too many members")


def test_a_table_of_contents_beyond_memory(archive, folder, monkeypatch):
    pack(archive, {f"{number}.nii": b"x" for number in range(2000)})
    assert len(contents(archive).scans) == 2000
    monkeypatch.setattr(module, "_LARGEST_READ_BYTES", 1 << 16)
    assert "table of contents of" in str(refused(archive, folder, "no whole zip file"))


def test_more_than_scans_unpack_to(archive, folder, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 5999)
    pack(archive, {"a.nii": SCAN, "b.nii": SCAN})
    error = refused(archive, folder, "unpacks to more")
    assert (error.found, error.expected) == ("6000 bytes", "at most 5999")


def test_a_zip_bomb_that_tells_its_size(archive, folder):
    pack(archive, {"a.nii": bytes(20 << 20)})
    refused(archive, folder, "unpacks to more")


def test_a_zip_bomb_that_lies_about_its_size(archive, folder):
    """It declares 3000 bytes and inflates to 20 MiB: no more than it declares is ever read."""
    bomb = bytes(20 << 20)
    pack(archive, {"a.nii": bomb})
    patched(archive, struct.pack("<I", len(bomb)), struct.pack("<I", 3000))
    refused(archive, folder, "damaged member")
    patched(
        archive, struct.pack("<I", zlib.crc32(bomb)), struct.pack("<I", zlib.crc32(bomb[:3000]))
    )
    assert unpack(archive, folder).scans == {"a.nii": 3000}
    assert (folder / "a.nii").stat().st_size == 3000


def test_members_that_overlap(archive, folder):
    """Two entries of the table share the bytes of one member."""
    pack(archive, {"a.nii": SCAN, "b.nii": SCAN}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 4)
    data[second + 42 : second + 46] = struct.pack("<I", 0)
    archive.write_bytes(data)
    refused(archive, folder, "overlap")


def test_a_member_inside_the_table_of_contents(archive, folder):
    pack(archive, {"a.nii": SCAN}, zipfile.ZIP_STORED)
    patched(archive, struct.pack("<II", 3000, 3000), struct.pack("<II", 3100, 3100))
    refused(archive, folder, "overlap")
