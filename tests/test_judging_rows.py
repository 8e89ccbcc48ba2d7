"""The table of predictions: right in every cell, and no cell a formula."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ctedge.errors import DatasetError, OutputError
from ctedge_training.judging.rows import Judged, inert, write_predictions
from ctedge_training.tasks import CLASSIFIER, SEVERITY


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_binary_predictions(tmp_path: Path) -> None:
    rows = [
        Judged(name="a", patient="p", split="test", answer=1.0, predicted=0.1 + 0.2),
        Judged(name='b,"\nc', patient="", split="train", answer=0.0, predicted=0.4),
    ]
    path = write_predictions(tmp_path / "p.csv", rows, task=CLASSIFIER, threshold=0.35)
    first, second = read(path)
    assert first == {
        "path": "a",
        "patient": "p",
        "split": "test",
        "answer": "1.0",
        "predicted": "0.30000000000000004",
        "label": "abnormal",
        "predicted_label": "normal",
        "correct": "0",
    }
    assert second["path"] == 'b,"\nc'
    assert (second["predicted_label"], second["correct"]) == ("abnormal", "0")


def test_severity_predictions(tmp_path: Path) -> None:
    rows = [
        Judged(name="a", patient="p", split="test", answer=85.0, predicted=-3.5),
        Judged(name="b", patient="p", split="test", answer=20.0, predicted=39.0),
    ]
    first, second = read(write_predictions(tmp_path / "p.csv", rows, task=SEVERITY))
    assert first["predicted"] == "-3.5"
    assert (first["category"], first["predicted_category"]) == ("Critical", "Low")
    assert first["class_distance"] == "4"
    assert (second["category"], second["class_distance"]) == ("Mild", "0")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", " =", "－"])  # noqa: RUF001
def test_no_cell_is_a_formula(tmp_path: Path, start: str) -> None:
    name = f"{start}HYPERLINK(A1)"
    rows = [Judged(name=name, patient=name, split="test", answer=1.0, predicted=0.8)]
    (row,) = read(write_predictions(tmp_path / "p.csv", rows, task=CLASSIFIER))
    assert row["path"] == row["patient"] == f"'{name}"


def test_a_plain_name_is_left_alone_and_an_odd_one_can_be_written(tmp_path: Path) -> None:
    assert inert("scans/a=1.nii.gz") == "scans/a=1.nii.gz"
    rows = [Judged(name="\udc80", patient="é", split="test", answer=1.0, predicted=0.8)]
    (row,) = read(write_predictions(tmp_path / "p.csv", rows, task=CLASSIFIER))
    assert (row["path"], row["patient"]) == ("\\udc80", "é")


def test_a_table_that_cannot_be_written(tmp_path: Path) -> None:
    rows = [Judged(name="a", patient="", split="test", answer=1.0, predicted=0.8)]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_predictions(tmp_path / "file" / "p.csv", rows, task=CLASSIFIER)
    with pytest.raises(DatasetError):
        write_predictions(tmp_path / "p.csv", [], task=CLASSIFIER)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
