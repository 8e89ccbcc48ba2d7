from __future__ import annotations

import errno
import os

import pytest

from ctedge import OutputError
from ctedge.files import atomic_file, atomic_folder, sha256_of, write_atomic


def disk_full(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with atomic_file(tmp_path / "scan.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    monkeypatch.setattr(os, step, disk_full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_ctrl_c_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def interrupted():
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_appears_whole_and_is_not_overwritten(tmp_path):
    target = tmp_path / "x.ctedge"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    with pytest.raises(OutputError, match="already exists"), atomic_folder(target):
        pass
    with atomic_folder(target, replace=True) as temporary:
        (temporary / "b").write_text("2")
    assert [entry.name for entry in target.iterdir()] == ["b"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.ctedge"]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_folder_and_nothing_else(tmp_path, monkeypatch, step):
    target = tmp_path / "x.ctedge"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
    monkeypatch.setattr(os, step, disk_full)
    with (
        pytest.raises(OutputError, match="No space left"),
        atomic_folder(target, replace=True) as temporary,
    ):
        (temporary / "b").write_text("2")
    assert [entry.name for entry in target.iterdir()] == ["a"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.ctedge"]


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "file" / "a", "x")


def test_sha256(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_of(path).startswith("ba7816bf8f01cfea")
