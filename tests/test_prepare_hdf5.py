"""The HDF5 files of a store: they say what the store says, and trainings start from them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ctedge.errors import (
    DatasetError,
    OutputError,
)
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Source
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES
from folders import contents, times
from scan_factory import ROWS, SETTINGS, class_folders, labelled, opened, told, write_labels

CLASSES = ("clear", "covid")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def store(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("h5py")
    out = tmp_path_factory.mktemp("store")
    prepare_store(Source(folder=data), out, CLASSIFIER, SETTINGS, hdf5=True)
    return out


@pytest.fixture
def files(store: Path, tmp_path: Path) -> Path:
    """The HDF5 files alone."""
    folder = tmp_path / "files"
    folder.mkdir()
    for path in store.glob("*.h5"):
        shutil.copy(path, folder)
    return folder


def test_hdf5_files_say_what_the_store_says(store: Path, files: Path, tmp_path: Path) -> None:
    for task in (CLASSIFIER, SEVERITY):
        stored, read = opened(store, task), opened(files, task)
        assert told(read) == told(stored)
        assert (read.spec, read.labels) == (stored.spec, stored.labels)
    kept = times(files / ".ctedge-cache")
    assert len(kept) == 2 * len(ROWS)
    opened(files, CLASSIFIER)
    assert times(files / ".ctedge-cache") == kept
    out = tmp_path / "again"
    prepare_store(Source(folder=files), out, SEVERITY, Settings(), hdf5=True)
    assert told(opened(out, SEVERITY)) == told(opened(store, SEVERITY))
    for path in files.glob("*.h5"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_hdf5_files_are_opened_only_as_they_were_prepared(files: Path, data: Path) -> None:
    with pytest.raises(DatasetError, match="prepared with another grid"):
        opened(files, CLASSIFIER, Settings(grid=(16, 18, 21)))
    with pytest.raises(DatasetError, match="the HDF5 files hold volumes"):
        opened(files, SLICES, Settings())
    with pytest.raises(DatasetError, match="--shares cannot be used here"):
        opened(files, CLASSIFIER, shares={"train": 1.0})
    shutil.copy(data / ROWS[0][0], files)
    labels = files / "mine.csv"
    labels.write_text(f"path,label,split\n{ROWS[0][0]},normal,train\n")
    assert len(opened(files, CLASSIFIER, labels=labels).volumes) == 1


def test_hdf5_files_that_do_not_belong_together_are_refused(
    store: Path, files: Path, data: Path, tmp_path: Path
) -> None:
    shutil.copy(files / "training.h5", files / "test.h5")
    with pytest.raises(DatasetError, match="stands in two splits"):
        opened(files, CLASSIFIER)
    other = tmp_path / "other"
    settings = Settings(grid=(16, 18, 21))
    prepare_store(Source(folder=data), other, CLASSIFIER, settings, hdf5=True)
    shutil.copy(other / "test.h5", files)
    with pytest.raises(DatasetError, match="preprocessed in different ways") as caught:
        opened(files, CLASSIFIER)
    assert "test.h5" in str(caught.value)
    (files / "validation.h5").write_bytes(b"no HDF5")
    with pytest.raises(DatasetError, match=r"validation\.h5: not a whole HDF5 file"):
        opened(files, CLASSIFIER)


def test_changed_answers_are_written_into_the_files_again(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    own = Path(shutil.copytree(data, tmp_path / "own"))
    out = tmp_path / "out"
    prepare_store(Source(folder=own), out, CLASSIFIER, SETTINGS, hdf5=True)
    before = times(out)
    table = (own / "labels.csv").read_text()
    write_labels(own, table.replace("scan_5.nii.gz,abnormal,62.5", "scan_5.nii.gz,abnormal,63.5"))
    prepare_store(Source(folder=own), out, CLASSIFIER, SETTINGS, hdf5=True)
    changed = {name for name, time in times(out).items() if time != before[name]}
    assert changed == {"validation.h5", "index.json"}
    write_labels(own, "".join(line for line in table.splitlines(True) if ",test," not in line))
    with pytest.raises(OutputError, match=r"test\.h5 is of another preparation"):
        prepare_store(Source(folder=own), out, CLASSIFIER, SETTINGS, hdf5=True)


def test_hdf5_files_need_both_answers_and_volumes(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "data", CLASSES, 8)
    out = tmp_path / "out"
    source = Source(folder=folder, classes=CLASSES)
    with pytest.raises(DatasetError, match="a volume, a label and a score") as caught:
        prepare_store(source, out, CLASSIFIER, SETTINGS, hdf5=True)
    assert "--hdf5" in str(caught.value)
    assert not any(name.endswith(".h5") or name == "index.json" for name in contents(out))
