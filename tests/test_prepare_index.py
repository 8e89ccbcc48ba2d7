"""`index.json` of a prepared store: read with suspicion, and opened only as it was prepared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge.errors import DatasetError
from ctedge.files import sha256_of
from ctedge_training.datasets import index
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Source
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES
from scan_factory import GRID, SETTINGS, labelled, opened, write_labels

Document = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = labelled(tmp_path_factory.mktemp("data"))
    store = tmp_path_factory.mktemp("store")
    prepare_store(Source(folder=data), store, CLASSIFIER, SETTINGS)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy of a whole store that a test may spoil."""
    for path in whole.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def read(store: Path) -> Document:
    document: Document = json.loads((store / "index.json").read_text())
    return document


def write(store: Path, document: Document, *, signed: bool = True) -> None:
    """Write the index; signed, its digest is right whatever it says."""
    if signed:
        rest = {key: value for key, value in document.items() if key != "digest"}
        text = json.dumps(rest, sort_keys=True)
        document = {**rest, "digest": hashlib.sha256(text.encode()).hexdigest()}
    (store / "index.json").write_text(json.dumps(document))


def test_the_index_names_every_file_with_its_digest(store: Path) -> None:
    document = read(store)
    assert document["schema_version"] == 1
    assert document["labels"] == ["normal", "abnormal"]
    for row in document["volumes"]:
        assert row["stored_sha256"] == sha256_of(store / row["stored"])
    write(store, document)
    assert len(opened(store, CLASSIFIER).volumes) == 8


def relabel(document: Document) -> None:
    document["volumes"][0]["truth"]["label"] = 1.0


def move(document: Document) -> None:
    document["volumes"][0]["split"] = "test"


def rename_classes(document: Document) -> None:
    document["labels"].reverse()


def another_window(document: Document) -> None:
    document["spec"]["hu_window"] = [-1000.0, 500.0]


def drop(document: Document) -> None:
    document["volumes"].pop()


@pytest.mark.parametrize("edit", [relabel, move, rename_classes, another_window, drop])
def test_an_edit_is_refused(store: Path, edit: Callable[[Document], None]) -> None:
    document = read(store)
    edit(document)
    write(store, document, signed=False)
    with pytest.raises(DatasetError, match="the index cannot be read") as caught:
        opened(store, CLASSIFIER)
    assert "changed after it was written" in str(caught.value)
    assert str(store / "index.json") in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema_version": 1}',
        b'{"schema_version": NaN}',
        b'{"schema_version": 2, "volumes": []}',
        b'{"schema_version": 1, "schema_version": 1}',
        b'{"schema_version": 1' + b"0" * 6000 + b"}",
    ],
)
def test_what_is_no_index_is_refused(store: Path, raw: bytes) -> None:
    (store / "index.json").write_bytes(raw)
    with pytest.raises(DatasetError, match=r"index\.json: the index cannot be read"):
        opened(store, CLASSIFIER)


def test_an_index_beyond_reason_is_not_even_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MOST_BYTES", 1000)
    with pytest.raises(DatasetError) as caught:
        opened(store, CLASSIFIER)
    assert "more than 1000 bytes" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("stored", name) for name in ("../x.npy", "/etc/passwd", "..", ".", "", "a\0b", 3, None)),
        ("stored", "index.json"),
        *(
            ("truth", value)
            for value in ({"label": 2}, {"score": 101}, {"score": -1}, {}, [], None)
        ),
        *(("truth", {"label": value}) for value in (True, "1", None, 0.5)),
        ("truth", {"label": 0.0, "other": 1.0}),
        *(("split", value) for value in ("training", "", None, [])),
        *(("patient", value) for value in (None, 4)),
        *(("slice", value) for value in (-1, 1.5, True, "1")),
        *(("scan_sha256", value) for value in ("", "A" * 64, 5)),
        ("stored_sha256", "0" * 63),
        *(("facts", value) for value in ([], None, {"a": {}}, {"a": [1] * 4}, {"a": 10**400})),
        *(("facts", {"a": value}) for value in (None, True, [True], ["1"])),
        *(("name", value) for value in ("", None)),
    ],
)
def test_a_signed_row_of_nonsense_is_refused(store: Path, key: str, value: object) -> None:
    document = read(store)
    document["volumes"][3][key] = value
    write(store, document)
    with pytest.raises(DatasetError, match="the index cannot be read"):
        opened(store, CLASSIFIER)


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"schema_version": "1"},
        {"labels": ["normal"]},
        {"labels": ["normal", "normal"]},
        {"labels": ["normal", 1]},
        {"labels": ["Low", "Mild", "Critical"]},
        {"spec": {}},
        {"spec": []},
        {"spec": None},
        {"spec": {"axes": "PLS"}},
        {"volumes": []},
        {"volumes": {}},
        {"volumes": [3]},
    ],
)
def test_a_signed_index_of_nonsense_is_refused(store: Path, change: Document) -> None:
    write(store, {**read(store), **change})
    with pytest.raises(DatasetError, match="the index cannot be read"):
        opened(store, CLASSIFIER)


