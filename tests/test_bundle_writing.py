"""A bundle is written whole or not at all, and over no other."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bundle_factory import (
    write_tiny,
)
from ctedge.errors import (
    InvalidBundle,
    OutputError,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"ctedge.files.os.{call}", full)
    with pytest.raises(OutputError, match="No space"):
        write_tiny(tmp_path / "tiny.ctedge")
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_bundle_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="labels"):
        write_tiny(tmp_path / "tiny.ctedge", labels=["one"])
    with pytest.raises(InvalidBundle, match="ONNX"):
        write_tiny(tmp_path / "tiny.ctedge", model=b"\x00")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_not_overwritten_by_accident(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(OutputError, match="overwrite"):
        write_tiny(folder)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("name", ["tiny", "ti ny.ctedge", ".ctedge", "-x.ctedge", "é.ctedge"])
def test_a_name_that_is_no_bundle_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="NAME"):
        write_tiny(tmp_path / name)


def test_equal_bundles_have_equal_bytes(tmp_path: Path) -> None:
    one = write_tiny(tmp_path / "one" / "tiny.ctedge")
    two = write_tiny(tmp_path / "two" / "tiny.ctedge")
    assert one.digest == two.digest
