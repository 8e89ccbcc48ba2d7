"""The examples that train are run as an integrator runs them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

pytest.importorskip("keras")

from conftest import REPOSITORY
from ctedge import ModelBundle


def run(name, *arguments):
    answer = subprocess.run(
        [sys.executable, REPOSITORY / "examples" / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def png_size(path):
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return struct.unpack(">II", header[16:])


def test_a_model_of_ones_own_goes_from_training_to_engine(tmp_path):
    pytest.importorskip("tf2onnx", exc_type=ImportError)
    said = run("own_model.py", tmp_path).splitlines()
    bundle = ModelBundle.load(tmp_path / "own.ctedge")
    # Its gate may refuse half precision on another CPU's roundings; then that is said.
    assert list(bundle.variants) == ["fp16"] or any("to do:" in line for line in said)
    assert said[-1].startswith("own on ")
    engines = list((tmp_path / "own.ctedge" / "engines").glob("*.engine"))
    asked = any("pip install" in line or "to do:" in line for line in said)
    assert len(engines) == 1 or asked


def test_the_published_figures(tmp_path):
    pytest.importorskip("matplotlib")
    said = run("figures.py", tmp_path, "--patients", 8, "--epochs", 1)
    for label in ("normal", "abnormal"):
        assert f"percent confident that CT scan is {label}\n" in said
    assert (tmp_path / "confidence.txt").read_text() in said
    for name in ("montage", "lesions", "heat", "curves"):
        width, height = png_size(tmp_path / f"{name}.png")
        assert width > height > 300
    heat, lesions = ((tmp_path / f"{name}.png").read_bytes() for name in ("heat", "lesions"))
    assert heat != lesions
