"""A bundle that did not pass the gates of its export is run by nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnxruntime", exc_type=ImportError)

from bundle_factory import write_tiny
from ctedge import Classifier, InvalidBundle

PASSED, FAILED = {"passed": True}, {"passed": False}


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ({}, "no gate result"),
        ({"task": PASSED}, "no gate result"),
        ({"onnx": FAILED}, "no gate result"),
        ({"onnx": {"passed": 1}}, "no gate result"),
        ({"onnx": PASSED, "task": FAILED}, "did not pass its task gate"),
        ({"onnx": PASSED, "structural": {"passed": None}}, "did not pass its structural gate"),
    ],
)
@pytest.mark.parametrize("asked", [{}, {"runtime": "onnxruntime", "precision": "fp32"}])
def test_it_is_not_loaded(
    tmp_path: Path, gates: dict[str, Any], said: str, asked: dict[str, Any]
) -> None:
    bundle = write_tiny(tmp_path / "hurried.ctedge", gates=gates)
    with pytest.raises(InvalidBundle, match=said) as caught:
        Classifier.load(bundle.path, **asked)
    assert "ctedge export onnx" in str(caught.value)
