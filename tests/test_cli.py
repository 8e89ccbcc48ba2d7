"""The command line as a user meets it: exit codes, messages, JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bundle_factory import write_tiny
from command_line import CTEDGE, run
from conftest import REPOSITORY
from patience import PATIENCE_S
from side_marks import CAPTION_ROWS, marks


@pytest.fixture
def bundle(tmp_path):
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.fixture
def scan(tmp_path, chest, las_affine):
    path = tmp_path / "scan.nii.gz"
    nib.save(nib.Nifti1Image(chest, las_affine), path)
    return path


def test_version():
    answer = run("--version")
    assert re.fullmatch(r"ctedge \d+\.\d+\.\d+\n", answer.stdout)


def test_help_names_every_command():
    answer = run("--help")
    assert answer.returncode == 0
    for command in ("demo", "predict", "assess", "inspect", "doctor", "bench", "train", "export"):
        assert re.search(rf"^  {command} ", answer.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["predict"], ["predict", "--nonsense", "x"], ["train", "nonsense"]]
)
def test_wrong_usage_exits_with_2(arguments):
    answer = run(*arguments)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr


def test_predict_prints_class_confidences_and_times(bundle, scan):
    answer = run("predict", scan, "--model", bundle)
    assert answer.returncode == 0, answer.stderr
    assert "abnormal" in answer.stdout
    assert "-cpu-fp32" in answer.stdout
    assert re.search(r"\d+\.\d\d%", answer.stdout)


def test_brackets_in_a_path_are_printed_as_they_are(bundle, scan):
    folder = scan.parent / "[old] [/bold]"
    folder.mkdir(parents=True)
    moved = scan.rename(folder / scan.name)
    answer = run("predict", moved, "--model", bundle)
    assert answer.returncode == 0, answer.stderr
    assert "[old] [/bold]" in answer.stdout


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_unicode_still_gets_the_answer(bundle, scan, encoding, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    monkeypatch.setenv("PYTHONUTF8", "0")
    answer = run("predict", scan, "--model", bundle)
    assert answer.returncode == 0, answer.stderr
    assert "abnormal" in answer.stdout


@pytest.mark.parametrize("shape", ["0x0x0", "1x1x1", "9" * 5000, "a", "128x128"])
def test_a_size_that_is_none_is_wrong_usage(tmp_path, shape):
    answer = run("train", "phantoms", tmp_path / "x", "--count", "1", "--shape", shape)
    assert answer.returncode == 2
    assert not (tmp_path / "x").exists()


def test_predict_json_is_one_object_a_line(bundle, scan):
    answer = run("predict", scan, scan, "-m", bundle, "--json")
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(lines) == 2
    assert lines[0]["source"] == str(scan)
    assert lines[0]["probability"] == lines[1]["probability"]
    assert lines[0]["timings_ms"]["total"] >= lines[0]["timings_ms"]["read"] > 0


def test_one_bad_scan_does_not_stop_the_others(bundle, scan, tmp_path):
    answer = run("predict", tmp_path / "none.nii", scan, "-m", bundle, "--json")
    assert answer.returncode == 1
    first, second = (json.loads(line) for line in answer.stdout.splitlines())
    assert first["error"]["type"] == "ScanNotFound"
    assert 0 <= second["probability"] <= 1


def test_errors_go_to_standard_error_with_what_to_do(bundle, tmp_path):
    answer = run("predict", tmp_path / "none.nii", "-m", bundle)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "no such file" in answer.stderr
    assert "to do:" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_tampered_bundle_exits_with_1(bundle, scan):
    (bundle / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes() + b" ")
    answer = run("predict", scan, "-m", bundle)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert "Traceback" not in answer.stderr


def test_inspect(bundle):
    answer = run("inspect", bundle)
    assert answer.returncode == 0, answer.stderr
    assert "classifier" in answer.stdout
    manifest = json.loads(run("inspect", bundle, "--json").stdout)
    assert manifest["task"] == "classifier"
    assert run("inspect", bundle, "--card").stdout.startswith("# tiny")


def test_doctor_reports_and_json_agrees(bundle):
    answer = run("doctor")
    assert answer.returncode == 0, answer.stdout
    assert "golden cases answered" in answer.stdout
    findings = json.loads(run("doctor", bundle, "--json").stdout)
    assert {"numpy", "onnxruntime", "NVIDIA driver"} <= {f["subject"] for f in findings}
    for finding in findings:
        assert finding["state"] in {"ok", "missing", "broken"}


def test_demo(tmp_path):
    answer = run("demo", "--seed", 3, "--lesions", 40, "-o", tmp_path / "out")
    assert answer.returncode == 0, answer.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "synthetic_3.nii.gz",
        "synthetic_3_montage.png",
        "synthetic_3.json",
    }
    with Image.open(tmp_path / "out" / "synthetic_3_montage.png") as montage:
        sides = marks(np.asarray(montage)[CAPTION_ROWS:])
    assert len(sides["R"]) == len(sides["L"]) == 24  # slices
    answers = json.loads((tmp_path / "out" / "synthetic_3.json").read_text())
    assert answers["truth"]["label"] == "abnormal"
    assert [result["model"] for result in answers["results"]] == ["pneumonia", "severity"]
    assert "CTSI" in answer.stdout
    assert "not a medical device" in answer.stdout


#: Presses Ctrl-C when a module is first asked for. Python imports it before anything of ours.
PRESSED = """
import os, signal, sys

