"""A door that cannot be made leaves no network open, also while its error is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from ctedge import Classifier, LungSegmenter, MissingExtra, SliceClassifier
from ctedge.doors.by_task import load_door
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.uses import Uses
from lungs_watched import write_bands

#: What opens which bundle: "volumes", "slices" or "lungs".
OPENERS: dict[str, tuple[str, Callable[..., object]]] = {
    "Classifier.load": ("volumes", Classifier.load),
    "SliceClassifier.load": ("slices", SliceClassifier.load),
    "load_door": ("volumes", load_door),
    "LungSegmenter.load": ("lungs", LungSegmenter.load),
}


def bundle_of(kind: str, folder: Path) -> Path:
    if kind == "lungs":
        return write_bands(folder / "bands.ctedge").path
    task = "slices" if kind == "slices" else "classifier"
    return write_tiny(folder / "tiny.ctedge", task=task).path


@pytest.mark.parametrize("opener", OPENERS)
def test_its_network_is_closed(tmp_path, monkeypatch, opener):
    kind, load = OPENERS[opener]
    if kind == "lungs":
        pytest.importorskip("scipy.ndimage", exc_type=ImportError)
    path = bundle_of(kind, tmp_path)
    opened, closed, close = [], [], OnnxRuntime.close

    def refuse(_uses, runtime):
        opened.append(runtime)
        raise MissingExtra("finding the lungs needs the package scipy", fix="install it")

    def note(runtime):
        closed.append(runtime)
        close(runtime)

    monkeypatch.setattr(Uses, "__init__", refuse)
    monkeypatch.setattr(OnnxRuntime, "close", note)
    with pytest.raises(MissingExtra, match="scipy") as kept:
        load(path, device="cpu", runtime="onnxruntime")
    assert len(opened) == 1
    assert closed == opened
    assert kept.value.__traceback__ is not None  # which holds the runtime
