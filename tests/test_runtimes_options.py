"""Runtimes leave the CPUs to others: as many threads as are allowed, none bound, none spinning."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from ctedge.cpus import usable_cpus
from ctedge.runtimes import openvino_runtime
from ctedge.runtimes.cpu_flags import why_int8_saturates
from ctedge.runtimes.onnx_runtime import OnnxRuntime, session_options
from ctedge.runtimes.openvino_runtime import OpenVinoRuntime, compile_options
from patience import PATIENCE_S

SPINNING = "session.intra_op.allow_spinning"
EXACTLY = "session.x64quantprecision"

#: A process that may use one CPU only, and what either runtime is told there.
ON_ONE_CPU = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
import onnxruntime
from ctedge.runtimes.onnx_runtime import session_options
from ctedge.runtimes.openvino_runtime import compile_options
print(session_options(onnxruntime, "fp32").intra_op_num_threads)
print(compile_options("fp32", "cpu")["INFERENCE_NUM_THREADS"])
"""


@pytest.fixture
def model() -> bytes:
    pytest.importorskip("onnx", exc_type=ImportError)
    from precision_factory import network, weights

    return network(weights()).SerializeToString()


class Watched:
    """A package or a core of which one function is watched: what it was given, and gave back."""

    def __init__(self, of: object, name: str) -> None:
        self._of, self._name = of, name
        self.made: list = []

    def __getattr__(self, name: str):
        found = getattr(self._of, name)
        return self._and_keep(found) if name == self._name else found

    def _and_keep(self, make):
        def made(*args, **named):
            self.made.append(make(*args, **named))
            return self.made[-1]

        return made


class TestOnnxRuntime:
    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_what_a_session_is_opened_with(self, precision):
        ort = pytest.importorskip("onnxruntime")
        options = session_options(ort, precision)
        assert options.intra_op_num_threads == usable_cpus()
        assert options.inter_op_num_threads == 1
        assert options.get_session_config_entry(SPINNING) == "0"
        if precision == "int8" and why_int8_saturates():
            assert options.get_session_config_entry(EXACTLY) == "1"

    def test_sessions_are_opened_with_that(self, model, monkeypatch):
        ort = pytest.importorskip("onnxruntime")
        watched = Watched(ort, "InferenceSession")
        monkeypatch.setattr(
            "ctedge.runtimes.onnx_runtime.import_onnxruntime", lambda _device: watched
        )
        OnnxRuntime(model, name="small").close()
        (session,) = watched.made
        options = session.get_session_options()
        assert options.intra_op_num_threads == usable_cpus()
        assert options.get_session_config_entry(SPINNING) == "0"


class TestOpenVino:
    def test_what_a_network_is_compiled_with(self):
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        threads = {"INFERENCE_NUM_THREADS": usable_cpus(), "ENABLE_CPU_PINNING": False}
        assert compile_options("fp32", "cpu") == {**hints, **threads}
        assert compile_options("fp32", "gpu") == hints

    def test_networks_are_compiled_with_that(self, model, monkeypatch):
        if importlib.util.find_spec("openvino") is None:  # importing it would send a message
            pytest.skip("OpenVINO is not installed")
        watched = Watched(openvino_runtime.openvino_core(), "compile_model")
        monkeypatch.setattr(openvino_runtime, "openvino_core", lambda: watched)
        OpenVinoRuntime(model, name="small").close()
        (compiled,) = watched.made
        assert compiled.get_property("PERFORMANCE_HINT") == "LATENCY"
        assert 1 <= compiled.get_property("INFERENCE_NUM_THREADS") <= usable_cpus()
        assert compiled.get_property("ENABLE_CPU_PINNING") is False


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity to set here")
def test_on_one_cpu_there_is_one_thread():
    pytest.importorskip("onnxruntime")
    one = str(min(os.sched_getaffinity(0)))
    said = subprocess.run(
        [sys.executable, "-c", ON_ONE_CPU, one],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert said.stdout.split() == ["1", "1"]
