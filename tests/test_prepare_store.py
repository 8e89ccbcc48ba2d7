"""The prepared store: what is written once, kept, and made again."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge import pool, preprocess, read_scan
from ctedge.errors import DatasetError, OutputError
from ctedge.progress import Reporter
from ctedge_training.datasets import stored as stored_files
from ctedge_training.learning.settings import Settings, spec_on_grid
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from folders import contents, times
from scan_factory import (
    GRID,
    ROWS,
    SETTINGS,
    SHAPE,
    SPACING_MM,
    labelled,
    opened,
    prepared,
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


def test_a_volume_that_vanished_says_so(data: Path, tmp_path: Path) -> None:
    volume = prepared(data, tmp_path).volumes[0]
    volume.stored.unlink()
    with pytest.raises(DatasetError, match="missing or damaged"):
        volume.load()
    with pytest.raises(DatasetError, match="missing or damaged"):
        replace(volume, stored=tmp_path / "index.json").load()
    stored_files.write_input(volume.stored, np.zeros(GRID, np.float32), {})
    assert volume.load().shape == GRID


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