def test_a_scan_twice_a_leak_and_two_answers_are_refused(store: Path) -> None:
    document = read(store)
    rows = document["volumes"]
    write(store, {**document, "volumes": [*rows, rows[0]]})
    with pytest.raises(DatasetError) as caught:
        opened(store, CLASSIFIER)
    assert "listed twice" in str(caught.value)
    for change, message in (
        ({"split": "test", "patient": ""}, "stands in two splits"),
        ({"truth": {"label": 1.0}, "patient": ""}, "has two answers"),
    ):
        write(store, {**document, "volumes": [*rows, {**rows[0], "name": "copy", **change}]})
        with pytest.raises(DatasetError, match=message):
            opened(store, CLASSIFIER)


def other_bytes(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("spoil", [Path.unlink, other_bytes])
def test_a_stored_file_that_is_gone_or_changed_is_refused(
    store: Path, spoil: Callable[[Path], object]
) -> None:
    victim = store / read(store)["volumes"][5]["stored"]
    spoil(victim)
    with pytest.raises(DatasetError, match=rf"{victim.name}: a stored volume is missing or damag"):
        opened(store, CLASSIFIER)


def array(values: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, values)


def pickled(path: Path) -> None:
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "spoil",
    [
        array(np.zeros(GRID, np.float32)),
        array(np.zeros((16, 18, 21), np.float16)),
        array(np.full(GRID, np.nan, np.float16)),
        array(np.full(GRID, 1.5, np.float16)),
        array(np.full(GRID, -0.5, np.float16)),
        array(np.zeros(GRID, ">f2")),
        array(np.zeros((0,), np.float16)),
        pickled,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x03\x04" + bytes(60)),
        lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\x10\x00{'shape': ((((("),
    ],
)
def test_a_stored_file_that_is_no_input_is_refused_though_signed(
    store: Path, spoil: Callable[[Path], object]
) -> None:
    document = read(store)
    row = document["volumes"][5]
    spoil(store / row["stored"])
    row["stored_sha256"] = sha256_of(store / row["stored"])
    write(store, document)
    with pytest.raises(DatasetError, match="a stored volume is missing or damaged"):
        opened(store, CLASSIFIER)


def test_another_grid_or_spec_than_the_stores_is_an_error(store: Path) -> None:
    assert opened(store, CLASSIFIER, Settings()).spec.shape == GRID
    assert opened(store, CLASSIFIER, Settings(spec="keras-example", grid=GRID)).volumes
    with pytest.raises(DatasetError, match="prepared with another grid") as caught:
        opened(store, CLASSIFIER, Settings(grid=(16, 18, 21)))
    assert "found:    16x18x20" in str(caught.value)
    assert "--grid" in str(caught.value)
    with pytest.raises(DatasetError, match="prepared with another spec") as caught:
        opened(store, SEVERITY, Settings(spec="severity-study-lungs"))
    assert "--spec" in str(caught.value)


def test_volumes_are_no_slices(store: Path) -> None:
    with pytest.raises(DatasetError, match="not prepared for slices") as caught:
        opened(store, SLICES, Settings())
    assert "--task slices" in str(caught.value)


def test_a_store_without_the_answers_of_a_task_is_refused(whole: Path, tmp_path: Path) -> None:
    data = labelled(tmp_path / "data")
    table = (
        (data / "labels.csv")
        .read_text()
        .replace("scan_3.nii.gz,abnormal,37.5", "scan_3.nii.gz,abnormal,")
    )
    write_labels(data, table)
    store = tmp_path / "store"
    prepare_store(Source(folder=data), store, CLASSIFIER, SETTINGS)
    with pytest.raises(DatasetError, match="not prepared for severity") as caught:
        opened(store, SEVERITY)
    assert "7 of 8 scans with a score" in str(caught.value)
    assert len(opened(store, CLASSIFIER).volumes) == 8


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("labels", Path("labels.csv")),
        ("classes", ("a", "b")),
        ("masks", Path("masks")),
        ("shares", {"train": 0.5, "validation": 0.5}),
    ],
)
def test_options_that_a_store_has_no_use_for_are_refused(
    store: Path, option: str, value: Any
) -> None:
    with pytest.raises(DatasetError, match=f"--{option} cannot be used here"):
        opened(store, CLASSIFIER, **{option: value})
