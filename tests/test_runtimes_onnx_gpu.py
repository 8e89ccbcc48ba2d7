"""ONNX Runtime on CUDA, played on the CPU: no fall-back, bound tensors, what errors mean.

The Python class is ONNX Runtime's own; only what its native session says of the GPU is played.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnxruntime
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, RuntimeException

from bundle_factory import tiny_model
from ctedge.errors import DeviceLost, InferenceFailed, RuntimeUnavailable
from ctedge.runtimes.onnx_runtime import OnnxRuntime

SHAPE = (1, 8, 8, 8)
THREADS = 8

#: As ONNX Runtime words them (github.com/microsoft/onnxruntime/issues/22702 and /5295).
NO_MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : bfc_arena.cc:376 Failed to allocate memory for"
    " requested buffer of size 134217728"
)
FAILURE = "[ONNXRuntimeError] : 1 : FAIL : CUDA failure {}: said the driver ; GPU=0 ; hostname=ct"
CUDNN = "[ONNXRuntimeError] : 1 : FAIL : CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0"


class Native:
    """The C++ session behind the Python class; while it is on the GPU, a run fails as told."""

    def __init__(self, real: Any) -> None:
        self.real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def run(self, *_: Any) -> Any:
        raise AssertionError("what is not bound takes a way of its own through host memory")

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        if Played.fails is not None:
            raise Played.fails
        self.real.run_with_iobinding(binding, options)


class Played(onnxruntime.InferenceSession):
    """A session on CUDA; from the first `at_most` on, the GPU can take no other."""

    fails: ClassVar[Exception | None] = None
    at_most: ClassVar[int] = 99
    opened: ClassVar[list[dict[str, Any]]] = []

    def __init__(
        self, model: bytes, options: Any, providers: list[tuple[str, Any]], **others: Any
    ) -> None:
        (name, given), *_ = providers
        super().__init__(model, options, providers=["CPUExecutionProvider"], **others)
        Played.opened.append({"options": given, "others": others, "session": options})
        self.provider = name if len(Played.opened) <= Played.at_most else "CPUExecutionProvider"
        if self.provider != "CPUExecutionProvider":
            self._sess = Native(self._sess)

    def get_providers(self) -> list[str]:
        return [self.provider, "CPUExecutionProvider"]

    def set_providers(self, *_: Any) -> None:
        raise AssertionError("it makes itself anew on the CPU")

    def io_binding(self) -> Any:
        played, self._sess = self._sess, self._sess.real  # the native session knows its own kind
        try:
            return Bound(super().io_binding(), played)
        finally:
            self._sess = played


class Bound:
    """A binding that belongs to the played session."""

    def __init__(self, real: Any, session: Any) -> None:
        self.real, self._session = real, session

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Played]]:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Played)
    Played.fails, Played.at_most, Played.opened = None, 99, []
    yield Played
    Played.fails = None


@pytest.fixture(scope="module")
def model() -> bytes:
    """A small network that draws a map too."""
    graph = tiny_model()
    graph.graph.node.append(helper.make_node("Relu", ["volume"], ["cam"], "cam"))
    shape = ["batch", *SHAPE]
    graph.graph.output.append(helper.make_tensor_value_info("cam", TensorProto.FLOAT, shape))
    return graph.SerializeToString()


@pytest.fixture
def runtime(model: bytes, gpu: Any) -> Iterator[OnnxRuntime]:
    opened = OnnxRuntime(model, name="small", device="cuda")
    assert opened.name == "onnxruntime-cuda-fp32"
    yield opened
    opened.close()


@pytest.fixture
def batch(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, 1, (2, *SHAPE)).astype(np.float32)


def on_the_cpu(model: bytes, batch: np.ndarray, **named: Any) -> dict[str, np.ndarray]:
    return OnnxRuntime(model, name="small").run(batch, **named)


class TestNoFallBack:
    @pytest.mark.parametrize("error", [EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : CUDA error")])
    def test_a_gpu_that_fails_while_it_runs_is_not_exchanged(self, runtime, batch, error, capsys):
        Played.fails = error
        with pytest.raises(InferenceFailed, match="ONNX Runtime failed") as met:
            runtime.run(batch)
        assert "nvidia-smi" in str(met.value.fix)
        assert "memory" not in str(met.value.fix)
        assert capsys.readouterr().out == ""
        Played.fails = None
        runtime.run(batch)

    def test_a_session_that_does_not_open_is_not_exchanged(self, gpu, capsys):
        graph = tiny_model()
        graph.graph.node[0].op_type = "NoSuchOperator"
        with pytest.raises(RuntimeUnavailable, match="cannot load broken"):
            OnnxRuntime(graph.SerializeToString(), name="broken", device="cuda")
        assert capsys.readouterr().out == ""
        assert Played.opened == []

    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_it_is_switched_off_wherever_a_session_is_opened(self, model, batch, device):
        opened = OnnxRuntime(model, name="small", device=device)
        opened.run(batch, outputs=["cam"])
        assert [one["others"] for one in Played.opened] == [{"enable_fallback": 0}] * 2

    @pytest.mark.parametrize("at_most", [0, 1])
    def test_each_session_is_looked_at_that_of_maps_too(self, model, batch, at_most):
        Played.at_most = at_most
        with pytest.raises(RuntimeUnavailable, match="fell back from the device 'cuda'") as met:
            OnnxRuntime(model, name="small", device="cuda").run(batch, outputs=["logit", "cam"])
        assert met.value.expected == "CUDAExecutionProvider"
        assert len(Played.opened) == at_most + 1


class TestBinding:
    def test_bound_answers_are_those_of_a_run(self, model, runtime, batch):
        for shown in (batch[:1], batch, batch[::2], np.asfortranarray(batch)):
            expected, found = on_the_cpu(model, shown), runtime.run(shown)
            assert list(found) == list(expected) == ["logit", "probability"]
            for name, values in expected.items():
                assert found[name].dtype == np.float32
                np.testing.assert_array_equal(found[name], values)

    def test_only_what_is_named_comes_back_in_its_order(self, model, runtime, batch):
        names = ["cam", "probability"]
        found = runtime.run(batch, outputs=names)
        assert list(found) == names
        for name, values in on_the_cpu(model, batch, outputs=names).items():
            np.testing.assert_array_equal(found[name], values)

    def test_no_later_call_writes_over_an_answer_or_an_input(self, runtime, batch):
        before = batch.copy()
        first = runtime.run(batch)
        kept = {name: values.copy() for name, values in first.items()}
        batch *= -1
        second = runtime.run(batch)
        assert not np.array_equal(first["logit"], second["logit"])
        for name, values in kept.items():
            np.testing.assert_array_equal(first[name], values)
        np.testing.assert_array_equal(runtime.run(before)["logit"], kept["logit"])

    def test_threads_share_nothing(self, runtime, rng):
        batches = [rng.normal(0, 1, (1, *SHAPE)).astype(np.float32) for _ in range(THREADS)]
        alone = [runtime.run(one)["logit"].item() for one in batches]
        with ThreadPoolExecutor(THREADS) as pool:
            together = pool.map(lambda one: runtime.run(one)["logit"].item(), batches * 4)
            assert list(together) == alone * 4

    def test_what_does_not_fit_is_refused(self, runtime, batch):
        with pytest.raises(InferenceFailed, match="the batch does not fit the network"):
            runtime.run(batch[..., :-1])
        with pytest.raises(InferenceFailed, match="the network takes float32"):
            runtime.run(batch.astype(np.float64))

    def test_what_cuda_is_asked_for(self, runtime):
        options = Played.opened[0]["options"]
        assert options["use_tf32"] == "0"
        assert options["cudnn_conv_algo_search"] == "HEURISTIC"
        assert options["arena_extend_strategy"] == "kSameAsRequested"
        assert int(options["gpu_mem_limit"]) == 4 << 30

    def test_the_map_session_is_asked_for_the_same(self, runtime, batch):
        runtime.run(batch, outputs=["cam"])
        first, second = Played.opened
        assert first["options"] == second["options"]


class TestWhatAnErrorMeans:
    @pytest.mark.parametrize("text", [NO_MEMORY, FAILURE.format("2: out of memory")])
    def test_too_little_memory_costs_one_call(self, runtime, batch, text):
        Played.fails = RuntimeException(text)
        with pytest.raises(InferenceFailed) as met:
            runtime.run(batch)
        assert type(met.value) is InferenceFailed
        assert "free memory" in str(met.value.fix)
        Played.fails = None
        assert runtime.run(batch)

    @pytest.mark.parametrize("code", [46, 100, 214, 700, 702, 719, 999])
    def test_a_lost_gpu_is_said_and_nothing_more_is_asked_of_it(self, runtime, batch, code):
        Played.fails = RuntimeException(FAILURE.format(code))
        with pytest.raises(DeviceLost, match="the GPU failed") as met:
            runtime.run(batch)
        Played.fails = None
        for _ in range(2):
            with pytest.raises(DeviceLost, match="lost in an earlier call") as later:
                runtime.run(batch)
            assert f"CUDA failure {code}" in str(later.value.found)
        for error in (met.value, later.value):
            assert "nvidia-smi" in str(error.fix)
            assert "memory" not in str(error.fix)

    def test_another_failure_of_the_gpu_is_not_called_memory(self, runtime, batch):
        Played.fails = RuntimeException(CUDNN)
        with pytest.raises(InferenceFailed) as met:
            runtime.run(batch)
        assert type(met.value) is InferenceFailed
        assert "nvidia-smi" in str(met.value.fix)
