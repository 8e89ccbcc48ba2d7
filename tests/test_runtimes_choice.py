"""Which runtime and precision run a bundle: the fastest whose gate passed, and why not another."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

import ctedge.runtimes.choice as choice_module
from bundle_factory import read_document, seal, write_tiny
from ctedge import Classifier, RuntimeUnavailable, diagnosis
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import EngineMismatch
from ctedge.runtimes import cpu_flags
from ctedge.runtimes.choice import choose, survey
from ctedge.runtimes.cpu_flags import has_native_bf16
from ctedge_export.precision import half
from gated_bundle import gated_copy, write_small
from patience import PATIENCE_S

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_small(tmp_path_factory.mktemp("choice") / "small.ctedge").path


@pytest.fixture(scope="module")
def files(plain) -> dict[str, bytes]:
    """Files under the names of other precisions; for the choice that of INT8 may hold floats."""
    model = ModelBundle.load(plain).model
    return {"int8": model, "bf16": half.halve(onnx.load_from_string(model), "bf16")}


@pytest.fixture
def gated(plain, files, tmp_path):
    """Makes a bundle whose manifest says on which runtimes the gates of a precision passed."""

    def make(**precisions: Mapping[str, bool]) -> ModelBundle:
        return gated_copy(plain, tmp_path / "small.ctedge", files, precisions)

    return make


@pytest.fixture
def cpu(monkeypatch, tmp_path):
    """Plays a CPU with these flags: what it may run, not what it can."""

    def make(*flags: str) -> None:
        (tmp_path / "cpuinfo").write_text(f"model name\t: played\nflags\t\t: {' '.join(flags)}\n")
        monkeypatch.setattr(cpu_flags, "CPUINFO", tmp_path / "cpuinfo")

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

    def test_int8_first_where_its_gate_passed(self, gated, cpu):
        cpu("avx2", "avx512_vnni", "avx512_bf16")
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

    def test_a_gate_that_did_not_pass_on_this_runtime(self, gated, cpu):
        cpu("avx2", "avx_vnni")
        bundle = gated(int8={"openvino-cpu-int8": False, "onnxruntime-cpu-int8": True})
        assert taken(bundle, device="cpu") == "openvino-cpu-fp32"
        assert "did not pass" in reason(bundle, "openvino-cpu-int8", device="cpu")
        with pytest.raises(RuntimeUnavailable, match="did not pass on openvino-cpu-int8") as met:
            choose(bundle, runtime="openvino", device="cpu", precision="int8")
        assert "ctedge export" not in str(met.value.fix)  # it would not pass the next time either

    def test_a_gate_that_never_ran_on_this_runtime(self, gated, cpu):
        cpu("avx2", "avx_vnni")
        bundle = gated(int8={"onnxruntime-cpu-int8": True})
        assert taken(bundle, device="cpu") == "openvino-cpu-fp32"
        assert taken(bundle, device="cpu", precision="int8") == "onnxruntime-cpu-int8"
        with pytest.raises(RuntimeUnavailable, match="ctedge export precision"):
            choose(bundle, runtime="openvino", device="cpu", precision="int8")

    @pytest.mark.parametrize("where", ["passed", "never ran"])
    def test_int8_is_refused_where_it_saturates(self, gated, cpu, where):
        passed = {"openvino-cpu-int8": True} if where == "passed" else {}
        bundle = gated(int8={"onnxruntime-cpu-int8": True, **passed})
        cpu("avx2", "avx512f")
        assert taken(bundle, device="cpu") == "openvino-cpu-fp32"
        told = reason(bundle, "openvino-cpu-int8", device="cpu")
        assert told.startswith("openvino-cpu-int8: refused: OpenVINO's int8 saturates on this CPU")
        assert "avx2 and avx512f" in told
        # ONNX Runtime is told to add exactly there.
        assert taken(bundle, device="cpu", precision="int8") == "onnxruntime-cpu-int8"
        with pytest.raises(RuntimeUnavailable, match="avx512_vnni") as met:
            choose(bundle, runtime="openvino", precision="int8", device="cpu")
        assert "ctedge export" not in str(met.value.fix)

    def test_golden_cases_that_are_answered_otherwise(self, tmp_path):
        bundle = write_tiny(tmp_path / "tiny.ctedge")
        document = read_document(bundle.path)
        document["golden"][0]["outputs"]["logit"] += 0.5
        seal(bundle.path, document)
        bundle = ModelBundle.load(bundle.path)
        # Alone it goes without; after another one failed, it is asked, too.
        assert taken(bundle, runtime="onnxruntime", device="cpu") == "onnxruntime-cpu-fp32"
        failed = (
            "onnxruntime-cpu-fp32: failed: the golden case 'noise' of tiny is answered otherwise"
        )
        with pytest.raises(RuntimeUnavailable, match=failed):
            choose(bundle, device="cpu")
        with pytest.raises(RuntimeUnavailable, match="answered otherwise"):
            choose(bundle, runtime="openvino", precision="fp32", device="cpu")

    def test_doors_take_and_say_it(self, gated, chest, cpu):
        cpu("avx2", "avx_vnni")
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
        answer = self.with_package(tmp_path, plain, "openvino", content)
        assert answer.startswith("onnxruntime-cpu-fp32\n")
        assert "openvino-cpu-fp32: refused: OpenVINO is installed in part" in answer

    @pytest.mark.parametrize("package", ["openvino", "onnxruntime"])
    @pytest.mark.parametrize(
        "said",
        [
            "ImportError('native.so: failed to map segment from shared object')",
            "RuntimeError('pthread_create failed')",
            "MemoryError()",
        ],
    )
    def test_too_little_memory_is_no_damage(self, plain, tmp_path, package, said):
        content = f"raise {said}"
        answer = self.with_package(tmp_path, plain, package, content, runtime=package)
        assert "cannot be loaded: too little memory, or too few threads" in answer
        assert "installed" not in answer

    @staticmethod
    def with_package(folder, bundle, package, content, *, runtime=""):
        """In a process of its own: a package of that name, found first, that does not load."""
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(content)
        code = (
            "import sys\n"
            "from ctedge.bundle.model_bundle import ModelBundle\n"
            "from ctedge.errors import RuntimeUnavailable\n"
            "from ctedge.runtimes.choice import choose\n"
            "try:\n"
            "    choice = choose(\n"
            "        ModelBundle.load(sys.argv[1]), device='cpu', runtime=sys.argv[2] or None\n"
            "    )\n"
            "    print(choice.runtime.name, *choice.verdicts, sep='\\n')\n"
            "except RuntimeUnavailable as error:\n"
            "    print(error)\n"
        )
        answer = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, bundle, runtime],
            env={**os.environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
        return answer.stdout


def test_a_refusal_of_the_only_candidate_keeps_its_kind(plain, monkeypatch):
    def refuse(*_):
        raise EngineMismatch("built for another GPU", fix="build it again")

    monkeypatch.setattr(choice_module, "find_device", lambda: "a GPU")
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
    rows = [one for one in findings if one.subject == "model small"]
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
