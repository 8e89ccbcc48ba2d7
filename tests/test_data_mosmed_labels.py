"""The label file of the two archives: whose scan is what, and in which split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training.mosmed import labels as mosmed
from loopback_site import Site
from mosmed_factory import STUDIES, fetch, packed, serve_archives, table

#: Of seed 0: whoever changes the split changes what published figures were measured on.
VALIDATION = {
    "CT-0": ["study_0002", "study_0006", "study_0008"],
    "CT-23": ["study_1060", "study_1061", "study_1068"],
}


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_archives() as site:
        yield site


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "my data"


def test_the_split_depends_on_names_and_seed_alone(site, data, tmp_path):
    fetch(site, data)
    rows = table(data)
    found = {
        folder: [r["patient"] for r in rows if r["split"] == "validation" and folder in r["path"]]
        for folder in STUDIES
    }
    assert found == VALIDATION
    fetch(site, tmp_path / "again")
    fetch(site, tmp_path / "other", "--seed", "1")
    assert table(tmp_path / "again") == rows
    assert table(tmp_path / "other") != rows


def test_labels_that_differ_are_not_replaced_silently(site, data):
    fetch(site, data)
    before = (data / "labels.csv").read_bytes()
    with pytest.raises(DatasetError, match="says something else") as caught:
        fetch(site, data, "--seed", "1")
    assert "--overwrite-labels" in str(caught.value.fix)
    assert (data / "labels.csv").read_bytes() == before
    fetch(site, data, "--seed", "1", "--overwrite-labels")
    assert (data / "labels.csv").read_bytes() != before


def test_a_study_in_both_classes_is_refused(site, data):
    fetch(site, data)
    (data / "CT-23" / "study_0001.nii.gz").write_bytes(b"x")
    with pytest.raises(DatasetError, match="there twice") as caught:
        fetch(site, data)
    assert caught.value.found == "CT-0/study_0001.nii and CT-23/study_0001.nii.gz"


def test_scans_of_other_categories_and_names_are_said(site, data):
    site.files["/CT-23.zip"] = packed("CT-23", [300, 939, 1064, 1109])
    output = fetch(site, data)
    assert (
        "CT-23: 2 scans that MosMedData does not number among CT-2 and CT-3: "
        "study_0300.nii, study_1109.nii"
    ) in output


def test_one_scan_is_not_told_as_several(data):
    (data / "CT-0").mkdir(parents=True)
    (data / "CT-0" / "study_0300.nii").write_bytes(b"x")
    (data / "CT-23").mkdir()
    (data / "CT-23" / "notes.txt").write_bytes(b"x")
    lines: list[str] = []
    with pytest.raises(DatasetError, match="no scans in") as caught:
        mosmed.subset_rows(data, reporter=Reporter(say=lines.append, bars=False))
    assert caught.value.found == "1 file"
    assert lines == [
        "CT-0: 1 scan; the published archive has 100",
        "CT-0: 1 scan that MosMedData does not number among CT-0: study_0300.nii",
    ]


def test_other_names_count_within_their_folder(data):
    for folder in STUDIES:
        (data / folder).mkdir(parents=True)
        for name in ("a.nii", "b.nii.gz", "c.nii", "d.nii", ".e.nii", "notes.txt"):
            (data / folder / name).write_bytes(b"x")
    rows = mosmed.subset_rows(data, reporter=Reporter.silent())
    assert [row["patient"] for row in rows] == [f"{f}/{name}" for f in STUDIES for name in "abcd"]


def test_an_empty_class_is_no_data_set(site, data):
    (data / "CT-0").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no scans in"):
        fetch(site, data)
