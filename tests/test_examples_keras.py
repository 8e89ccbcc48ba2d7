"""The examples that train are run as an integrator runs them."""

from __future__ import annotations

import functools
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
from patience import LONG_PATIENCE_S
from side_marks import CAPTION_ROWS, marks

FIGURES = ("--patients", "8", "--epochs", "1")

# As a script. The chests that gates show are those of the other tests, which show networks of this
# size as well.
SCRIPT = """
import os, runpy, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from drawn_once import share_drawings
share_drawings(Path(os.environ["CTEDGE_TEST_DRAWN"]))
del sys.path[0]
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


# Each in a test of its own: together they take a busy machine longer than one test may.
@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example wrote, and what it said in `said.txt`."""
    return ran(tmp_path_factory, "own_model.py")


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of the other."""
    return ran(tmp_path_factory, "figures.py", *FIGURES)


def ran(tmp_path_factory: pytest.TempPathFactory, script: str, *words: str) -> Path:
    pytest.importorskip("matplotlib")
    pytest.importorskip("tf2onnx", exc_type=ImportError)
    run = functools.partial(run_one, script, words)
    return made_once(tmp_path_factory.getbasetemp(), script.removesuffix(".py"), run)


def run_one(script: str, words: tuple[str, ...], out: Path) -> None:
    out.mkdir()
    example = REPOSITORY / "examples" / script
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, REPOSITORY / "tests", example, out, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_PATIENCE_S,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert answer.returncode == 0, answer.stderr
    (out / "said.txt").write_text(answer.stdout)


def said_by(out: Path) -> str:
    return (out / "said.txt").read_text()


def png_size(path):
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return struct.unpack(">II", header[16:])


def test_a_model_of_ones_own_goes_from_training_to_engine(own):
    said = said_by(own).splitlines()
    bundle = ModelBundle.load(own / "own.ctedge")
    # Its gate may refuse half precision on another CPU's roundings; then that is said.
    assert list(bundle.variants) == ["fp16"] or any("to do:" in line for line in said)
    assert said[-1].startswith("own on ")
    engines = list((bundle.path / "engines").glob("*.engine"))
    asked = any("pip install" in line or "to do:" in line for line in said)
    assert len(engines) == 1 or asked


def test_the_published_figures(figures):
    said, out = said_by(figures), figures
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
