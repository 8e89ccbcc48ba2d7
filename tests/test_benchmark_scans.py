"""Real scans in benchmarks: those of CTEDGE_TEST_DATA and no others, and the command says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from patience import PATIENCE_S

BENCHMARKS = REPOSITORY / "benchmarks"
SCANS = "CTEDGE_TEST_DATA"


@pytest.fixture(autouse=True)
def _benchmarks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.delenv(SCANS, raising=False)


def test_the_folder_is_the_one_that_is_named(tmp_path, monkeypatch):
    import result_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    monkeypatch.setenv(SCANS, "scans")
    assert result_file.scans() == (tmp_path / "scans").resolve()
    command = f"{SCANS}=DATA python benchmarks/x.py"
    words = ["benchmarks/x.py"]
    assert result_file.typed(words=words, reads_scans=True).endswith(command)
    assert SCANS not in result_file.typed(words=words)


@pytest.mark.parametrize("named", [None, "", "no-such-folder"])
def test_without_a_folder_there_are_none_and_the_command_names_none(tmp_path, monkeypatch, named):
    import result_file

    monkeypatch.chdir(tmp_path)
    if named is not None:
        monkeypatch.setenv(SCANS, named)
    assert result_file.scans() is None
    assert SCANS not in result_file.typed(words=["benchmarks/x.py"], reads_scans=True)


@pytest.mark.parametrize("words", [["real_scans.py"], ["reproduce.py", "covid-slices"]])
def test_what_cannot_be_measured_without_them_asks_for_them(tmp_path, words):
    script, *more = words
    answer = subprocess.run(
        [sys.executable, BENCHMARKS / script, *more, "-o", tmp_path / "x.json"],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 2
    assert "name a folder of real scans in CTEDGE_TEST_DATA" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_command_of_a_reproduction_names_no_folder(tmp_path):
    import reproduce

    data = tmp_path / "scans"
    work = reproduce.Work(tmp_path / "work", scans=data, full=False, extra=[])
    said = work.readable("train", str(data / "x"), "-o", str(work.folder / "run"))
    assert said == "train DATA/x -o WORK/run"


def test_the_notes_of_model_cards_leave_out_what_was_not_judged():
    import demo_models

    metric = {"value": 0.5, "ci95": [0.4, 0.6]}
    document: dict[str, Any] = {
        "mean_lung_hu": {"auc": metric, "phantoms": {"count": 3}},
        "runs": {"shuffled labels": {"grid": [46, 46, 46], "metrics": {"auc": metric}}},
    }
    assert "chest" not in demo_models.notes(document | {"real_chests": {}})
    answer = {"label": "normal", "probability": 0.25, "score": 1.0, "category": "mild"}
    lines = demo_models.notes(document | {"real_chests": {"a chest": answer}}).splitlines()
    assert "### Two real chests" in lines
    assert lines[-1].startswith("- a chest: normal with probability 0.2500")


def test_frames_of_real_scans_are_left_out_without_them(tmp_path: Path):
    pytest.importorskip("imagecodecs", exc_type=ImportError)
    code = f"import sys; sys.path[:0] = [{str(BENCHMARKS)!r}]\n"
    # By path: the standard library has a module of that name.
    code += f"import runpy; found = runpy.run_path({str(BENCHMARKS / 'codecs.py')!r})\n"
    code += "print(len(list(found['real_frames']())))"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert answer.stdout.strip() == "0"
