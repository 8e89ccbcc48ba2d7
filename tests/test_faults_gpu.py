"""A GPU that vanishes or runs out of memory among many scans: typed errors, and close works.

What single driver calls do when they fail is in test_runtimes_tensorrt_faults.py; here is what the
user of a door sees of it.
"""

from __future__ import annotations

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from ctedge import Classifier, DeviceLost, InferenceFailed, RuntimeUnavailable
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.runtimes import choice as choice_module
from ctedge.runtimes.choice import choose
from patience import PATIENCE_S
from tensorrt_stage import Stage, stage_of

#: Of cuda.h: out of memory, devices unavailable (taken by another), illegal address.
OUT_OF_MEMORY, UNAVAILABLE, ILLEGAL_ADDRESS = 2, 46, 700

THREADS = 8

#: As ONNX Runtime words them (github.com/microsoft/onnxruntime/issues/22702 and /5295).
TEXTS = {
    "no memory": "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while"
    " running Conv node. Name:'conv2' Status Message: bfc_arena.cc:376 void* onnxruntime::BFCArena"
    "::AllocateRawInternal(size_t, bool, onnxruntime::Stream*, bool, onnxruntime::"
    "WaitNotificationFn) Failed to allocate memory for requested buffer of size 134217728",
    "lost": "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was"
    " encountered ; GPU=0 ; hostname=ct ; expr=cudaStreamSynchronize(stream_);",
}


stage = stage_of("11")


@pytest.fixture
def scans(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(-1000, 800, (16, 16, 16)).astype(np.int16) for _ in range(6)]


def told(answer: Any) -> Any:
    return replace(answer, timings_ms={})


def until_lost(door: Classifier, scans: list[np.ndarray]) -> tuple[list[Any], DeviceLost]:
    """The answers before the GPU was lost, and what ended the stream."""
    found: list[Any] = []
    answers = door.predict_iter(scans, errors="return")
    with pytest.raises(DeviceLost) as met:
        found.extend(map(told, answers))  # it keeps those before the error
    assert list(answers) == []
    return found, met.value


def closed_quietly(door: Classifier) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        door.close()
        door.close()


class TestOnTensorrt:
    @pytest.mark.parametrize("call", ["cuStreamSynchronize", "cuGraphLaunch"])
    @pytest.mark.parametrize("nth", [0, 3])
    def test_out_of_memory_costs_one_scan(self, stage, scans, call, nth):
        door = Classifier(stage.bundle, stage.open())
        alone = [told(one) for one in door.predict_batch(scans)]
        stage.driver.fail(call, OUT_OF_MEMORY, after=nth)
        found = door.predict_batch(scans, errors="return")
        (failed,) = [n for n, one in enumerate(found) if isinstance(one, InferenceFailed)]
        assert failed >= nth
        assert "CUDA_ERROR_OUT_OF_MEMORY" in str(found[failed])
        assert "free GPU memory" in found[failed].fix
        others = [told(one) for n, one in enumerate(found) if n != failed]
        assert others == [one for n, one in enumerate(alone) if n != failed]
        assert [told(one) for one in door.predict_batch(scans)] == alone
        closed_quietly(door)
        assert stage.driver.left() == {}

    @pytest.mark.parametrize("code", [UNAVAILABLE, ILLEGAL_ADDRESS])
    @pytest.mark.parametrize("call", ["cuStreamSynchronize", "cuGraphLaunch"])
    def test_a_gpu_that_vanishes_leaves_the_answers_before_it(self, stage, scans, call, code):
        door = Classifier(stage.bundle, stage.open())
        alone = [told(one) for one in door.predict_batch(scans)]
        stage.driver.fail(call, code, after=2)
        found, error = until_lost(door, scans)
        assert found == alone[:2]
        assert "CUDA_ERROR_" in str(error)
        assert "load the model again" in error.fix
        for use in (lambda: door.predict(scans[0]), door.warm_up):
            with pytest.raises(DeviceLost, match="lost in an earlier call"):
                use()
        assert until_lost(door, scans)[0] == []
        self.closes_and_can_be_loaded_again(stage, door, scans[0])

    def test_a_gpu_that_vanishes_under_eight_threads(self, stage, scans):
        door = Classifier(stage.bundle, stage.open())
        expected = door.predict(scans[0]).logit
        begun = threading.Barrier(THREADS + 1)

        def until_it_fails(_number: int) -> tuple[set[float], str]:
            answers: set[float] = set()
            begun.wait(PATIENCE_S)
            while True:
                try:
                    answers.add(door.predict(scans[0]).logit)
                except InferenceFailed as error:
                    return answers, error.what

        with ThreadPoolExecutor(THREADS) as pool:
            running = [pool.submit(until_it_fails, number) for number in range(THREADS)]
            begun.wait(PATIENCE_S)
            stage.driver.fail("cuStreamSynchronize", ILLEGAL_ADDRESS, after=5)
            found = [one.result(PATIENCE_S) for one in running]
        said = {what for _, what in found}
        assert said <= {"the GPU failed", "the GPU was lost in an earlier call"}
        assert set().union(*(answers for answers, _ in found)) <= {expected}
        self.closes_and_can_be_loaded_again(stage, door, scans[0])

    def test_a_lost_gpu_leaves_nothing_of_tensorrt_behind(self, stage, scans):
        """Freed after the GPU's context was given up, the real TensorRT may crash."""
        door = Classifier(stage.bundle, stage.open())
        stage.driver.fail("cuStreamSynchronize", ILLEGAL_ADDRESS)
        with pytest.raises(DeviceLost):
            door.predict(scans[0])
        closed_quietly(door)
        assert "tensorrt" not in stage.driver.left()

    def test_a_run_that_tensorrt_refuses_costs_one_scan(self, stage, scans):
        first = Classifier(stage.bundle, stage.open())
        alone = [told(one) for one in first.predict_batch(scans[:2])]
        door = Classifier(stage.bundle, stage.open())  # a graph would be launched without asking it
        stage.network.refuses = 1
        refused, answered = door.predict_batch(scans[:2], errors="return")
        assert type(refused) is InferenceFailed
        assert told(answered) == alone[1]
        for one in (first, door):
            closed_quietly(one)
        assert stage.driver.left() == {}

    @staticmethod
    def closes_and_can_be_loaded_again(stage: Stage, door: Classifier, scan: np.ndarray) -> None:
        """A lost GPU takes nothing back piece by piece: its context is given up as a whole."""
        stage.driver.calls.clear()
        closed_quietly(door)
        assert stage.driver.calls["cuDevicePrimaryCtxRelease_v2"] == 1
        stage.driver.lost, stage.driver.retained = None, 0
        for table in stage.driver.tables.values():
            table.clear()
        with Classifier(stage.bundle, stage.open()) as again:
            assert again.predict(scan).probability > 0
        assert stage.driver.left() == {}


