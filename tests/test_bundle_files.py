"""The files of a bundle are those that its manifest names: none missing, none more, no links."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundle_factory import (
    MEMBERS,
    write_tiny,
)
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    InvalidBundle,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


def test_a_file_or_an_empty_folder_is_no_bundle(tmp_path: Path) -> None:
    file = tmp_path / "model.ctedge"
    file.write_bytes(b"PK")
    with pytest.raises(InvalidBundle, match="a file"):
        ModelBundle.load(file)
    with pytest.raises(InvalidBundle, match=r"manifest\.sha256"):
        ModelBundle.load(tmp_path)


@pytest.mark.parametrize("name", [*MEMBERS, "manifest.json", "manifest.sha256"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InvalidBundle, match=name.replace(".", r"\.")):
        ModelBundle.load(folder)


@pytest.mark.parametrize("name", ["weights.bin", "golden/more.npy.gz", "a/b/c/d", "néw\n.txt"])
def test_a_file_that_the_manifest_does_not_name_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(InvalidBundle, match="not named"):
        ModelBundle.load(folder)


def test_engines_are_no_members(folder: Path) -> None:
    (folder / "engines" / "sm90").mkdir(parents=True)
    (folder / "engines" / "sm90" / "model.plan").write_bytes(b"x")
    assert ModelBundle.load(folder).member_names == MEMBERS


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "manifest.sha256", "golden"])
def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(InvalidBundle, match="symbolic link"):
        ModelBundle.load(folder)


def test_a_linked_engines_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "engines").symlink_to(tmp_path)
    with pytest.raises(InvalidBundle, match="symbolic link"):
        ModelBundle.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "other"])
def test_a_pipe_is_refused_without_waiting(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InvalidBundle):
        ModelBundle.load(folder)


def test_very_many_files_are_refused(folder: Path) -> None:
    for i in range(1001):
        (folder / f"f{i}").touch()
    with pytest.raises(InvalidBundle, match="more than 1000"):
        ModelBundle.load(folder)


def test_a_huge_manifest_is_refused_unread(folder: Path) -> None:
    with (folder / "manifest.json").open("ab") as stream:
        stream.truncate(1 << 33)
    with pytest.raises(InvalidBundle, match="at most"):
        ModelBundle.load(folder)
