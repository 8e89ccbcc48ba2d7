"""What one answer of a fresh process takes: what is imported, opened and run for it, no more."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import pytest
import typer
from typer.core import TyperGroup

from bundle_factory import write_tiny
from command_here import call
from command_line import run
from ctedge import InferenceFailed, RuntimeUnavailable
from ctedge.cli import app
from ctedge.doors import volume_door
from ctedge.doors.by_task import load_doors, wait_for_networks
from ctedge.runtimes import onnx_runtime, open_runtime, opening
from patience import PATIENCE_S

#: Installed here or not, a plain answer has no use for them: each costs tens of milliseconds.
PACKAGES = {
    "PIL",
    "keras",
    "matplotlib",
    "nibabel",
    "onnx",
    "openvino",
    "pandas",
    "pydicom",
    "rich.console",
    "scipy",
    "tensorflow",
    "tensorrt_rtx",
}
ROOMS = {
    "ctedge.cli.batch",
    "ctedge.cli.dicom",
    "ctedge.cli.output",
    "ctedge.engines.record",
    "ctedge.runtimes.openvino_package",
    "ctedge.runtimes.openvino_runtime",
    "ctedge.runtimes.tensorrt_engine",
    "ctedge.severity",
    "ctedge.slices",
}
OTHER_ROOMS = {
    "ctedge.explanation",
    "ctedge.lungs.segment",
    "ctedge.readers.dicom.images",
    "numpy.ma",
}

#: What checks the words of a command that runs; each takes a help half as long again, or twice.
CHECKS = {"pydantic", "pydantic_core", "numpy", "rich.console"}

ONCE = ["--runtime", "onnxruntime", "--precision", "fp32", "--json"]


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.fixture
def scan(tmp_path, chest, las_affine) -> Path:
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(chest, las_affine), path)
    return path


def said_by_a_process(*arguments: object) -> tuple[dict[str, Any], set[str]]:
    """What a fresh `ctedge` answers, and the modules that it has imported by its end."""
    code = (
        "import sys, json, atexit\n"
        f"sys.argv = ['ctedge', *{[*map(str, arguments)]!r}]\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules))))\n"
        "from ctedge.cli import main\n"
        "main()"
    )
    lines = subprocess.check_output(
        [sys.executable, "-c", code], text=True, timeout=PATIENCE_S
    ).splitlines()
    return json.loads(lines[0]), set(json.loads(lines[-1]))


def test_an_answer_imports_what_it_needs(bundle, scan):
    answer, modules = said_by_a_process("predict", scan, "--model", bundle, *ONCE)
    assert answer["runtime"] == "onnxruntime-cpu-fp32"
    assert {"numpy", "onnxruntime", "isal"} <= modules
    assert modules & (PACKAGES | ROOMS | OTHER_ROOMS) == set()


def test_an_answer_opens_one_network_and_runs_it_once(bundle, scan, monkeypatch):
    opened, ran = [], []
    make, infer = onnx_runtime.OnnxRuntime._open, onnx_runtime.OnnxRuntime.run

    def count_opened(self, model):
        opened.append(threading.current_thread().name)
        return make(self, model)

    def count_run(self, batch, **more):
        ran.append(len(batch))
        return infer(self, batch, **more)

    monkeypatch.setattr(onnx_runtime.OnnxRuntime, "_open", count_opened)
    monkeypatch.setattr(onnx_runtime.OnnxRuntime, "run", count_run)
    answer = call("predict", scan, "--model", bundle, *ONCE)
    assert answer.returncode == 0, answer.stderr
    assert len(opened) == 1
    assert ran == [1]


def test_the_scan_is_prepared_while_the_network_is_opened(bundle, scan, monkeypatch):
    prepared = threading.Event()
    resample = volume_door.resample

    def seen(*arguments, **more):
        volume = resample(*arguments, **more)
        prepared.set()
        return volume

    def patient(*arguments, **more):
        assert prepared.wait(PATIENCE_S), "the scan is not read before the network is open"
        return open_runtime(*arguments, **more)

    monkeypatch.setattr(volume_door, "resample", seen)
    monkeypatch.setattr(opening, "open_runtime", patient)
    answer = call("predict", scan, "--model", bundle, *ONCE)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["runtime"] == "onnxruntime-cpu-fp32"


def test_waiting_for_the_network_is_no_inference(bundle, chest, monkeypatch):
    """It comes an hour after it was asked for."""
    clock, asked = SimpleNamespace(now=0.0), threading.Event()
    clock.perf_counter = lambda: clock.now
    real = opening.Opening._runtime

    def asked_for(network):
        asked.set()
        return real.fget(network)

    def late(*arguments, **more):
        assert asked.wait(PATIENCE_S)
        clock.now += 3600.0
        return open_runtime(*arguments, **more)

    monkeypatch.setattr("ctedge.clock.time", clock)
    monkeypatch.setattr(opening.Opening, "_runtime", property(asked_for))
    monkeypatch.setattr(opening, "open_runtime", late)
    (door,) = load_doors([bundle], device="cpu", runtime="onnxruntime")
    with door:
        prediction = door.predict(chest)
    assert prediction.timings_ms["total"] == 0.0


def test_where_no_thread_starts_the_network_is_opened_first(bundle, chest, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    (door,) = load_doors([bundle], device="cpu", runtime="onnxruntime")
    with door:
        assert door.predict(chest).runtime == "onnxruntime-cpu-fp32"


class TestWhereThereIsNoNetwork:
    """Nothing is answered, by none of the models, and it is not told as a scan's fault."""

    def test_the_command_ends(self, bundle, scan):
        command = ["predict", scan, scan, "--model", bundle, "--precision", "int8", "--json"]
        answer = run(*command)
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert answer.stderr.startswith("error: ")
        assert answer.stderr.count("error: ") == 1

    def test_it_goes_before_what_is_wrong_with_a_scan(self, bundle, tmp_path):
        nothing = tmp_path / "none.nii.gz"
        answer = call("predict", nothing, "--model", bundle, "--precision", "int8")
        assert answer.returncode == 1
        assert "none.nii.gz" not in answer.stdout + answer.stderr

    def test_a_scan_that_fails_still_fails_alone(self, bundle, scan, tmp_path):
        answer = call("predict", tmp_path / "none.nii.gz", scan, "--model", bundle, *ONCE)
        first, second = map(json.loads, answer.stdout.splitlines())
        assert "no such file" in first["error"]["what"]
        assert "probability" in second
        assert answer.returncode == 1

    def test_the_networks_that_were_opened_are_closed(self, bundle, monkeypatch):
        made = []

        def second_fails(verified, **named):
            if made:
                raise RuntimeUnavailable("not here")
            made.append(open_runtime(verified, device="cpu", runtime="onnxruntime"))
            return made[0]

        monkeypatch.setattr(opening, "open_runtime", second_fails)
        doors = load_doors([bundle, bundle])
        for _ in range(2):
            with pytest.raises(RuntimeUnavailable, match="not here"):
                wait_for_networks(doors)
        for door in doors:
            door.close()
        with pytest.raises(InferenceFailed, match="closed"):
            made[0].run(None)


