"""Disks that are full or fill up: nothing is left half, and what is whole is kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge.errors import OutputError
from ctedge_training.tasks import CLASSIFIER
from folders import contents, times
from scan_factory import ROWS, half_written, labelled, opened, prepared


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


def disk_full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_an_array(path: Path, *_: Any, **__: Any) -> None:
    Path(path).write_bytes(b"\x93NUMPY")
    disk_full()


@pytest.mark.parametrize(
    ("where", "name", "instead"),
    [(os, "fsync", disk_full), (os, "replace", disk_full), (np, "save", half_an_array)],
)
def test_a_full_disk_leaves_nothing_half(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: Any,
    name: str,
    instead: Callable[..., None],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(where, name, instead)
        with pytest.raises(OutputError, match="No space left"):
            prepared(data, tmp_path)
    assert contents(tmp_path) == {}
    prepared(data, tmp_path)
    assert half_written(tmp_path) == []


@pytest.mark.parametrize("victim", ["index.json", "splits.csv", "training.h5", "npy", "json"])
def test_a_disk_that_fills_up_later_keeps_what_is_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    pytest.importorskip("h5py")
    replace_file = os.replace

    def full_at(source: Any, target: Any) -> None:
        if str(target).endswith(victim) and (victim != "npy" or len(times(tmp_path)) > 6):
            disk_full()
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_at)
        with pytest.raises(OutputError, match="No space left"):
            prepared(data, tmp_path, hdf5=True)
    assert half_written(tmp_path) == []
    assert not (tmp_path / "index.json").exists()
    kept = {name: time for name, time in times(tmp_path).items() if name.endswith(".json")}
    prepared(data, tmp_path, hdf5=True)
    assert times(tmp_path).items() >= kept.items()
    assert len(opened(tmp_path, CLASSIFIER).volumes) == len(ROWS)


def test_a_file_where_the_store_should_be_is_an_output_error(data: Path, tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(OutputError):
        prepared(data, tmp_path / "store")
