"""`ctedge bench` as a user runs it: table, JSON, plot and exit codes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.status import Status

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from bench_factory import write_patient
from bundle_factory import write_tiny
from command_here import call
from command_line import run
from conftest import REPOSITORY
from ctedge.runtimes.candidate import ORDER
from patience import PATIENCE_S


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bundles") / "tiny.ctedge").path


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patient(tmp_path_factory.mktemp("scans"))


def test_table_json_and_plot_of_one_run(bundle, scan, tmp_path):
    pillow = pytest.importorskip("PIL.Image", exc_type=ImportError)
    asked = ("--repeats", 3, "--warm-up", 1, "--runtime", "onnxruntime", "--precision", "fp32")
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    answer = run("bench", bundle, scan, *asked, "--json", written, "--plot", drawn)
    assert answer.returncode == 0, answer.stderr
    for stage in ("read", "preprocess", "inference, with copies", "total"):
        assert re.search(rf"^  {stage} +(\d+\.\d+ +){{4}}\d+\.\d% +3$", answer.stdout, re.M), stage
    assert re.search(r"^    on the device, alone +-$", answer.stdout, re.MULTILINE)
    assert "first answer" in answer.stdout
    assert "peak memory" in answer.stdout
    document = json.loads(written.read_text())
    assert document["schema_version"] == 1
    assert document["command"][:4] == ["ctedge", "bench", str(bundle), "SCAN"]
    assert "Patient" not in written.read_text()
    with pillow.open(drawn) as picture:
        colours = picture.convert("RGB").getcolors(1 << 16)
    assert len(colours) > 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is always full")
def test_what_was_measured_is_written_before_anything_is_said(bundle, tmp_path):
    asked = [str(bundle), "--repeats", "2", "--warm-up", "0", "--runtime", "onnxruntime"]
    files = ["--json", str(tmp_path / "bench.json"), "--plot", str(tmp_path / "bench.png")]
    with Path("/dev/full").open("wb") as full:
        answer = subprocess.run(
            [sys.executable, "-m", "ctedge", "bench", *asked, *files],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=PATIENCE_S,
        )
    assert answer.returncode != 0
    assert json.loads((tmp_path / "bench.json").read_text())["runs"]
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_json_on_standard_output_is_nothing_but_json(bundle):
    answer = run("bench", bundle, "--repeats", 2, "--warm-up", 0, "--json", "-")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["input"] == {"kind": "phantom in memory", "shape": [512, 512, 41]}
    (only,) = document["runs"]
    assert list(only["stages"]) == ["preprocess", "inference", "total"]  # there was none to read
    assert only["warm_up"] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["nowhere.ctedge"], 1),
        (["BUNDLE", "nowhere.nii.gz"], 1),
        (["BUNDLE", "--repeats", "1"], 2),
        (["BUNDLE", "--seconds", "0"], 2),
        (["BUNDLE", "--seconds", "nan"], 2),
        (["BUNDLE", "--seconds", "inf"], 2),
        (["BUNDLE", "--json", ""], 2),
        (["BUNDLE", "--plot", ""], 2),
        (["BUNDLE", "--runtime", "nonsense"], 2),
    ],
)
def test_exit_codes(bundle, arguments, code):
    answer = run("bench", *[bundle if word == "BUNDLE" else word for word in arguments])
    assert answer.returncode == code
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr


def test_a_scan_that_vanishes_half_way_leaves_what_was_measured(
    bundle, scan, tmp_path, monkeypatch
):
    pytest.importorskip("openvino", exc_type=ImportError)  # the second runtime
    own = Path(shutil.copy(scan, tmp_path / "Patient.nii.gz"))
    begun: list[str] = []

    def update(_: Status, said: str) -> None:
        begun.extend([said] if said.startswith("measuring ") else [])
        if len(begun) == 2:
            own.unlink(missing_ok=True)

    monkeypatch.setattr(Status, "update", update)
    written, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
    asked = ("--repeats", 2, "--warm-up", 0, "--device", "cpu", "--runtime", "all")
    answer = call("bench", bundle, own, *asked, "--json", written, "--plot", drawn)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {own}: no such file"), answer.stderr
    document = json.loads(written.read_text())
    (kept,) = document["runs"]
    assert begun[0] == f"measuring {kept['candidate']}"
    lost = {one["candidate"]: one["reason"] for one in document["refused"]}
    assert "ScanNotFound" in lost[begun[1].removeprefix("measuring ")]
    assert len(lost) == sum(one.device == "cpu" for one in ORDER) - 1
    assert "Patient" not in written.read_text()
    assert f"\n{kept['candidate']} " in answer.stdout
    assert drawn.stat().st_size > 1000


def test_every_option_that_the_page_names_exists():
    text = (REPOSITORY / "docs" / "benchmarking.md").read_text()
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text))
    spoken = named - {"--rounds"}  # of benchmarks/compare.py
    known = run("bench", "--help").stdout
    assert {"--runtime", "--json", "--plot"} <= spoken
    for option in spoken:
        assert f"  {option} " in known, option
