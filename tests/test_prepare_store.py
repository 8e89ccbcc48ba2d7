"""The prepared store: what is written once, kept, redone, and never left half."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge import pool, preprocess, read_scan
from ctedge.errors import DatasetError, NotHounsfield, OutputError, UnreadableScan
from ctedge.progress import Reporter
from ctedge.spec import KERAS_EXAMPLE
from ctedge_training.datasets import stored as stored_files
from ctedge_training.datasets.labels import read_labels
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Data, Source
from ctedge_training.datasets.store import prepare
from ctedge_training.learning.settings import Settings, spec_on_grid
from ctedge_training.tasks import CLASSIFIER, SEVERITY, Task
from scan_factory import (
    GRID,
    ROWS,
    SETTINGS,
    SHAPE,
    SPACING_MM,
    contents,
    half_written,
    labelled,
    opened,
    times,
    write_labels,
    write_scan,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """A copy of the data that a test may spoil."""
    return Path(shutil.copytree(data, tmp_path / "own"))


def prepared(folder: Path, out: Path, task: Task = CLASSIFIER, **how: Any) -> Data:
    settings = how.pop("settings", SETTINGS)
    source = Source(
        folder=folder, **{k: v for k, v in how.items() if k not in ("hdf5", "reporter")}
    )
    kept = {key: value for key, value in how.items() if key in ("hdf5", "reporter")}
    return prepare_store(source, out, task, settings, **kept)


def test_stored_volumes_are_the_sdks_read_by_memory_map(data: Path, tmp_path: Path) -> None:
    made = prepared(data, tmp_path)
    assert [volume.sample.name for volume in made.volumes] == [row[0] for row in ROWS]
    for volume in made.volumes:
        expected = preprocess(read_scan(volume.sample.path), made.spec)
        np.testing.assert_allclose(volume.load(), expected, atol=2.5e-4)
        assert volume.load().dtype == np.float32
        assert isinstance(np.load(volume.stored, mmap_mode="r"), np.memmap)
        assert np.load(volume.stored).dtype == np.float16


def test_the_second_time_nothing_is_written(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    first = prepared(data, tmp_path, hdf5=True)
    before = times(tmp_path)
    assert len(before) == 2 * len(ROWS) + 5  # with its record each; index, splits, three HDF5
    assert prepared(data, tmp_path, hdf5=True) == first
    assert times(tmp_path) == before


def test_the_store_says_the_data_digest_that_runs_name(data: Path, tmp_path: Path) -> None:
    from ctedge_training.datasets.store import data_digest

    lines: list[str] = []
    prepared(data, tmp_path, reporter=Reporter(say=lines.append, bars=False))
    digest = data_digest(opened(tmp_path, CLASSIFIER).volumes)
    assert data_digest(opened(data, CLASSIFIER).volumes) == digest
    assert digest[:12] in lines[-1]


def test_processes_make_the_same_store(data: Path, tmp_path: Path) -> None:
    prepared(data, tmp_path / "one")
    prepared(data, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_interrupted_preparation_goes_on(data: Path, tmp_path: Path) -> None:
    def three(
        work: Callable[[Any], Any], items: Sequence[Any], *, workers: int
    ) -> Iterator[tuple[int, Any]]:
        yield from list(pool.each(work, items[:3], workers=workers))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(data, tmp_path, each=three)
    begun = times(tmp_path)
    assert len(begun) == 6
    with pytest.raises(DatasetError, match="no label file"):
        opened(tmp_path, CLASSIFIER)
    prepared(data, tmp_path)
    assert times(tmp_path).items() >= begun.items()
    assert len(opened(tmp_path, CLASSIFIER).volumes) == len(ROWS)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-7] ^= 1
    path.write_bytes(raw)


def another_fact(path: Path) -> None:
    path.write_text(path.read_text().replace('"shape": [30', '"shape": [31'))


def without_digest(path: Path) -> None:
    record = json.loads(path.read_text())
    del record["digest"]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        (".npy", cut),
        (".npy", flip),
        (".npy", Path.unlink),
        (".npy", lambda path: path.write_bytes(b"")),
        (".npy", lambda path: np.save(path, np.zeros(GRID, np.float16))),
        (".json", cut),
        (".json", another_fact),
        (".json", without_digest),
        (".json", Path.unlink),
        (".json", lambda path: path.write_text("[]")),
        (".json", lambda path: path.write_text("null")),
        (".json", lambda path: path.write_text('{"digest": NaN}')),
        (".json", lambda path: path.write_text("[" * 100_000)),
        (".json", lambda path: path.write_bytes(b"\xff\x00")),
    ],
)
def test_what_was_damaged_is_made_again(
    data: Path, tmp_path: Path, suffix: str, spoil: Callable[[Path], object]
) -> None:
    made = prepared(data, tmp_path)
    whole, before = contents(tmp_path), times(tmp_path)
    victim = made.volumes[2].stored
    spoil(victim.with_suffix(suffix))
    assert prepared(data, tmp_path) == made
    assert contents(tmp_path) == whole
    rewritten = {name for name, time in times(tmp_path).items() if time != before[name]}
    assert rewritten == {victim.name, victim.with_suffix(".json").name}


def test_another_scan_spec_or_grid_is_another_file(own: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    seen: set[Path] = set()
    for settings in (
        SETTINGS,
        Settings(grid=(16, 18, 22)),
        Settings(spec="severity-study", grid=GRID),
    ):
        stored = {
            volume.stored for volume in opened(own, CLASSIFIER, settings, cache=cache).volumes
        }
        assert len(stored) == len(ROWS)
        assert not seen & stored
        seen |= stored
    write_scan(own / ROWS[0][0], 99)
    stored = {volume.stored for volume in opened(own, CLASSIFIER, cache=cache).volumes}
    assert len(stored - seen) == 1


def test_one_store_serves_both_tasks(data: Path, tmp_path: Path) -> None:
    for task in (CLASSIFIER, SEVERITY):
        prepared(
            data, tmp_path / task.name, task, settings=Settings(spec="keras-example", grid=GRID)
        )
        store = tmp_path / task.name
        classes, scores = opened(store, CLASSIFIER), opened(store, SEVERITY)
        assert classes.labels == ("normal", "abnormal")
        assert scores.labels == SEVERITY.labels
        assert [v.sample.answer for v in classes.volumes] == [float(n % 2) for n in range(8)]
        assert [v.sample.answer for v in scores.volumes] == [row[2] for row in ROWS]
        assert classes.spec == scores.spec == spec_on_grid(CLASSIFIER.spec, GRID)
    assert contents(tmp_path / "classifier") == contents(tmp_path / "severity")


def test_facts_survive_and_measured_ones_are_believed(own: Path, tmp_path: Path) -> None:
    table = (own / "labels.csv").read_text().replace("site", "shape", 1)
    measured = {"spacing_mm": list(SPACING_MM), "shape": list(SHAPE)}
    store = tmp_path / "store"
    made = prepared(own, store)
    assert made.volumes[0].facts == {"site": "north", **measured}
    assert [v.facts for v in opened(store, CLASSIFIER).volumes] == [v.facts for v in made.volumes]
    write_labels(own, table)
    assert prepared(own, tmp_path / "other").volumes[0].facts == measured
    with (store / "splits.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["path"], row["patient"], row["split"]) for row in rows] == [
        (name, f"p{number}", split) for number, (name, _, _, split) in enumerate(ROWS)
    ]


def test_a_store_is_neither_its_own_source_nor_another_stores(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="would lie in the data folder"):
        prepared(data, data / ".." / data.name)
    assert not (data / "index.json").exists()
    prepared(data, tmp_path / "store")
    for out in ("store", "other"):
        with pytest.raises(DatasetError, match="prepared store already"):
            prepared(tmp_path / "store", tmp_path / out)


# Bad scans.


def test_a_corrupt_scan_is_named_and_with_skip_bad_left_out(own: Path, tmp_path: Path) -> None:
    (own / "scan_1.nii.gz").write_bytes(b"no scan")
    with pytest.raises(UnreadableScan, match=r"own/scan_1\.nii\.gz"):
        prepared(own, tmp_path / "store")
    lines: list[str] = []
    reporter = Reporter(say=lines.append, bars=False)
    made = prepared(own, tmp_path / "store", skip_bad=True, reporter=reporter)
    assert [v.sample.name for v in made.volumes] == [name for name, *_ in ROWS if "1" not in name]
    assert [line for line in lines if line.startswith("skipped")] == [
        f"skipped scan_1.nii.gz: {own}/scan_1.nii.gz: not a NIfTI file"
    ]
    assert len(opened(tmp_path / "store", CLASSIFIER).volumes) == len(ROWS) - 1


def test_what_prediction_would_refuse_is_not_learnt_from(own: Path, tmp_path: Path) -> None:
    import nibabel

    picture = np.full(SHAPE, 200, np.int16)
    nibabel.save(nibabel.Nifti1Image(picture, np.diag([-1.0, 1, 1, 1])), own / "scan_1.nii.gz")
    with pytest.raises(NotHounsfield, match="scan_1"):
        prepared(own, tmp_path / "store")


def test_a_bad_scan_that_empties_a_class_or_a_split_ends_it(own: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (own / "scan_5.nii.gz").write_bytes(b"no scan")
    with pytest.raises(DatasetError, match="one class only in the split 'validation'"):
        prepared(own, store, skip_bad=True)
    (own / "scan_4.nii.gz").write_bytes(b"no scan either")
    with pytest.raises(DatasetError, match="the split 'validation' is empty"):
        prepared(own, store, skip_bad=True)
    for name, *_ in ROWS:
        (own / name).write_bytes(b"no scan")
    with pytest.raises(DatasetError, match="no scan is left") as caught:
        prepared(own, store, skip_bad=True)
    assert "scan_0" in str(caught.value)
    assert not (store / "index.json").exists()


def test_one_scan_is_not_told_as_several(own: Path, tmp_path: Path) -> None:
    (own / ROWS[0][0]).write_bytes(b"no scan")
    samples = read_labels(own, CLASSIFIER)[:1]
    lines: list[str] = []
    said = Reporter(say=lines.append, bars=False)
    with pytest.raises(DatasetError, match="no scan is left") as caught:
        prepare(samples, KERAS_EXAMPLE, tmp_path / "cache", skip_bad=True, reporter=said)
    assert lines[0].startswith("1 scan; preprocessed volumes in ")
    assert str(caught.value.found).startswith("1 bad one; ")


# Leaks.


def rows_of(folder: Path, *rows: str) -> Path:
    return write_labels(folder, "\n".join(["path,label,score,split,patient", *rows]) + "\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("copy.nii.gz,normal,0,test,", "the same scan stands in two splits"),
        ("copy.nii.gz,abnormal,0,train,", "the same scan has two answers"),
        ("again.nii,normal,0,test,", "the same scan stands in two splits"),
        ("again.nii,abnormal,0,train,", "the same scan has two answers"),
        ("other.nii.gz,normal,0,test,p1", "the patient 'p1' stands in two splits"),
    ],
)
def test_leaks_are_refused(tmp_path: Path, row: str, message: str) -> None:
    folder = tmp_path / "data"
    first = write_scan(folder / "a.nii.gz", 1)
    shutil.copy(first, folder / "copy.nii.gz")
    write_scan(folder / "again.nii", 1)  # the same voxels in other bytes
    write_scan(folder / "other.nii.gz", 2)
    rows_of(folder, "a.nii.gz,normal,0,train,p1", row)
    with pytest.raises(DatasetError, match=message):
        opened(folder, CLASSIFIER)


def test_a_copy_in_the_same_split_with_the_same_answer_is_no_leak(tmp_path: Path) -> None:
    shutil.copy(write_scan(tmp_path / "a.nii.gz", 1), tmp_path / "b.nii.gz")
    rows_of(tmp_path, "a.nii.gz,normal,0,train,", "b.nii.gz,normal,0,train,")
    first, second = opened(tmp_path, CLASSIFIER).volumes
    assert first.stored == second.stored


# Failing disks.


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


def test_a_volume_that_vanished_says_so(data: Path, tmp_path: Path) -> None:
    volume = prepared(data, tmp_path).volumes[0]
    volume.stored.unlink()
    with pytest.raises(DatasetError, match="missing or damaged"):
        volume.load()
    with pytest.raises(DatasetError, match="missing or damaged"):
        replace(volume, stored=tmp_path / "index.json").load()
    stored_files.write_input(volume.stored, np.zeros(GRID, np.float32), {})
    assert volume.load().shape == GRID
