"""The examples that train are run as an integrator runs them."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("keras")

from conftest import REPOSITORY
from ctedge import ModelBundle
from made_once import made_once
from side_marks import CAPTION_ROWS, marks

FIGURES = ("--patients", "8", "--epochs", "1")

# Each as a script, one after another: TensorFlow is imported once. The chests that gates show are
# those of the other tests, which show networks of this size as well.
SCRIPTS = """
import contextlib, json, os, runpy, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from drawn_once import share_drawings
share_drawings(Path(os.environ["CTEDGE_TEST_DRAWN"]))
del sys.path[0]
for script, out, *words in json.loads(sys.argv[2]):
    sys.argv = [script, out, *words]
    with open(f"{out}.txt", "w") as said, contextlib.redirect_stdout(said):
        runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each example, and what it said in a text file beside it."""
    pytest.importorskip("matplotlib")
    pytest.importorskip("tf2onnx", exc_type=ImportError)
    return made_once(tmp_path_factory.getbasetemp(), "examples", run_all)


def run_all(folder: Path) -> None:
    examples = REPOSITORY / "examples"
    scripts = [
        (str(examples / "own_model.py"), str(folder / "own")),
        (str(examples / "figures.py"), str(folder / "figures"), *FIGURES),
    ]
    for _, out, *_ in scripts:
        Path(out).mkdir(parents=True)
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPTS, REPOSITORY / "tests", json.dumps(scripts)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert answer.returncode == 0, answer.stderr


def said_by(ran: Path, example: str) -> str:
    return (ran / f"{example}.txt").read_text()


def png_size(path):
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return struct.unpack(">II", header[16:])


def test_a_model_of_ones_own_goes_from_training_to_engine(ran):
    said = said_by(ran, "own").splitlines()
    bundle = ModelBundle.load(ran / "own" / "own.ctedge")
    # Its gate may refuse half precision on another CPU's roundings; then that is said.
    assert list(bundle.variants) == ["fp16"] or any("to do:" in line for line in said)
    assert said[-1].startswith("own on ")
    engines = list((bundle.path / "engines").glob("*.engine"))
    asked = any("pip install" in line or "to do:" in line for line in said)
    assert len(engines) == 1 or asked


def test_the_published_figures(ran):
    said, out = said_by(ran, "figures"), ran / "figures"
    for label in ("normal", "abnormal"):
        assert f"percent confident that CT scan is {label}\n" in said
    assert (out / "confidence.txt").read_text() in said
    for name in ("montage", "lesions", "heat", "curves"):
        width, height = png_size(out / f"{name}.png")
        assert width > height > 300
    for name in ("montage", "lesions", "heat"):
        with Image.open(out / f"{name}.png") as picture:
            sides = marks(np.asarray(picture)[CAPTION_ROWS:])
        assert len(sides["R"]) == len(sides["L"]) == 24  # slices
    heat, lesions = ((out / f"{name}.png").read_bytes() for name in ("heat", "lesions"))
    assert heat != lesions
