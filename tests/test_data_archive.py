"""Unpacking: an honest archive, and hostile ones of every kind."""

from __future__ import annotations

import errno
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from ctedge.errors import DatasetError, OutputError
from ctedge.progress import Reporter
from ctedge_training.mosmed import archive as module
from ctedge_training.mosmed.archive import contents, extract

SCAN = np.random.default_rng(5).bytes(3000)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "CT-0.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "CT-0"


def pack(archive: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(archive, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)


def pack_one(archive: Path, member: zipfile.ZipInfo, data: bytes = SCAN) -> None:
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("CT-0/study_0001.nii.gz", SCAN)
        made.writestr(member, data)


def unpack(archive: Path, folder: Path):
    return extract(archive, folder, reporter=Reporter.silent())


def refused(archive: Path, folder: Path, why: str) -> DatasetError:
    """The whole archive is refused, and nothing at all was written."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DatasetError, match=why) as caught:
        unpack(archive, folder)
    assert sorted(archive.parent.rglob("*")) == before
    assert caught.value.fix
    return caught.value


def patched(archive: Path, old: bytes, new: bytes, count: int = -1) -> None:
    data = archive.read_bytes()
    assert old in data
    archive.write_bytes(data.replace(old, new, count))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_scans_land_side_by_side_and_the_rest_is_named(archive, folder, method):
    members = {
        "CT-0/": b"",
        "CT-0/study_0002.nii.gz": SCAN[::-1],
        "CT-0/study_0001.nii.gz": SCAN,
        "CT-0/deeper/study_0003.NII": SCAN[:50],
        "CT-0/.DS_Store": b"x",
        "__MACOSX/CT-0/._study_0001.nii.gz": b"x",
        "readme.txt": b"read me",
    }
    pack(archive, members, method)
    found = unpack(archive, folder)
    assert found.scans == {
        "study_0001.nii.gz": 3000,
        "study_0002.nii.gz": 3000,
        "study_0003.NII": 50,
    }
    assert found.left_out == ("CT-0/.DS_Store", "__MACOSX/CT-0/._study_0001.nii.gz", "readme.txt")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        "study_0001.nii.gz": SCAN,
        "study_0002.nii.gz": SCAN[::-1],
        "study_0003.NII": SCAN[:50],
    }
    assert contents(archive) == found
    assert sorted(path.name for path in archive.parent.iterdir()) == ["CT-0", "CT-0.zip"]


def test_a_folder_that_is_there_is_not_touched(archive, folder):
    pack(archive, {"a.nii": SCAN})
    folder.mkdir()
    with pytest.raises(OutputError, match="already exists"):
        unpack(archive, folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "/etc/a.nii",
        "../a.nii",
        "CT-0/../../a.nii",
        "CT-0/..",
        "./a.nii",
        "CT-0//a.nii",
        "//server/a.nii",
    ],
)
def test_paths_that_lead_out(archive, folder, name):
    pack(archive, {"a.nii": SCAN, name: SCAN})
    refused(archive, folder, "leads out")


@pytest.mark.parametrize("name", ["..\\a.nii", "CT-0\\a.nii", "C:a.nii", "c:/a.nii"])
def test_names_of_other_systems(archive, folder, name):
    pack(archive, {"a.nii": SCAN, name: SCAN})
    refused(archive, folder, "backslash or a drive")


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f"])
def test_control_characters(archive, folder, character):
    pack(archive, {"b.nii": SCAN, "CT-0/a?.nii": SCAN})
    patched(archive, b"a?.nii", f"a{character}.nii".encode())
    error = refused(archive, folder, "control character")
    assert str(error).isprintable() or str(error).replace("\n", "").isprintable()


def test_a_name_no_file_can_have(archive, folder):
    pack(archive, {"a.nii": SCAN, f"{'x' * 256}.nii": SCAN})
    refused(archive, folder, "too long")


def test_a_name_that_is_no_text(archive, folder):
    pack(archive, {"a.nii": SCAN, "\u00e9.nii": SCAN})
    patched(archive, "\u00e9".encode(), b"\xff\xff")
    refused(archive, folder, "no whole zip file")


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFDIR]
)
def test_links_and_special_files(archive, folder, kind):
    member = zipfile.ZipInfo("CT-0/study_0002.nii.gz")
    member.external_attr = (kind | 0o644) << 16
    pack_one(archive, member, b"/etc/passwd")
    refused(archive, folder, "link or special file")


def test_a_folder_that_is_a_link(archive, folder):
    member = zipfile.ZipInfo("CT-0/")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    pack_one(archive, member, b"/tmp")
    refused(archive, folder, "link or special file")


@pytest.mark.parametrize(
    "names",
    [
        ("CT-0/a.nii", "CT-0/A.NII"),
        ("CT-0/a.nii", "elsewhere/a.nii"),
        ("CT-0/\u00e9.nii", "CT-0/e\u0301.nii"),
        ("readme.txt", "README.txt"),
        ("CT-0/x", "CT-0/x/"),
    ],
)
def test_names_that_collide(archive, folder, names):
    pack(archive, {"one.nii": SCAN, **dict.fromkeys(names, SCAN if names[0] != "CT-0/x" else b"")})
    refused(archive, folder, "two members of one name")


def test_the_same_name_twice(archive, folder):
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a.nii", SCAN)
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a.nii", SCAN[::-1])
    refused(archive, folder, "two members of one name")


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


def test_a_member_shorter_than_declared(archive, folder):
    pack(archive, {"a.nii": SCAN})
    patched(archive, struct.pack("<I", len(SCAN)), struct.pack("<I", len(SCAN) + 1))
    refused(archive, folder, "damaged member|another length")


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


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, "0 files"),
        ({"readme.txt": b"x"}, "1 file"),
        ({"._a.nii": b"x"}, "1 file"),
        ({"a.nii/": b""}, "0 files"),
    ],
)
def test_nothing_to_train_on(archive, folder, members, found):
    pack(archive, members)
    assert refused(archive, folder, "no scan inside").found == found


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


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing(archive, folder, monkeypatch, step):
    def disk_full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pack(archive, {"a.nii": SCAN})
    with monkeypatch.context() as full:
        full.setattr(os, step, disk_full)
        with pytest.raises(OutputError, match="No space left"):
            unpack(archive, folder)
    assert [path.name for path in archive.parent.iterdir()] == ["CT-0.zip"]
    unpack(archive, folder)
    assert (folder / "a.nii").read_bytes() == SCAN
