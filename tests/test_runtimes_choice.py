"""Which runtime and precision run a bundle: the fastest whose gate passed, and why not another."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import ctedge.runtimes.choice as choice_module
from bundle_factory import read_document, seal, write_tiny
from ctedge import Classifier, RuntimeUnavailable, diagnosis
from ctedge.bundle.golden import pack_levels
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import EngineMismatch
from ctedge.runtimes.choice import choose, survey
from ctedge.runtimes.cuda_driver import find_device
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.openvino_runtime import has_native_bf16
from ctedge_export.precision import half
from engine_factory import write_engine_bundle
from precision_factory import SPEC, network, weights

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)
no_gpu = pytest.mark.skipif(find_device() is not None, reason="this machine has a GPU")


def add_member(folder: Path, document: dict[str, Any], name: str, data: bytes) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    document["members"][name] = record


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """A small network of the published shape with one golden case."""
    path = tmp_path_factory.mktemp("choice") / "small.ctedge"
    bundle = write_engine_bundle(path, model=network(weights()).SerializeToString())
    levels = np.random.default_rng(8).integers(0, 256, SPEC.shape, dtype=np.uint8)
    batch = levels[np.newaxis, np.newaxis].astype(np.float32) / np.float32(255)
    answers = OnnxRuntime(bundle.model, name="small").run(batch)
    document = read_document(path)
    add_member(path, document, "golden/noise.npy.gz", pack_levels(levels))
    case = {"name": "noise", "input": "golden/noise.npy.gz"}
    case["outputs"] = {name: values.item() for name, values in answers.items()}
    seal(path, document | {"golden": [case]})
    return path


@pytest.fixture(scope="module")
def files(plain) -> dict[str, bytes]:
    """Files under the names of other precisions; for the choice that of INT8 may hold floats."""
    model = ModelBundle.load(plain).model
    return {"int8": model, "bf16": half.halve(onnx.load_from_string(model), "bf16")}


@pytest.fixture
def gated(plain, files, tmp_path):
    """Makes a bundle whose manifest says on which runtimes the gates of a precision passed."""

    def make(**precisions: Mapping[str, bool]) -> ModelBundle:
        folder = shutil.copytree(plain, tmp_path / "small.ctedge")
        document = read_document(folder)
        for precision, passed in precisions.items():
            add_member(folder, document, f"model.{precision}.onnx", files[precision])
            verdicts = {
                name: {"version": "1", "numeric": {"passed": held}, "task": {"passed": held}}
                for name, held in passed.items()
            }
            document["variants"][precision] = {
                "member": f"model.{precision}.onnx",
                "opset": 22 if precision == "bf16" else 17,
                "kept_float": [],
                "weights": {},
                "calibration": None,
                "gates": {"structural": {"passed": True}, "runtimes": verdicts},
            }
        seal(folder, document)
        return ModelBundle.load(folder)

    return make


def taken(bundle: ModelBundle, **named: str) -> str:
    runtime = choose(bundle, **named).runtime
    runtime.close()
    return runtime.name


def reason(bundle: ModelBundle, candidate: str, **named: str) -> str:
    choice = choose(bundle, **named)
    choice.runtime.close()
    (verdict,) = [one for one in choice.verdicts if one.candidate == candidate]
    return str(verdict)


@needs_openvino
class TestOnACpu:
    def test_openvino_in_float_where_there_is_nothing_else(self, plain):
        bundle = ModelBundle.load(plain)
        assert taken(bundle, device="cpu") == "openvino-cpu-fp32"
        assert "1 golden case" in reason(bundle, "openvino-cpu-fp32", device="cpu")
        assert "not tried" in reason(bundle, "onnxruntime-cpu-fp32", device="cpu")
        assert "does not have" in reason(bundle, "openvino-cpu-int8", device="cpu")

    def test_int8_first_where_its_gate_passed(self, gated):
        bundle = gated(
            int8={"openvino-cpu-int8": True, "onnxruntime-cpu-int8": True},
            bf16={"openvino-cpu-bf16": True},
        )
        assert taken(bundle, device="cpu") == "openvino-cpu-int8"
        assert taken(bundle, device="cpu", precision="fp32") == "openvino-cpu-fp32"
        assert taken(bundle, runtime="onnxruntime", device="cpu") == "onnxruntime-cpu-fp32"

    def test_bf16_next_where_the_cpu_computes_in_it(self, gated):
        bundle = gated(bf16={"openvino-cpu-bf16": True})
        native = has_native_bf16()
        expected = "openvino-cpu-bf16" if native else "openvino-cpu-fp32"
        assert taken(bundle, device="cpu") == expected

    def test_a_gate_that_did_not_pass_on_this_runtime(self, gated):
        bundle = gated(int8={"openvino-cpu-int8": False, "onnxruntime-cpu-int8": True})
        assert taken(bundle, device="cpu") == "openvino-cpu-fp32"
        assert "did not pass" in reason(bundle, "openvino-cpu-int8", device="cpu")
        with pytest.raises(RuntimeUnavailable, match="did not pass on openvino-cpu-int8"):
            choose(bundle, runtime="openvino", device="cpu", precision="int8")

    def test_a_gate_that_never_ran_on_this_runtime(self, gated):
        bundle = gated(int8={"onnxruntime-cpu-int8": True})
        assert taken(bundle, device="cpu") == "openvino-cpu-fp32"
        assert taken(bundle, device="cpu", precision="int8") == "onnxruntime-cpu-int8"
        with pytest.raises(RuntimeUnavailable, match="ctedge export precision"):
            choose(bundle, runtime="openvino", device="cpu", precision="int8")

    def test_golden_cases_that_are_answered_otherwise(self, tmp_path):
        bundle = write_tiny(tmp_path / "tiny.ctedge")
        document = read_document(bundle.path)
        document["golden"][0]["outputs"]["logit"] += 0.5
        seal(bundle.path, document)
        bundle = ModelBundle.load(bundle.path)
        assert taken(bundle, device="cpu") == "onnxruntime-cpu-fp32"
        assert "failed: the golden case" in reason(bundle, "openvino-cpu-fp32", device="cpu")
        with pytest.raises(RuntimeUnavailable, match="answered otherwise"):
            choose(bundle, runtime="openvino", precision="fp32", device="cpu")

    def test_doors_take_and_say_it(self, gated, chest):
        bundle = gated(int8={"openvino-cpu-int8": True, "onnxruntime-cpu-int8": True})
        with Classifier.load(bundle.path, device="cpu") as classifier:
            assert classifier.predict(chest).runtime == "openvino-cpu-int8"
        with Classifier.load(bundle.path, device="cpu", precision="fp32") as classifier:
            assert classifier.runtime == "openvino-cpu-fp32"


class TestWithoutOpenVino:
    def test_absent(self, plain, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)
        bundle = ModelBundle.load(plain)
        assert taken(bundle, device="cpu") == "onnxruntime-cpu-fp32"
        assert "not installed" in reason(bundle, "openvino-cpu-fp32", device="cpu")
        with pytest.raises(RuntimeUnavailable, match=r'pip install "ctedge\[openvino\]"'):
            choose(bundle, runtime="openvino")

    @pytest.mark.parametrize(
        "content",
        ["raise OSError('libopenvino.so: no such file')", ""],
        ids=["library", "empty"],
    )
    def test_damaged(self, plain, tmp_path, content):
        """In a process of its own: a package of that name, found first, that does not load."""
        (tmp_path / "openvino").mkdir()
        (tmp_path / "openvino" / "__init__.py").write_text(content)
        code = (
            "import sys\n"
            "from ctedge.bundle.model_bundle import ModelBundle\n"
            "from ctedge.runtimes.choice import choose\n"
            "choice = choose(ModelBundle.load(sys.argv[1]), device='cpu')\n"
            "print(choice.runtime.name, *choice.verdicts, sep='\\n')\n"
        )
        answer = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, plain],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.startswith("onnxruntime-cpu-fp32\n")
        assert "openvino-cpu-fp32: refused: OpenVINO is installed in part" in answer.stdout


def test_a_refusal_of_the_only_candidate_keeps_its_kind(plain, monkeypatch):
    def refuse(*_):
        raise EngineMismatch("built for another GPU", fix="build it again")

    monkeypatch.setattr(choice_module, "_open_engine", refuse)
    with pytest.raises(EngineMismatch, match="another GPU"):
        choose(ModelBundle.load(plain), runtime="tensorrt")


def test_a_runtime_that_crashes_is_closed_and_kept_as_failed(plain, monkeypatch):
    closed = []

    class Crashing:
        name = "tensorrt-cuda-fp16"
        maps = ()

        def run(self, batch, *, outputs=None):
            raise MemoryError("of the GPU")

        def close(self):
            closed.append(True)

    bundle = ModelBundle.load(plain)
    monkeypatch.setattr(choice_module, "find_device", lambda: "a GPU")
    monkeypatch.setattr(choice_module, "_open_engine", lambda *_: Crashing())
    assert taken(bundle).endswith("-cpu-fp32")
    assert "tensorrt-cuda: failed: tensorrt-cuda failed" in reason(bundle, "tensorrt-cuda")
    assert closed


def test_doctor_says_what_runs_a_model_and_why(plain, monkeypatch):
    monkeypatch.setattr(diagnosis, "shipped_bundles", lambda: (str(plain),))
    findings = diagnosis.examine()
    assert {"openvino", "tensorrt", "tensorrt-rtx"} <= {one.subject for one in findings}
    rows = [one for one in findings if one.subject == f"model {plain}"]
    assert rows[0].detail.startswith("digests hold; ")
    assert any("onnxruntime-cpu-fp32: " in row.detail for row in rows[1:])
    assert any(": chosen: 1 golden case answered" in row.detail for row in rows[1:])
    assert not [one for one in findings if one.state == "broken"]


def test_a_survey_looks_at_all_and_takes_one(plain):
    verdicts = survey(ModelBundle.load(plain))
    states = {verdict.candidate: verdict.state for verdict in verdicts}
    assert list(states.values()).count("taken") == 1
    assert states["onnxruntime-cpu-fp32"] in ("taken", "works")
    assert states["onnxruntime-cpu-int8"] == "refused"
    assert "openvino-gpu-fp32" not in states
    assert all(verdict.reason for verdict in verdicts)