def test_closing_waits_for_a_network_that_is_being_opened(bundle):
    (door,) = load_doors([bundle], device="cpu", runtime="onnxruntime")
    door.close()
    with pytest.raises(InferenceFailed, match="closed"):
        door._runtime.run(None)


@pytest.mark.parametrize("command", ["predict", "inspect", "dicom"])
def test_a_command_imports_no_other(command):
    code = (
        f"import sys; sys.argv = ['ctedge', {command!r}, '--help']\n"
        "from ctedge.cli import main, COMMANDS\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in COMMANDS if f'ctedge.cli.{name}' in sys.modules])"
    )
    said = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=PATIENCE_S)
    assert said.splitlines()[-1] == f"[{command!r}]"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["predict", "--help"],
        ["dicom", "list", "--help"],
        ["export", "onnx", "--help"],
        ["train", "classifier", "--help"],
        ["train", "data", "mosmed", "--help"],
    ],
    ids=" ".join,
)
def test_a_help_imports_nothing_that_checks_words(words):
    code = (
        f"import sys; sys.argv = ['ctedge', *{words!r}]\n"
        "from ctedge.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    said = subprocess.check_output(
        [sys.executable, "-c", f"import json; {code}"], text=True, timeout=PATIENCE_S
    )
    assert CHECKS & set(json.loads(said.splitlines()[-1])) == set()


def test_the_list_of_commands_says_what_each_says_of_itself():
    here = typer.main.get_command(app)
    context = here.make_context("ctedge", ["doctor"], resilient_parsing=True)
    short, whole = context.make_formatter(), context.make_formatter()
    here.format_commands(context, short)
    TyperGroup.format_commands(here, context, whole)  # of commands taken apart, options and all
    assert "predict" in short.getvalue()
    assert short.getvalue() == whole.getvalue()


@pytest.mark.parametrize("word", ["--help=1", "--version=1"])
def test_a_flag_still_takes_no_value(word):
    answer = run(word)
    assert answer.returncode == 2
    assert "does not take a value" in answer.stderr


def test_a_slip_of_the_keyboard_is_told_what_was_meant():
    answer = run("predit", "scan.nii.gz")
    assert answer.returncode == 2
    assert "Did you mean 'predict'" in answer.stderr
