"""The whole of MosMedData as it may lie on a disk, and the index of its categories."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge_training.datasets.labels import read_labels
from ctedge_training.mosmed.labels import full_set_rows, study_category
from ctedge_training.tasks import CLASSIFIER
from mosmed_factory import run, table

SOME = [*range(1, 11), *range(255, 275), *range(939, 949), *range(1064, 1072), 1109, 1110]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "my data"


def full_set(data: Path, layout: str, numbers) -> None:
    for number in numbers:
        path = data / layout.format(study_category(number)) / f"study_{number:04d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize("layout", ["studies/{}", "{}", "studies", "."])
def test_the_full_set_lies_as_it_may(data, layout):
    full_set(data, layout, SOME)
    rows = full_set_rows(data)
    assert list(rows[0]) == ["path", "label", "category", "patient", "split"]
    assert {row["patient"] for row in rows} == {f"study_{number:04d}" for number in SOME}
    assert all((data / row["path"]).is_file() for row in rows)
    assert Counter(row["label"] for row in rows) == {"normal": 10, "abnormal": 40}
    assert all((row["label"] == "normal") == (row["category"] == "CT-0") for row in rows)
    splits = Counter((row["category"], row["split"]) for row in rows)
    assert (splits["CT-0", "train"], splits["CT-0", "validation"]) == (7, 3)
    assert (splits["CT-1", "train"], splits["CT-1", "validation"]) == (14, 6)


def test_the_whole_index_is_split_seventy_to_thirty(data):
    full_set(data, "studies/{}", range(1, 1111))
    answer = run(data, "--full")
    assert answer.exit_code == 0
    rows = table(data)
    assert Counter(row["split"] for row in rows) == {"train": 777, "validation": 333}
    assert Counter(row["category"] for row in rows) == {
        "CT-0": 254,
        "CT-1": 684,
        "CT-2": 125,
        "CT-3": 45,
        "CT-4": 2,
    }
    line = answer.stdout.splitlines()[-1]
    assert "254 normal scans in studies/CT-0; 856 abnormal scans in studies/CT-1, studies" in line
    assert "of the 1110" not in answer.stdout
    assert len(read_labels(data, CLASSIFIER)) == 1110


def test_one_study_of_the_rarest_category_is_no_obstacle(data):
    full_set(data, "studies/{}", SOME[:-1])
    assert sum(row["category"] == "CT-4" for row in full_set_rows(data)) == 1


def test_masks_are_no_studies_and_gaps_are_said(data):
    full_set(data, ".", SOME)
    (data / "study_0255_mask.nii.gz").write_bytes(b"x")
    (data / "masks").mkdir()
    (data / "masks" / "study_0265_mask.nii.gz").write_bytes(b"x")
    output = run(data, "--full").stdout
    assert "left out, being no studies: study_0255_mask.nii.gz\n" in output
    assert "50 of the 1110 studies of MosMedData are here" in output
    assert len(table(data)) == 50


def test_a_study_in_the_folder_of_another_category(data):
    full_set(data, "studies/{}", SOME)
    (data / "studies" / "CT-1" / "study_0011.nii.gz").write_bytes(b"x")
    with pytest.raises(DatasetError, match="another category") as caught:
        full_set_rows(data)
    assert caught.value.expected == "study 11 in CT-0"


@pytest.mark.parametrize("name", ["study_0000.nii.gz", "study_1111.nii.gz", "study_123456.nii"])
def test_a_study_that_mosmed_does_not_have(data, name):
    full_set(data, ".", SOME)
    (data / name).write_bytes(b"x")
    with pytest.raises(DatasetError, match="has this number") as caught:
        full_set_rows(data)
    assert caught.value.expected == "1 to 1110"


@pytest.mark.parametrize("twice", ["study_0001.nii", "study_1.nii.gz", "CT-0/study_0001.nii.gz"])
def test_a_study_found_twice(data, twice):
    full_set(data, ".", SOME)
    (data / twice).parent.mkdir(exist_ok=True)
    (data / twice).write_bytes(b"x")
    with pytest.raises(DatasetError, match="there twice"):
        full_set_rows(data)


def test_no_study_at_all(data):
    data.mkdir()
    with pytest.raises(DatasetError, match="no study of MosMedData"):
        run(data, "--full")


@pytest.mark.parametrize(
    "options",
    [["--remove-archives"], ["--base-url", "https://x/"], ["--sha256", "CT-0.zip=" + "0" * 64]],
)
def test_the_full_set_has_no_archives(data, options):
    full_set(data, ".", SOME)
    assert run(data, "--full", *options).exit_code == 2
    assert not (data / "labels.csv").exists()


@pytest.mark.parametrize("number", [-1, 0, 1111])
def test_numbers_beyond_the_index(number):
    with pytest.raises(DatasetError, match="has this number"):
        study_category(number)


@pytest.mark.realdata
def test_the_index_is_that_of_mosmed(real_data):
    with (real_data / "mosmed" / "dataset_registry.csv").open(encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 1110
    for row in rows:
        number = int(row["study_id"])
        assert study_category(number) == row["category"]
        assert re.search(rf"study_{number:04d}\.nii\.gz$", row["study_file"])