class TestOnOnnxRuntime:
    @pytest.fixture
    def bundle(self, tmp_path) -> ModelBundle:
        return write_tiny(tmp_path / "tiny.ctedge")

    @pytest.fixture
    def gpu(self, monkeypatch) -> Any:
        """ONNX Runtime's CUDA provider, played on the CPU; `fails[n]` is what the n-th run says."""
        import onnxruntime
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

        class Played(onnxruntime.InferenceSession):
            fails: ClassVar[dict[int, str]] = {}
            runs = 0
            lost = unopened = None

            def __init__(self, model, options, providers, enable_fallback):
                assert not enable_fallback
                self.provider = providers[0][0]
                if self.provider.startswith("CUDA") and Played.unopened:
                    raise RuntimeException(TEXTS[Played.unopened])
                super().__init__(model, options, providers=["CPUExecutionProvider"])

            def get_providers(self):
                return [self.provider, "CPUExecutionProvider"]

            def run_with_iobinding(self, *args):
                said = Played.lost or Played.fails.pop(Played.runs, None)
                Played.runs += 1
                if said:
                    Played.lost = said if said == "lost" else None
                    raise {"lost": Fail, "no memory": RuntimeException}[said](TEXTS[said])
                return super().run_with_iobinding(*args)

        monkeypatch.setattr(onnxruntime, "InferenceSession", Played)
        monkeypatch.setattr(
            onnxruntime,
            "get_available_providers",
            lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
        )
        monkeypatch.setattr(choice_module, "find_device", lambda: "a GPU")
        return Played

    def open(self, bundle: ModelBundle, gpu: Any) -> Classifier:
        door = Classifier.load(bundle.path, device="cuda", runtime="onnxruntime", precision="fp32")
        assert door.runtime == "onnxruntime-cuda-fp32"
        gpu.runs = 0
        return door

    def test_out_of_memory_costs_one_scan(self, bundle, gpu, scans):
        door = self.open(bundle, gpu)
        alone = [told(one) for one in door.predict_batch(scans)]
        gpu.runs, gpu.fails = 0, {2: "no memory"}
        found = door.predict_batch(scans, errors="return")
        error = found[2]
        assert isinstance(error, InferenceFailed)
        assert "Failed to allocate memory" in str(error.found)
        assert "free memory" in error.fix
        assert [told(one) for n, one in enumerate(found) if n != 2] == alone[:2] + alone[3:]
        closed_quietly(door)

    def test_a_gpu_that_vanishes_leaves_the_answers_before_it(self, bundle, gpu, scans):
        door = self.open(bundle, gpu)
        alone = [told(one) for one in door.predict_batch(scans[:2])]
        gpu.runs, gpu.fails = 0, {2: "lost"}
        found, error = until_lost(door, scans)
        assert found == alone
        assert "CUDA failure 700" in str(error.found)
        with ThreadPoolExecutor(THREADS) as pool:
            later = [pool.submit(door.predict, scan) for scan in scans]
            assert {type(one.exception()) for one in later} == {DeviceLost}
        closed_quietly(door)
        with pytest.raises(InferenceFailed, match="was closed"):
            door.predict(scans[0])

    @pytest.mark.parametrize("when", ["opening", "golden case"])
    def test_a_full_gpu_at_load_is_said_and_nothing_named_is_exchanged(self, bundle, gpu, when):
        if when == "opening":
            gpu.unopened = "no memory"
        else:
            gpu.fails = {0: "no memory"}
        named: Any = {"device": "cuda", "runtime": "onnxruntime", "precision": "fp32"}
        with pytest.raises(RuntimeUnavailable) as met:
            choose(bundle, **named)
        assert "Failed to allocate memory" in str(met.value.found)
        gpu.runs = 0
        if when == "golden case":
            gpu.fails = {0: "no memory"}
        choice = choose(bundle)
        choice.runtime.close()
        assert choice.runtime.name.endswith("-cpu-fp32")
        (verdict,) = [one for one in choice.verdicts if one.candidate == "onnxruntime-cuda-fp32"]
        assert "Failed to allocate memory" in verdict.reason
