"""`ctedge train prepare` as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from command_line import run
from ctedge.errors import DatasetError, UnreadableScan
from ctedge.phantom import write_dataset
from ctedge_training.cli import app
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from folders import times
from scan_factory import ROWS, class_folders, labelled, opened

GRID = ("--grid", "46x47x48", "--workers", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("data"))


def prepare(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def test_prepare_writes_a_store_and_the_second_time_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    for _ in range(2):
        result = prepare(data, "-o", out, *GRID)
        assert result.exit_code == 0, result.output
        assert f"{out}: 8 volumes prepared" in result.output
        before = times(out)
    assert times(out) == before
    made = opened(out, SEVERITY, Settings(grid=(46, 47, 48)))
    assert len(made.volumes) == len(ROWS)


def test_all_options_reach_the_source(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    folder = class_folders(tmp_path / "data", ("clear", "covid"), 4)
    (folder / "covid" / "9.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "store"
    options = ("--classes", "clear,covid", "--shares", "50/50", "--skip-bad", "--split-seed", 3)
    result = prepare(folder, "-o", out, *GRID, *options, "--spec", "severity-study")
    assert result.exit_code == 0, result.output
    assert "skipped covid/9.nii.gz" in result.output
    document = json.loads((out / "index.json").read_text())
    assert document["labels"] == ["clear", "covid"]
    assert document["spec"]["name"] == "severity-study-46x47x48"
    assert {row["split"] for row in document["volumes"]} == {"train", "validation"}


def test_hdf5_files_are_written_on_demand(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    out = tmp_path / "store"
    result = prepare(data, "-o", out, *GRID, "--task", "severity", "--hdf5")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in out.glob("*.h5")) == [
        "test.h5",
        "training.h5",
        "validation.h5",
    ]
    for path in (out / "index.json", out / "splits.csv"):
        path.unlink()
    assert len(opened(out, SEVERITY, Settings()).volumes) == len(ROWS)


def test_phantoms_keep_their_kernel(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_dataset(data, count=4, seed=3, shape=(36, 36, 24), split=(0.5, 0.5, 0.0))
    result = prepare(data, "-o", tmp_path / "store", *GRID)
    assert result.exit_code == 0, result.output
    kernels = [
        v.facts["kernel"] for v in opened(tmp_path / "store", CLASSIFIER, Settings()).volumes
    ]
    assert kernels == ["soft", "soft", "sharp", "sharp"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--grid", "46x46"),
        ("--grid", "45x46x46"),
        ("--task", "slices", "--grid", "46x46x46"),
        ("--task", "anything"),
        ("--classes", "one"),
        ("--classes", "../a,b"),
        ("--shares", "70/x"),
        ("--workers", "0"),
    ],
)
def test_unusable_options_are_usage_errors(
    data: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = prepare(data, "-o", tmp_path / "store", *arguments)
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "store").exists()


def test_failures_are_what_the_sdk_prints(data: Path, tmp_path: Path) -> None:
    result = prepare(tmp_path / "nowhere", "-o", tmp_path / "store", *GRID)
    assert isinstance(result.exception, DatasetError)
    own = tmp_path / "own"
    shutil.copytree(data, own)
    (own / "scan_1.nii.gz").write_bytes(b"no scan")
    result = prepare(own, "-o", tmp_path / "store", *GRID)
    assert isinstance(result.exception, UnreadableScan)
    told = run("train", "prepare", own, "-o", tmp_path / "store", *GRID)
    assert told.returncode == 1
    assert "scan_1.nii.gz: not a NIfTI file" in told.stderr
    assert "Traceback" not in told.stderr
