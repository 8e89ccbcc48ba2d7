"""Nothing is sent, and nothing kept for sending: in a home of its own, with no settings of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", exc_type=ImportError)

import onnxruntime

from bundle_factory import write_tiny
from ctedge import Classifier
from patience import PATIENCE_S

#: Loads a model, predicts, and says how many threads ONNX Runtime's import alone has started.
PREDICTS = """
import sys
from pathlib import Path
import numpy as np

def threads():
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else 0

scan = np.random.default_rng(0).integers(-1000, 800, (20, 20, 16)).astype(np.int16)
before = threads()
{first}
from ctedge.runtimes.onnxruntime_package import import_onnxruntime
import_onnxruntime("cpu")
print(threads() - before)
from ctedge import Classifier
with Classifier.load(sys.argv[1], device="cpu", runtime="onnxruntime") as door:
    print(door.predict(scan).probability > 0)
"""


def said(tmp_path: Path, first: str = "", **variables: str) -> list[str]:
    """What the program prints in an environment that holds nothing but a home."""
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    (tmp_path / "home").mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", PREDICTS.format(first=first), bundle.path],
        env={"HOME": str(tmp_path / "home"), "PATH": "", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.split()


def test_onnx_runtime_starts_no_sender_and_keeps_no_record(tmp_path):
    assert said(tmp_path) == ["0", "True"]
    assert list((tmp_path / "home").iterdir()) == []


def test_where_it_was_imported_before_it_sends_no_more(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: told.append(True))
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    with Classifier.load(bundle.path, device="cpu", runtime="onnxruntime"):
        assert told


def test_what_the_user_has_set_stands(tmp_path):
    said_so = (
        "import os, atexit; atexit.register(lambda: print(os.environ['ORT_DISABLE_TELEMETRY']))"
    )
    assert said(tmp_path, first=said_so, ORT_DISABLE_TELEMETRY="true")[2] == "true"
