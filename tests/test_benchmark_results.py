"""Every committed result file has the one form; the overview names each, and its command exists."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from ctedge import CTEdgeError
from ctedge.bench.machine import BenchMachine
from patience import PATIENCE_S

BENCHMARKS = REPOSITORY / "benchmarks"
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
OVERVIEW = (BENCHMARKS / "README.md").read_text()

#: Made before there was one form. Whoever makes one again takes it off this list.
OLD = {
    "ablation.json",
    "covid-slices.json",
    "hrct-study.json",
    "keras-example.json",
}

MACHINE = replace(BenchMachine.here(), load=0.5)


@pytest.fixture(autouse=True)
def _benchmarks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def form() -> Any:
    import result_file

    return result_file


def rows_of_the_overview() -> dict[str, dict[str, str]]:
    """By file: its command, and where it is shown."""
    found = re.findall(r"^\| `([\w-]+\.json)` \| `([^`]+)` \| [^|]+ \| ([^|]+) \|$", OVERVIEW, re.M)
    return {name: {"command": command, "shown": shown} for name, command, shown in found}


def without_variables(command: str) -> list[str]:
    words = shlex.split(command)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    return words


def test_a_file_starts_with_command_and_machine(form, tmp_path):
    path = form.write(
        tmp_path / "x.json",
        command="python benchmarks/x.py",
        machine=MACHINE,
        packages=("pytest", "no-such-package"),
        body={"seed": 1, "rows": [{"ms": 1.5}]},
    )
    document = json.loads(path.read_text())
    assert list(document) == [*form.HEADER, "seed", "rows"]
    assert document["command"] == "python benchmarks/x.py"
    assert document["machine"]["load"] == 0.5
    assert document["machine"]["versions"]["pytest"] == pytest.__version__
    assert "no-such-package" not in document["machine"]["versions"]
    assert set(document["machine"]) == set(asdict(MACHINE))


@pytest.mark.parametrize(
    "body",
    [
        {"rows": [{"file": "/tmp/scan.nii.gz"}]},  # noqa: S108 - what is to be refused
        {"rows": {"missing": "cannot read (/usr/lib): gone"}},
        {"/usr/bin/x": 1},
        {"note": "see file:///usr/share/doc"},
    ],
)
def test_a_path_of_this_machine_is_refused_and_nothing_is_lost(form, tmp_path, body):
    path = tmp_path / "x.json"
    path.write_text("what stood there")
    with pytest.raises(CTEdgeError, match="names no path") as caught:
        form.write(path, command="python benchmarks/x.py", machine=MACHINE, body=body)
    assert path.read_text() == "what stood there"
    refused = tmp_path / "x.json.refused"
    assert str(refused) in str(caught.value)
    assert json.loads(refused.read_text())["command"] == "python benchmarks/x.py"


def test_what_only_looks_like_a_path_is_none(form):
    said = ["DATA/covid_ct_2d", "ms/scan and/or", "https://example.org/usr/x", "1 / 2", "~/x", "/"]
    assert form.paths_in({"said": said, "WORK/runs": 1}) == []


def test_the_header_is_not_to_be_overwritten(form):
    with pytest.raises(ValueError, match="machine"):
        form.formed(command="x", machine=MACHINE, body={"machine": "mine", "rows": []})


def test_a_command_is_said_without_folders_of_this_machine(form, tmp_path, monkeypatch):
    for name in form.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CTEDGE_TEST_DATA", str(tmp_path))
    inside = str(REPOSITORY / "benchmarks" / "results" / "x.json")
    words = ["benchmarks/x.py", str(tmp_path / "runs"), "-o", inside, f"--cache={tmp_path}/cache"]
    said = form.typed(words=words, places={"WORK": tmp_path / "runs"}, reads_scans=True)
    assert said == (
        "OMP_NUM_THREADS=1 CTEDGE_TEST_DATA=DATA python benchmarks/x.py WORK"
        " -o benchmarks/results/x.json --cache=cache"
    )
    assert "CTEDGE" not in form.typed(words=words)
    assert form.typed(words=["a", "40"], places={"WORK": Path()}).endswith("python a 40")


def test_benchmarks_that_pytest_runs_write_the_same_form(tmp_path):
    pytest.importorskip("pytest_benchmark")
    path = tmp_path / "found.json"
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "benchmarks/test_phantom.py"),
            *("-k", "128", "--dist=no", "--benchmark-enable", f"--benchmark-json={path}"),
        ],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    document = json.loads(path.read_text())
    assert list(document) == ["schema_version", "command", "machine", "benchmarks"]
    expected = "python -m pytest -q benchmarks/test_phantom.py -k 128 --dist=no --benchmark-enable"
    assert document["command"].endswith(f"{expected} --benchmark-json=found.json")
    assert document["machine"]["cores"] == MACHINE.cores
    (entry,) = document["benchmarks"]
    assert entry["name"] == "test_render[(128, 128, 64)]"
    assert entry["extra_info"] == {"seed": 3}
    assert 0 < entry["stats"]["min"] <= entry["stats"]["median"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_committed_file_has_the_form(form, path):
    document = json.loads(path.read_text())
    assert not document.get("quick"), "a trial"
    assert form.paths_in(document) == []
    assert not re.search(rf"\b{re.escape(platform.node())}\b", json.dumps(document.get("machine")))
    if path.name in OLD:
        assert document["schema_version"] < form.SCHEMA_VERSION, "made again: take it off OLD"
        return
    assert tuple(document)[: len(form.HEADER)] == form.HEADER
    assert document["schema_version"] == form.SCHEMA_VERSION
    assert set(document["machine"]) == set(asdict(MACHINE))
    assert {"ctedge", "numpy"} <= set(document["machine"]["versions"])
    named = without_variables(rows_of_the_overview()[path.name]["command"])
    assert set(named) <= set(without_variables(document["command"])), "the overview's command"


def test_the_overview_names_every_file():
    rows = rows_of_the_overview()
    assert {path.name for path in RESULTS} <= set(rows)
    assert {line for line in OVERVIEW.splitlines() if line.startswith("| `")} == {
        line for line in OVERVIEW.splitlines() if any(f"| `{name}` |" in line for name in rows)
    }
    assert set(rows) >= OLD


@pytest.mark.parametrize("name", rows_of_the_overview())
def test_each_command_and_page_of_the_overview_exists(name):
    row = rows_of_the_overview()[name]
    words = without_variables(row["command"])
    scripts = [word for word in words if word.endswith(".py")]
    assert words[0] == "python"
    assert scripts
    assert all((REPOSITORY / script).is_file() for script in scripts)
    assert any(word.endswith(f"benchmarks/results/{name}") for word in words)
    if words[1] != "-m":
        (script,) = scripts
        text = (REPOSITORY / script).read_text()
        options = [word for word in words if word.startswith("-")]
        assert all(f'"{option}"' in text for option in options)
    for target in re.findall(r"\]\(([^)]+)\)", OVERVIEW):
        assert (BENCHMARKS / target).exists(), target
    for script, option in re.findall(r"`(\w+\.py)(?: (--write))?`", row["shown"]):
        assert (BENCHMARKS / script).is_file()
        assert option in (BENCHMARKS / script).read_text()


def test_a_series_that_was_not_read_shows():
    import reading_tables

    row = {"ctedge": {"p50_ms": 1000.0, "cv": 0.05}, "script": {"p50_ms": 3000.0, "cv": 0.1}}
    row |= {"times_faster": 3.0, "peak_mib": 150.0, "script_peak_mib": 600.0, "memory_share": 0.25}
    names = list(reading_tables.SERIES)
    document = {
        "machine": MACHINE.to_json(),
        "benchmarks": [{"name": names[1], "extra_info": row}],
    }
    lines = list(reading_tables.reading_rows(document))
    assert lines[-2] == "| 600 slices, uncompressed | not taken yet | | | | | | | |"
    assert lines[-1].endswith("| 1.00 s | 5.0% | 3.00 s | 10.0% | 3.0 | 150 | 600 | 25% |")
    assert len({line.count("|") for line in lines[2:]}) == 1


@pytest.mark.realdata
def test_a_trial_of_the_codecs_fills_its_table(tmp_path, real_data):
    pytest.importorskip("imagecodecs", exc_type=ImportError)
    import reading_tables

    path = tmp_path / "codecs.json"
    subprocess.run(
        [sys.executable, BENCHMARKS / "codecs.py", "--rounds", "1", "-o", path],
        env={**os.environ, "CTEDGE_TEST_DATA": str(real_data)},
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    document = json.loads(path.read_text())
    assert document["command"].endswith("benchmarks/codecs.py --rounds 1 -o codecs.json")
    lines = list(reading_tables.codec_rows(document))
    assert sum("| synthetic, 512 x 512 |" in line for line in lines) >= 5
    assert any("covid_chest" in line for line in lines)
    assert all(line.count(" | ") == 4 for line in lines[4:])
