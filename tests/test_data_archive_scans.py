"""Unpacking an honest archive: its scans side by side, all of them or none."""

from __future__ import annotations

import errno
import os
import zipfile
from pathlib import Path

import pytest

from archive_factory import SCAN, pack, refused, unpack
from ctedge.errors import OutputError
from ctedge_training.mosmed.archive import contents


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "CT-0.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "CT-0"


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
