"""`ctedge train data mosmed`: what is brought from the server, gone on with, or left as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training.datasets.labels import check_trainable, read_labels
from ctedge_training.mosmed import release
from ctedge_training.mosmed.release import SIZES_BYTES, Source, bring
from ctedge_training.tasks import CLASSIFIER
from loopback_site import Site
from mosmed_factory import ARCHIVES, STUDIES, fetch, run, scan, serve_archives, table


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_archives() as site:
        yield site


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "my data"


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
