"""`ctedge train data mosmed`, from a server to the label file, and the index of the whole set."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training.cli.data import data_app
from ctedge_training.datasets.labels import check_trainable, read_labels
from ctedge_training.mosmed import labels as mosmed
from ctedge_training.mosmed import release
from ctedge_training.mosmed.labels import full_set_rows, study_category
from ctedge_training.mosmed.release import SIZES_BYTES, Source, bring
from ctedge_training.tasks import CLASSIFIER
from loopback_site import Site, serve

STUDIES = {"CT-0": range(1, 11), "CT-23": range(1060, 1070)}
#: Of seed 0: whoever changes the split changes what published figures were measured on.
VALIDATION = {
    "CT-0": ["study_0002", "study_0006", "study_0008"],
    "CT-23": ["study_1060", "study_1061", "study_1068"],
}


def scan(number: int) -> bytes:
    voxels = np.full((4, 4, 3), number, np.int16)
    return nibabel.Nifti1Image(voxels, np.eye(4)).to_bytes()


def packed(folder: str, numbers) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(f"{folder}/", b"")
        for number in numbers:
            made.writestr(zipfile.ZipInfo(f"{folder}/study_{number:04d}.nii"), scan(number))
        made.writestr(zipfile.ZipInfo("__MACOSX/._x.nii"), b"x")
    return stream.getvalue()


ARCHIVES = {f"/{folder}.zip": packed(folder, numbers) for folder, numbers in STUDIES.items()}


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as site:
        site.files.update(ARCHIVES)
        yield site


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "my data"


def run(data: Path, *options: str):
    """The command; what it raises is raised here too."""
    return CliRunner().invoke(data_app, ["mosmed", str(data), *options], catch_exceptions=False)


def fetch(site: Site, data: Path, *options: str) -> str:
    answer = run(data, "--base-url", site.url, *options)
    assert answer.exit_code == 0, answer.output
    return answer.stdout


def table(data: Path) -> list[dict[str, str]]:
    with (data / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def snapshot(data: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in data.rglob("*")
        if path.is_file()
    }


def put(data: Path) -> None:
    """Archives brought by other means."""
    data.mkdir(exist_ok=True)
    for path, content in ARCHIVES.items():
        (data / path[1:]).write_bytes(content)


def digest(path: str) -> str:
    return hashlib.sha256(ARCHIVES[path]).hexdigest()


def test_from_a_server_to_labels_that_training_reads(site, data):
    output = fetch(site, data)
    assert sorted(path.name for path in data.iterdir()) == [
        "CT-0",
        "CT-0.zip",
        "CT-23",
        "CT-23.zip",
        "download.json",
        "labels.csv",
    ]
    assert (data / "CT-23" / "study_1064.nii").read_bytes() == scan(1064)
    rows = table(data)
    assert list(rows[0]) == ["path", "label", "patient", "split"]
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert Counter((row["label"], row["split"]) for row in rows) == {
        ("normal", "train"): 7,
        ("normal", "validation"): 3,
        ("abnormal", "train"): 7,
        ("abnormal", "validation"): 3,
    }
    samples = read_labels(data, CLASSIFIER)
    check_trainable(samples, data / "labels.csv")
    assert {(s.path.parent.name, s.answer) for s in samples} == {("CT-0", 0.0), ("CT-23", 1.0)}
    assert "CC BY-NC-ND 3.0" in output
    assert "CT-0: 10 scans; the published archive has 100" in output
    assert "left out: __MACOSX/._x.nii" in output
    assert output.splitlines()[-1] == (
        f"{data}: 10 normal scans in CT-0; 10 abnormal scans in CT-23; 14 train, 6 validation "
        f"(labels.csv); next: ctedge train classifier '{data}' --preset published -o RUN"
    )


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


def test_a_second_run_asks_nobody_and_changes_nothing(site, data):
    first = fetch(site, data)
    before, asked = snapshot(data), list(site.log)
    second = fetch(site, data)
    assert snapshot(data) == before
    assert site.log == asked
    assert second.splitlines()[-1] == first.splitlines()[-1]


def test_archives_that_are_there_are_not_downloaded(site, data):
    put(data)
    fetch(site, data)
    assert site.log == []
    assert len(table(data)) == 20


def test_folders_that_are_there_are_enough(site, data):
    for folder, numbers in STUDIES.items():
        (data / folder).mkdir(parents=True)
        for number in numbers:
            (data / folder / f"study_{number:04d}.nii").write_bytes(scan(number))
    output = fetch(site, data)
    assert site.log == []
    assert "taken as it is" in output
    assert len(table(data)) == 20
    assert not (data / "download.json").exists()


def test_removed_archives_are_not_brought_again(site, data):
    output = fetch(site, data, "--remove-archives")
    assert "CT-0.zip removed" in output
    assert not list(data.glob("*.zip"))
    asked = list(site.log)
    fetch(site, data)
    assert site.log == asked


def test_a_part_that_was_left_is_gone_on_with(site, data):
    site.cuts = [500] * 5
    source = Source.of(site.url, {})
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        bring(data, source, reporter=Reporter.silent(), pause=lambda _seconds: None)
    assert [path.name for path in sorted(data.iterdir())] == ["CT-0.zip.part", "CT-0.zip.part.json"]
    fetch(site, data)
    assert ("/CT-0.zip", "bytes=2500-", 206) in site.log
    assert len(table(data)) == 20


def test_what_was_done_before_a_failure_is_kept(site, data):
    del site.files["/CT-23.zip"]
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        fetch(site, data)
    assert len(list((data / "CT-0").iterdir())) == 10
    site.files["/CT-23.zip"] = ARCHIVES["/CT-23.zip"]
    fetch(site, data)
    assert [path for path, _, _ in site.log] == ["/CT-0.zip", "/CT-23.zip", "/CT-23.zip"]


def test_the_digest_of_the_first_use_is_noted(site, data):
    output = fetch(site, data)
    noted = json.loads((data / "download.json").read_text())
    assert noted["schema_version"] == 1
    assert noted["archives"]["CT-23.zip"]["sha256"] == digest("/CT-23.zip")
    assert noted["archives"]["CT-0.zip"]["scans"]["study_0001.nii"] == len(scan(1))
    assert f"sha256 {digest('/CT-0.zip')} noted in download.json" in output


@pytest.mark.parametrize("brought", ["by hand", "from the server"])
def test_an_archive_that_changed_is_refused(site, data, brought):
    fetch(site, data)
    other = packed("CT-0", range(1, 12))
    if brought == "by hand":
        (data / "CT-0.zip").write_bytes(other)
    else:
        (data / "CT-0.zip").unlink()
        for path in (data / "CT-0").iterdir():
            path.unlink()
        (data / "CT-0").rmdir()
        site.files["/CT-0.zip"] = other
    with pytest.raises(DatasetError, match="another one than at its first use") as caught:
        fetch(site, data)
    assert hashlib.sha256(other).hexdigest() in str(caught.value.found)
    assert "remove CT-0.zip" in str(caught.value.fix)


def test_a_pinned_digest_holds_or_ends_it(site, data):
    right = f"CT-0.zip={digest('/CT-0.zip').upper()}"
    wrong = f"CT-0.zip={'0' * 64}"
    with pytest.raises(DatasetError, match="--sha256 names"):
        fetch(site, data, "--sha256", wrong)
    assert not (data / "CT-0").exists()
    output = fetch(site, data, "--sha256", right, "--remove-archives")
    assert "CT-0.zip: no digest is published" not in output
    fetch(site, data, "--sha256", right)
    with pytest.raises(DatasetError, match="--sha256 names"):
        fetch(site, data, "--sha256", wrong)


def test_a_pinned_digest_of_what_is_not_there(site, data):
    (data / "CT-0").mkdir(parents=True)
    with pytest.raises(DatasetError, match="--sha256 names") as caught:
        fetch(site, data, "--sha256", f"CT-0.zip={'0' * 64}")
    assert "not here" in str(caught.value.found)


@pytest.mark.parametrize(
    "texts",
    [
        ["CT-0.zip"],
        ["CT-1.zip=" + "0" * 64],
        ["CT-0.zip=" + "0" * 63],
        ["CT-0.zip=" + "g" * 64],
        ["CT-0.zip=" + "0" * 64] * 2,
    ],
)
def test_a_pin_that_cannot_be_meant(data, texts):
    options = [part for text in texts for part in ("--sha256", text)]
    assert run(data, *options).exit_code == 2
    assert not data.exists()


@pytest.mark.parametrize("noted", ["no json", "[]", "{}", '{"schema_version": 2, "archives": {}}'])
def test_a_record_that_cannot_be_used(site, data, noted):
    data.mkdir()
    (data / "download.json").write_text(noted)
    with pytest.raises(DatasetError, match=r"download\.json cannot be used"):
        fetch(site, data)


@pytest.mark.parametrize("archives", ["kept", "removed"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_a_folder_that_lost_scans_is_not_whole(site, data, damage, archives):
    fetch(site, data, f"--{'keep' if archives == 'kept' else 'remove'}-archives")
    victim = data / "CT-0" / "study_0004.nii"
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="does not hold what its archive holds") as caught:
        fetch(site, data)
    assert "study_0004.nii" in str(caught.value.found)


@pytest.mark.parametrize("length", [1000, -1])
def test_a_short_archive_is_never_taken_for_whole(site, data, length):
    put(data)
    short = data / "CT-0.zip"
    short.write_bytes(short.read_bytes()[:length])
    with pytest.raises(DatasetError, match="no whole zip file"):
        fetch(site, data)
    assert not (data / "CT-0").exists()
    with pytest.raises(DatasetError, match="not the published archive") as caught:
        run(data)
    assert caught.value.expected == "1065471431 bytes"


def test_another_length_than_published_ends_the_download(site, data):
    wrong = {name: size - 1 for name, size in SIZES_BYTES.items()}
    source = Source(url=f"{site.url}/", sizes_bytes=wrong, sha256={})
    with pytest.raises(DatasetError, match="another file"):
        bring(data, source, reporter=Reporter.silent())
    assert list(data.iterdir()) == []


def test_without_a_mirror_the_published_release_is_meant():
    source = Source.of(None, {})
    assert source.url == release.RELEASE_URL
    assert source.url.startswith("https://github.com/hasibzunair/")
    assert source.sizes_bytes == {"CT-0.zip": 1065471431, "CT-23.zip": 1045162547}


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


def full_set(data: Path, layout: str, numbers) -> None:
    for number in numbers:
        path = data / layout.format(study_category(number)) / f"study_{number:04d}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


SOME = [*range(1, 11), *range(255, 275), *range(939, 949), *range(1064, 1072), 1109, 1110]


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
