"""What TensorRT refuses, and faults of the GPU that pass: said, and the next run is whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.errors import InferenceFailed, InvalidBundle
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from tensorrt_stage import Stage, expected, stage_of, volumes

stage = stage_of("11")


def answers(runtime: TensorrtEngine) -> bool:
    batch = volumes(1)
    return np.array_equal(runtime.run(batch)["logit"], expected(batch)["logit"])


@pytest.mark.parametrize(
    ("call", "code"), [("cuMemcpyHtoDAsync_v2", 701), ("cuStreamSynchronize", 801)]
)
def test_a_fault_that_passes_says_so_and_the_next_is_whole(
    stage: Stage, call: str, code: int
) -> None:
    runtime = stage.open()
    stage.driver.fail(call, code)
    with pytest.raises(InferenceFailed, match="the GPU failed") as met:
        runtime.run(volumes(1))
    assert str(met.value.found).startswith("CUDA_ERROR_")
    assert met.value.fix == "free GPU memory, or ask for the device cpu"
    assert answers(runtime)


def test_outputs_of_no_known_shape_fail_and_the_next_is_whole(stage: Stage) -> None:
    runtime = stage.open()
    assert answers(runtime)
    stage.network.hides_shapes = True
    with pytest.raises(InferenceFailed, match="refuses to name the shapes of its outputs"):
        runtime.run(volumes(2))
    stage.network.hides_shapes = False
    assert answers(runtime)


@pytest.mark.parametrize("how", ["address", "shapes"])
def test_what_tensorrt_refuses_of_a_first_context_is_no_engine(stage: Stage, how: str) -> None:
    stage.network.refuses_address = "volume" if how == "address" else None
    stage.network.hides_shapes = how == "shapes"
    with pytest.raises(InvalidBundle, match="TensorRT does not open the engine") as met:
        stage.open()
    said = "the address of volume" if how == "address" else "to name the shapes"
    assert f"TensorRT refuses {said}" in str(met.value.found)
    assert stage.driver.left() == {}


def test_a_second_context_that_is_refused_is_done_without(stage: Stage) -> None:
    runtime = stage.open()
    stage.network.refuses_address = "logit"
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(runtime.run, [volumes(1)] * 8))
    assert all(np.array_equal(one["logit"], found[0]["logit"]) for one in found)


def test_an_engine_that_never_opened_answers_nothing_and_closes() -> None:
    never = TensorrtEngine.__new__(TensorrtEngine)  # what is left where opening it raises
    assert never.uncaptured is None
    with pytest.raises(InferenceFailed, match="was closed"):
        never.information()
    never.close()
