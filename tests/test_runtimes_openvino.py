"""OpenVINO behind the Protocol: the same answers as ONNX Runtime, strictly, from many threads."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

if importlib.util.find_spec("openvino") is None:  # importing it here would send its message
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

from bundle_factory import tiny_model
from ctedge.errors import InferenceFailed, RuntimeUnavailable
from ctedge.runtimes import openvino_runtime
from ctedge.runtimes.cpu_flags import has_native_bf16, why_int8_saturates
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.openvino_package import devices
from ctedge.runtimes.openvino_runtime import OpenVinoRuntime
from ctedge_export.precision import half
from engine_factory import chain
from patience import PATIENCE_S
from precision_factory import SPEC, network, weights

#: float32 sums of a few hundred products, in another order.
ROUNDING = 1e-5

#: A level more or less where a sum lies between two; FP32's answers are 4e-3 away.
INT8_ROUNDING = 1e-3

#: bfloat16 keeps 8 bits; four layers of He-scaled sums keep the relative error near one step.
BF16_ROUNDING = 0.05


@pytest.fixture(scope="module")
def model() -> bytes:
    return network(weights()).SerializeToString()


@pytest.fixture
def runtime(model):
    opened = OpenVinoRuntime(model, name="small")
    yield opened
    opened.close()


@pytest.fixture
def batch(rng):
    return rng.random((3, 1, *SPEC.shape), dtype=np.float32)


def test_the_answers_are_those_of_onnx_runtime(model, runtime, batch):
    reference = OnnxRuntime(model, name="small")
    assert runtime.name == "openvino-cpu-fp32"
    for shown in (batch[:1], batch, batch[::2], np.asfortranarray(batch)):
        expected, found = reference.run(shown), runtime.run(shown)
        assert list(found) == list(expected) == ["logit", "probability"]
        for name, values in expected.items():
            assert found[name].dtype == np.float32
            assert found[name].shape == values.shape
            np.testing.assert_allclose(found[name], values, atol=ROUNDING)


def test_answers_stay_when_the_next_run_ends(runtime, batch):
    first = runtime.run(batch[:1])
    kept = {name: values.copy() for name, values in first.items()}
    second = runtime.run(batch[1:2])
    assert first["logit"] != second["logit"]
    for name, values in kept.items():
        np.testing.assert_array_equal(first[name], values)
        assert first[name].flags.owndata or first[name].base.flags.owndata


def test_the_input_is_left_alone(runtime, batch):
    before = batch.copy()
    logit = runtime.run(batch)["logit"]
    batch[:] = 0
    runtime.run(batch)
    np.testing.assert_array_equal(runtime.run(before)["logit"], logit)


def test_eight_threads_answer_bit_for_bit_as_one(runtime, rng):
    batches = [rng.random((1, 1, *SPEC.shape), dtype=np.float32) for _ in range(8)]
    alone = [runtime.run(batch)["logit"].item() for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: runtime.run(batch)["logit"].item(), batches * 4))
    assert together == alone * 4


def test_outputs_by_name(runtime, batch):
    both = runtime.run(batch)
    one = runtime.run(batch, outputs=["probability"])
    assert list(one) == ["probability"]
    np.testing.assert_array_equal(one["probability"], both["probability"])
    with pytest.raises(InferenceFailed, match="no such output"):
        runtime.run(batch, outputs=["nothing"])


def test_a_map_is_there_only_where_it_is_named(rng):
    graph = tiny_model()
    graph.graph.node.append(helper.make_node("Relu", ["volume"], ["cam"], "cam"))
    graph.graph.node.append(helper.make_node("Neg", ["volume"], ["layer_cam"], "layer_cam"))
    shape = ["batch", 1, 8, 8, 8]
    for name in ("cam", "layer_cam"):
        graph.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.checker.check_model(graph)
    runtime = OpenVinoRuntime(graph.SerializeToString(), name="with a map")
    assert runtime.maps == ("cam", "layer_cam")
    batch = rng.normal(0, 1, (2, 1, 8, 8, 8)).astype(np.float32)
    answers = runtime.run(batch)
    assert list(answers) == ["logit", "probability"]
    with ThreadPoolExecutor(4) as pool:
        all_named = pool.map(lambda _: runtime.run(batch, outputs=["cam", "logit"]), range(4))
    for named in all_named:
        assert list(named) == ["cam", "logit"]
        np.testing.assert_array_equal(named["cam"], np.maximum(batch, 0))
        np.testing.assert_allclose(named["logit"], answers["logit"], atol=ROUNDING)
    assert "layer_cam" not in runtime.run(batch)
    runtime.close()
    with pytest.raises(InferenceFailed, match="closed"):
        runtime.run(batch, outputs=["cam"])


def test_a_network_without_a_map_has_none(runtime, batch):
    assert runtime.maps == ()
    with pytest.raises(InferenceFailed, match="cam"):
        runtime.run(batch, outputs=["cam"])


def test_closed_twice_and_used_afterwards(model, batch):
    runtime = OpenVinoRuntime(model, name="small")
    runtime.run(batch)
    runtime.close()
    runtime.close()
    with pytest.raises(InferenceFailed, match="closed"):
        runtime.run(batch)


def test_bf16_where_the_cpu_computes_in_it(batch):
    halved = half.halve(network(weights()), "bf16")
    if not has_native_bf16():
        with pytest.raises(RuntimeUnavailable, match="does not compute in bfloat16"):
            OpenVinoRuntime(halved, name="half", precision="bf16")
        pytest.skip("this CPU has no bfloat16")
    found = OpenVinoRuntime(halved, name="half", precision="bf16")
    assert found.name == "openvino-cpu-bf16"
    expected = OpenVinoRuntime(network(weights()).SerializeToString(), name="whole").run(batch)
    logit = found.run(batch)["logit"]
    np.testing.assert_allclose(logit, expected["logit"], atol=BF16_ROUNDING)
    assert not np.allclose(logit, expected["logit"], rtol=0, atol=ROUNDING)  # it did round


@pytest.mark.skipif(why_int8_saturates() is not None, reason="int8 saturates on this CPU")
def test_int8_is_computed_as_onnx_runtime_does(batch):
    quantised = chain("int8")
    found = OpenVinoRuntime(quantised, name="int8", precision="int8")
    assert found.name == "openvino-cpu-int8"
    expected = OnnxRuntime(quantised, name="int8", precision="int8")
    assert expected.name == "onnxruntime-cpu-int8"
    answers = [one.run(batch)["logit"] for one in (found, expected)]
    np.testing.assert_allclose(*answers, atol=INT8_ROUNDING)


def test_it_is_freed_where_the_end_of_the_program_waits_for_it(model, batch, monkeypatch):
    """OpenVINO's own objects give up Python's lock while they are freed."""
    held, freed_within = OpenVinoRuntime(model, name="small"), []
    held.run(batch)
    native = weakref.ref(held._answering)

    def given(work):
        before = native() is not None  # not where the collector frees another
        work()
        freed_within.append(before and native() is None)

    monkeypatch.setattr(openvino_runtime, "given_to_runtime", given)
    del held
    gc.collect()
    assert True in freed_within


def test_one_that_was_never_made_is_freed_in_silence(model):
    with pytest.raises(TypeError):
        OpenVinoRuntime(model)


class TestStrictness:
    def test_a_device_that_is_not_there(self, model):
        if any(device.startswith("GPU") for device in devices()):
            pytest.skip("this machine has an Intel GPU")
        with pytest.raises(RuntimeUnavailable, match="does not find the device 'gpu'") as caught:
            OpenVinoRuntime(model, name="small", device="gpu")
        assert str(caught.value.fix).count("an NVIDIA GPU is the device cuda") == 1

    def test_a_precision_it_would_widen(self, model):
        with pytest.raises(RuntimeUnavailable, match="not used in fp16"):
            OpenVinoRuntime(model, name="small", precision="fp16")

    def test_an_operator_that_it_does_not_know(self):
        model = tiny_model()
        model.graph.node[0].op_type = "NoSuchOperator"
        with pytest.raises(RuntimeUnavailable, match="cannot load broken"):
            OpenVinoRuntime(model.SerializeToString(), name="broken")

    def test_not_installed(self, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", None)
        with pytest.raises(RuntimeUnavailable, match=r'pip install "ctedge\[openvino\]"'):
            OpenVinoRuntime(model, name="small")

    def test_installed_in_part(self, model, monkeypatch):
        monkeypatch.setitem(sys.modules, "openvino", types.ModuleType("openvino"))
        with pytest.raises(RuntimeUnavailable, match="in part"):
            OpenVinoRuntime(model, name="small")
        with pytest.raises(RuntimeUnavailable, match="in part"):
            devices()


def test_importing_it_opens_no_socket_and_leaves_no_id(tmp_path):
    """The package's converter sends a message when it is imported, and writes ~/intel."""
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('a socket')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from ctedge.runtimes.openvino_package import devices\n"
        "assert 'CPU' in devices()\n"
        "assert not [name for name in sys.modules if 'telemetry' in name]\n"
        "assert 'openvino.tools.ovc' not in sys.modules\n"
    )
    home = {"HOME": str(tmp_path), "PATH": ""}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    assert list(tmp_path.iterdir()) == []


SEVERAL_AT_ONCE = """
import sys, threading
from ctedge.runtimes.openvino_package import import_openvino
sys.setswitchinterval(1e-6)
all_of_them = threading.Barrier(8)

def first_use():
    openvino = import_openvino()
    all_of_them.wait()
    openvino.Type.f32.to_dtype()

threads = [threading.Thread(target=first_use) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_several_threads_may_be_the_first_to_use_it():
    """They waited for each other in four of five processes, so several are tried."""
    for _ in range(4):
        subprocess.run([sys.executable, "-c", SEVERAL_AT_ONCE], check=True, timeout=PATIENCE_S)
