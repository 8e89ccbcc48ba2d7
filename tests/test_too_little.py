"""Where memory or threads are too few, the advice is to allow more; nothing is called broken."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from ctedge import ModelBundle, diagnosis
from ctedge.bundle import golden
from ctedge.errors import InvalidBundle, RuntimeUnavailable
from ctedge.extras import INSTALL_AGAIN, MORE_OF_BOTH
from ctedge.runtimes import openvino_package
from ctedge.runtimes.onnx_runtime import OnnxRuntime

LEVELS = golden.pack_levels(np.zeros((4, 4, 4), np.uint8))


def without_memory(*_args: object, **_named: object) -> object:
    raise MemoryError("Unable to allocate output buffer.")


@pytest.mark.parametrize(
    ("module", "name"), [(zlib, "decompressobj"), (io, "BytesIO"), (np.lib.format, "read_array")]
)
def test_a_golden_input_for_which_there_is_no_memory_is_not_broken(monkeypatch, module, name):
    monkeypatch.setattr(module, name, without_memory)
    with pytest.raises(RuntimeUnavailable, match="too little memory") as met:
        golden.unpack_levels(LEVELS, "golden/one.npy.gz", (4, 4, 4))
    assert met.value.fix == MORE_OF_BOTH


def test_one_of_another_shape_is():
    with pytest.raises(InvalidBundle, match="is broken"):
        golden.unpack_levels(LEVELS, "golden/one.npy.gz", (4, 4, 5))


def test_the_doctor_does_not_have_a_shipped_model_installed_again_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(write_tiny(tmp_path / "tiny.ctedge").path)
    monkeypatch.setattr(diagnosis, "shipped_bundles", lambda: (path,))
    monkeypatch.setattr(zlib, "decompressobj", without_memory)
    (found,) = diagnosis._bundle(path)
    assert (found.state, found.fix) == ("broken", MORE_OF_BOTH)
    monkeypatch.undo()
    monkeypatch.setattr(diagnosis, "shipped_bundles", lambda: (path,))
    (Path(path) / "MODEL_CARD.md").write_text("changed")
    (found,) = diagnosis._bundle(path)
    assert (found.state, found.fix) == ("broken", INSTALL_AGAIN)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_openvino_without_any_device_lacks_memory_or_threads(monkeypatch, device):
    core = SimpleNamespace(available_devices=[])
    monkeypatch.setattr(openvino_package, "openvino_core", lambda: core)
    with pytest.raises(RuntimeUnavailable, match="no device at all") as met:
        openvino_package.require_device(device)
    assert met.value.fix == MORE_OF_BOTH
    monkeypatch.setattr("ctedge.runtimes.versions.misfit", lambda name: None)
    found = diagnosis._openvino()
    assert (found.state, found.fix) == ("broken", MORE_OF_BOTH)
    core.available_devices = ["CPU"]
    with pytest.raises(RuntimeUnavailable, match="does not find") as met:
        openvino_package.require_device("gpu")
    assert "Intel's GPU driver" in str(met.value.fix)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("posix.cc:277 PosixThread pthread_create failed, error code: 11", MORE_OF_BOTH),
        ("bfc_arena.cc:376 Failed to allocate memory for requested buffer", MORE_OF_BOTH),
        ("std::bad_alloc", MORE_OF_BOTH),
        ("INVALID_PROTOBUF: Load model failed", "ctedge doctor"),
    ],
)
def test_onnx_runtime_says_that_it_lacks_either(tmp_path, monkeypatch, said, advice):
    onnxruntime = pytest.importorskip("onnxruntime", exc_type=ImportError)

    def refused(*_args: object, **_named: object) -> object:
        raise RuntimeError(said)

    monkeypatch.setattr(onnxruntime, "InferenceSession", refused)
    bundle = ModelBundle.load(write_tiny(tmp_path / "tiny.ctedge").path)
    with pytest.raises(RuntimeUnavailable, match="cannot load") as met:
        OnnxRuntime(bundle.model_bytes(), name="tiny")
    assert advice in str(met.value.fix)
