"""Archives are pinned or noted at their first use; what is no longer the same is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from loopback_site import Site
from mosmed_factory import ARCHIVES, fetch, packed, run, scan, serve_archives


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_archives() as site:
        yield site


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "my data"


def digest(path: str) -> str:
    return hashlib.sha256(ARCHIVES[path]).hexdigest()


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
