"""The TensorRT runtime over a played driver and TensorRT: answers, copies, graphs, threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.errors import InferenceFailed
from ctedge.runtimes.tensorrt_lane import Lane
from patience import PATIENCE_S
from tensorrt_fake import SURFACES
from tensorrt_stage import SHAPE, Stage, expected, set_stage, stage_of, volumes

stage = stage_of(*SURFACES)


def same(found: dict[str, np.ndarray], batch: np.ndarray) -> bool:
    wanted = expected(batch)
    return all(
        found[name].dtype == np.float32 and np.array_equal(found[name], wanted[name])
        for name in wanted
    )


def test_it_answers_as_the_network_does_and_says_what_ran(stage: Stage) -> None:
    runtime = stage.open()
    batch = volumes(1)
    assert runtime.name == f"{stage.record.runtime}-cuda-fp16"
    assert same(runtime.run(batch), batch)
    assert list(runtime.run(batch, outputs=["probability"])) == ["probability"]


def test_answers_are_the_callers_own(stage: Stage) -> None:
    runtime = stage.open()
    first, second = volumes(1), volumes(1, seed=2)
    kept = runtime.run(first)
    for _ in range(3):
        runtime.run(second)
    runtime.close()
    assert same(kept, first)


def test_batches_beyond_the_engines_largest_go_in_parts(stage: Stage) -> None:
    runtime = stage.open()
    batch = volumes(2 * stage.record.max_batch + 1)
    assert same(runtime.run(batch), batch)


def test_any_float_array_is_taken(stage: Stage) -> None:
    runtime = stage.open()
    batch = volumes(2)
    turned = np.asfortranarray(batch)[::-1]
    assert same(runtime.run(turned), batch[::-1])


@pytest.mark.parametrize("shape", [(0, *SHAPE), SHAPE, (1, *SHAPE[:-1]), (1, *SHAPE[:-1], 8)])
def test_what_does_not_fit_is_refused(stage: Stage, shape: tuple[int, ...]) -> None:
    with pytest.raises(InferenceFailed, match="does not fit"):
        stage.open().run(np.zeros(shape, np.float32))


def test_an_output_that_is_not_there_is_refused(stage: Stage) -> None:
    with pytest.raises(InferenceFailed, match="no such output"):
        stage.open().run(volumes(1), outputs=["score"])


def test_half_precision_tensors_halve_the_upload(stage: Stage) -> None:
    stage.network.dtypes = {"volume": "HALF", "logit": "HALF"}
    runtime = stage.open()
    batch = volumes(1)
    found = runtime.run(batch)
    wanted = expected(batch.astype(np.float16).astype(np.float32))
    assert np.array_equal(found["logit"], wanted["logit"].astype(np.float16).astype(np.float32))
    assert found["logit"].dtype == np.float32
    sizes = {len(block) for block in stage.driver.tables["pinned"].values()}
    assert max(sizes) == stage.record.max_batch * int(np.prod(SHAPE)) * 2
    # What half precision does not hold becomes infinite, and no warning.
    assert not np.isfinite(runtime.run(np.full((1, *SHAPE), 1e6, np.float32))["logit"]).all()


def test_a_shape_that_comes_again_is_launched_as_a_graph(stage: Stage) -> None:
    runtime, calls = stage.open(), stage.driver.calls
    for index in range(4):
        batch = volumes(1, seed=index)
        assert same(runtime.run(batch), batch)
        assert calls["cuGraphLaunch"] == index
    assert calls["cuStreamBeginCapture_v2"] == 1
    assert runtime.uncaptured is None


def test_another_shape_ends_the_graph(stage: Stage) -> None:
    runtime, calls = stage.open(), stage.driver.calls
    for index, count in enumerate([1, 1, 2, 1, 1, 2, 2]):
        batch = volumes(count, seed=index)
        assert same(runtime.run(batch), batch)
    assert calls["cuGraphLaunch"] == 3  # each second of a pair
    # A batch in unequal parts captures nothing: no shape comes twice in a row.
    captured = calls["cuStreamBeginCapture_v2"]
    for _ in range(3):
        runtime.run(volumes(stage.record.max_batch + 1))
    assert calls["cuStreamBeginCapture_v2"] == captured


@pytest.mark.parametrize("reason", ["engine", "driver"])
def test_what_cannot_be_captured_runs_without_and_says_so(stage: Stage, reason: str) -> None:
    stage.network.uncapturable = reason == "engine"
    runtime = stage.open()
    if reason == "driver":
        stage.driver.fail("cuStreamBeginCapture_v2", 801)
    batch = volumes(1)
    for _ in range(4):
        assert same(runtime.run(batch), batch)
    assert stage.driver.calls["cuStreamBeginCapture_v2"] == 1
    assert stage.driver.calls["cuGraphLaunch"] == 0
    assert "CUDA_ERROR_" in str(runtime.uncaptured)


def test_sixteen_threads_get_the_answers_of_one(stage: Stage) -> None:
    runtime = stage.open()
    batches = [volumes(1 + index % 2, seed=index) for index in range(48)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(runtime.run, batches))
    assert all(map(same, found, batches))


def test_two_batches_are_at_work_at_once_where_contexts_share_a_profile(stage: Stage) -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def meet(batch: np.ndarray) -> dict[str, np.ndarray]:
        both.wait()
        return expected(batch)

    stage.network.answer = meet
    runtime = stage.open()
    batches = [volumes(1, seed=seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(runtime.run, batches))
    assert all(map(same, found, batches))
    assert len(stage.driver.tables["streams"]) == 2


@pytest.mark.parametrize("limit", ["profile", "context", "memory", "address"])
def test_where_no_second_context_can_be_had_threads_take_turns(stage: Stage, limit: str) -> None:
    stage.network.shares_profile = limit != "profile"
    stage.network.max_contexts = 1 if limit == "context" else 99
    runtime = stage.open()
    if limit == "memory":
        stage.driver.fail("cuMemAlloc_v2", 2)
    if limit == "address":
        stage.network.max_batch = 3  # no longer what its record says: the next context refuses
    batches = [volumes(1, seed=index) for index in range(12)]
    running = threading.Barrier(4, timeout=PATIENCE_S)

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        running.wait()
        return runtime.run(batch)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, batches))
    assert all(map(same, found, batches))
    assert len(stage.driver.tables["streams"]) <= 2


def test_the_map_is_given_only_where_it_is_named(stage: Stage) -> None:
    def with_map(batch: np.ndarray) -> dict[str, np.ndarray]:
        cam = np.stack([one[0, :2, :3, :4] for one in batch])[:, None]
        return {**expected(batch), "cam": cam}

    stage.network.outputs = {**stage.network.outputs, "cam": (1, 2, 3, 4)}
    stage.network.answer = with_map
    runtime = stage.open(outputs=("logit", "probability", "cam"))
    batch = volumes(stage.record.max_batch + 1)
    assert runtime.maps == ("cam",)
    assert set(runtime.run(batch)) == {"logit", "probability"}
    assert np.array_equal(runtime.run(batch, outputs=["cam"])["cam"], with_map(batch)["cam"])


def test_a_run_alone_can_be_launched_as_a_graph(stage: Stage) -> None:
    runtime = stage.open()
    batch = volumes(1)
    runtime.run(batch)

    def launched(lane: Lane) -> None:
        with ExitStack() as kept:
            launch = lane.replayed(kept)
            for _ in range(3):
                launch()
            lane.wait()

    runtime.on_lane(launched)
    assert same(runtime.run(batch), batch)  # and what captures runs with their copies, still does


def test_the_inspector_is_asked(stage: Stage) -> None:
    runtime = stage.open()
    assert runtime.information() == '{"Layers": ["JSON"]}'


def test_kernels_of_rtx_are_compiled_before_the_first_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage = set_stage(monkeypatch, tmp_path, "rtx-1.7")
    runtime = stage.open()
    strategy = runtime.on_lane(
        lambda lane: lane._context._how.dynamic_shapes_kernel_specialization_strategy
    )
    assert strategy == stage.trt.DynamicShapesKernelSpecializationStrategy.EAGER
    stage.clear()


def test_a_version_compatible_engine_may_bring_its_runtime(stage: Stage) -> None:
    plain = stage.open()
    brought = stage.open(builder={"version_compatible": True})
    assert not plain._deserialiser.engine_host_code_allowed
    assert brought._deserialiser.engine_host_code_allowed


def test_several_engines_live_beside_each_other(stage: Stage) -> None:
    first, second = stage.open(), stage.open(precision="fp32")
    batch = volumes(1)
    assert same(first.run(batch), batch)
    first.close()
    assert same(second.run(batch), batch)
    assert second.name.endswith("-fp32")
    assert replace(stage.record, precision="fp32") == second._record