class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["PRESSED_AT"]:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
sys.meta_path.insert(0, Pressing())
"""

#: `python -m ctedge`, and what the script does that pip makes of the entry point.
STARTS = {
    "module": CTEDGE,
    "script": [sys.executable, "-c", "import sys, {0}; sys.exit({0}.{1}())"],
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("moment", ["ctedge.cli", "typer", "ctedge.errors"])
def test_ctrl_c_while_it_starts_is_answered_in_one_line(tmp_path, start, moment):
    (tmp_path / "sitecustomize.py").write_text(PRESSED)
    settings = (REPOSITORY / "pyproject.toml").read_text()
    entry = re.search(r'^ctedge = "([\w.]+):(\w+)"$', settings, re.MULTILINE)
    command = [word.format(*entry.groups()) for word in STARTS[start]]
    told = os.environ | {"PYTHONPATH": str(tmp_path), "PRESSED_AT": moment}
    answer = subprocess.run(
        [*command, "doctor"],
        env=told,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (answer.returncode, answer.stderr.splitlines()) == (130, ["interrupted"])
    assert answer.stdout == ""


#: What a command imports once it runs.
AT_WORK = {
    ("demo", "-o", "out"): "ctedge.phantom",
    ("predict", "scan.nii"): "ctedge.doors.by_task",
    ("assess", "scan.nii"): "ctedge.quality",
    ("inspect", "pneumonia"): "ctedge.bundle.model_bundle",
    ("doctor",): "ctedge.diagnosis",
    ("bench",): "ctedge.bench",
    ("dicom", "list", "."): "ctedge.readers.dicom.choice",
    ("export", "verify", "pneumonia"): "ctedge.bundle.model_bundle",
}


@pytest.mark.parametrize("command", AT_WORK, ids=" ".join)
def test_ctrl_c_while_a_command_works_is_answered_in_one_line(tmp_path, command):
    (tmp_path / "sitecustomize.py").write_text(PRESSED)
    told = os.environ | {"PYTHONPATH": str(tmp_path), "PRESSED_AT": AT_WORK[command]}
    answer = subprocess.run(
        [*CTEDGE, *command],
        env=told,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert (answer.returncode, answer.stderr.splitlines()) == (130, ["interrupted"])


@pytest.mark.parametrize("moment", ["while workers start", "while scans are written"])
def test_ctrl_c_exits_with_130_and_leaves_nothing(tmp_path, moment):
    out = tmp_path / "out"
    command = [*CTEDGE, "train", "phantoms", out, "--count", "500", "--workers", "2"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell's background job hands on an ignored SIGINT, and so might whatever runs the tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        deadline = time.monotonic() + PATIENCE_S
        group = f"/proc/{process.pid}/task/{process.pid}/children"
        while time.monotonic() < deadline:
            started = Path(group).read_text().split() if Path(group).exists() else ["?"] * 3
            if moment == "while workers start" and len(started) >= 3:  # and the resource tracker
                break
            if list(out.glob("scans/*.nii.gz")):
                break
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert errors.splitlines().count(b"interrupted") == 1, errors
    assert b"Traceback" not in errors
    assert not list(out.rglob(".partial-*"))
    assert not (out / "labels.csv").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell there")
@pytest.mark.parametrize("output", [">&-", "> /dev/full"])
@pytest.mark.parametrize("command", ["doctor", "--help"])
def test_an_answer_that_cannot_be_printed_is_no_success(command, output):
    if "full" in output and not Path("/dev/full").exists():
        pytest.skip("no such device here")
    line = f'exec "$@" {output}'
    answer = subprocess.run(
        ["sh", "-c", line, "sh", *CTEDGE, command],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 1
    assert "where standard output goes" in answer.stderr
    assert "Exception ignored" not in answer.stderr
