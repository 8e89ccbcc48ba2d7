"""Names and kinds of members that would land elsewhere, hide or collide."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from archive_factory import SCAN, pack, pack_one, patched, refused


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "CT-0.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "CT-0"


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
