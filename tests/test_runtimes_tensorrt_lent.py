"""Inputs that TensorRT's runtime lends: written by preprocessing, uploaded from where they are."""

from __future__ import annotations

import gc
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge import Classifier, InferenceFailed, NotHounsfield
from ctedge.runtimes import Runtime, lend_input
from ctedge.runtimes.opening import Opening
from ctedge.runtimes.pinned_inputs import MOST
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from tensorrt_fake import SURFACES
from tensorrt_stage import SHAPE, Stage, expected, stage_of, volumes

VOXELS = int(np.prod(SHAPE))
THREADS = 8
OUT_OF_MEMORY = 2


every_stage = stage_of(*SURFACES)


stage = stage_of("10.3")


@pytest.fixture
def scans(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(-1000, 800, (16, 16, 16)).astype(np.int16) for _ in range(THREADS)]


class LendsNothing:
    """A runtime as all others are."""

    def __init__(self, runtime: TensorrtEngine) -> None:
        self.name, self.maps = runtime.name, runtime.maps
        self.run, self.close = runtime.run, runtime.close


def told(answer: Any) -> Any:
    return replace(answer, timings_ms={})


def codes(answer: Any) -> set[str]:
    return {flag.code for flag in answer.quality.flags}


def lent(runtime: Runtime, batch: np.ndarray | None = None) -> np.ndarray:
    array = lend_input(runtime)
    assert array is not None
    array[...] = volumes(1) if batch is None else batch
    return array


def sources(stage: Stage) -> set[int]:
    return {source for source, _ in stage.driver.uploads}


@pytest.mark.parametrize(("dtype", "width"), [("FLOAT", 4), ("HALF", 2)])
def test_a_lent_input_is_uploaded_from_where_it_is(
    every_stage: Stage, dtype: str, width: int
) -> None:
    stage = every_stage
    stage.network.dtypes = {"volume": dtype}
    runtime = stage.open()
    for seed in range(4):  # from the second on as a graph
        batch = volumes(1, seed=seed)
        array = lent(runtime, batch)
        stage.driver.uploads.clear()
        found = runtime.run(array)
        assert stage.driver.uploads == [(array.ctypes.data, width * VOXELS)]
        copied = runtime.run(batch)
        assert sources(stage) - {array.ctypes.data}
        assert all(np.array_equal(found[name], copied[name]) for name in copied)
        del array
    assert stage.driver.calls["cuGraphLaunch"] == 7
    assert stage.driver.calls["cuStreamBeginCapture_v2"] == 1
    assert len(stage.driver.tables["locked"]) == 1


@pytest.mark.parametrize("dtype", ["FLOAT", "HALF"])
def test_a_door_prepares_into_it_and_answers_the_same(
    stage: Stage, scans: list[np.ndarray], dtype: str
) -> None:
    stage.network.dtypes = {"volume": dtype}
    plain = Classifier(stage.bundle, LendsNothing(stage.open()))
    wanted = [told(one) for one in plain.predict_batch(scans)]
    assert not stage.driver.tables["locked"]
    stage.driver.uploads.clear()
    door = Classifier(stage.bundle, stage.open())
    found = [told(door.predict(scan)) for scan in scans]
    assert sources(stage) == set(stage.driver.tables["locked"])
    assert len(sources(stage)) == 1
    assert {size for _, size in stage.driver.uploads} == {VOXELS * (4 if dtype == "FLOAT" else 2)}
    assert [one.logit for one in found] == [one.logit for one in wanted]
    assert list(map(codes, found)) == list(map(codes, wanted))
    if dtype == "FLOAT":
        assert found == wanted
        door.warm_up()  # what was not lent
        assert len(sources(stage)) == 2


@pytest.mark.parametrize("ahead", [0, 1, 2 * MOST])
def test_scans_that_wait_each_have_their_own_and_beyond_that_ordinary_memory(
    stage: Stage, scans: list[np.ndarray], ahead: int
) -> None:
    wanted = [told(one) for one in Classifier(stage.bundle, stage.open()).predict_batch(scans)]
    door = Classifier(stage.bundle, stage.open())
    answers = door.predict_iter(scans * 2, ahead=ahead)
    assert [told(one) for one in answers] == wanted * 2
    assert len(stage.driver.tables["locked"]) <= MOST + 3  # three: of the first door's


def test_threads_share_a_door(stage: Stage, scans: list[np.ndarray]) -> None:
    door = Classifier(stage.bundle, stage.open())
    wanted = [told(door.predict(scan)) for scan in scans]
    with ThreadPoolExecutor(THREADS) as pool:
        assert [told(one) for one in pool.map(door.predict, scans * 3)] == wanted * 3
    assert len(stage.driver.tables["locked"]) <= MOST


def test_nobody_is_lent_what_another_holds_and_there_is_an_end(stage: Stage) -> None:
    runtime = stage.open()
    with ThreadPoolExecutor(THREADS) as pool:
        held = list(pool.map(lambda _: lend_input(runtime), range(2 * MOST)))
    arrays = [one for one in held if one is not None]
    assert len({one.ctypes.data for one in arrays}) == len(arrays) == MOST
    del held
    view = arrays.pop()[0, 0, ::2].T  # whatever is left of it keeps it
    assert lend_input(runtime) is None
    gone = arrays.pop().ctypes.data
    assert lent(runtime).ctypes.data == gone
    del view
    assert lend_input(runtime) is not None


def test_it_is_not_given_back_before_the_run_that_reads_it_has_ended(stage: Stage) -> None:
    runtime, met = stage.open(), []

    def meanwhile(batch: np.ndarray) -> dict[str, np.ndarray]:
        other = lent(runtime, np.zeros((1, *SHAPE)))
        met.append((other.ctypes.data, stage.driver.uploads[-1][0]))
        return expected(batch)

    stage.network.answer = meanwhile
    found = runtime.run(lent(runtime))
    assert np.array_equal(found["logit"], expected(volumes(1))["logit"])
    ((other, uploaded),) = met
    assert other != uploaded
    assert {lent(runtime).ctypes.data for _ in range(3)} <= {other, uploaded}


@pytest.mark.parametrize("what", ["part", "turned", "cast", "another's", "ordinary"])
def test_what_is_not_the_whole_of_it_is_copied_as_ever(stage: Stage, what: str) -> None:
    runtime, other = stage.open(), stage.open()
    array = lent(other if what == "another's" else runtime)
    batch = {
        "part": np.broadcast_to(array[:, :, :1], array.shape),
        "turned": array[:, :, ::-1],
        "cast": array.astype(np.float64),
        "ordinary": array.copy(),
    }.get(what, array)
    found = runtime.run(batch)
    assert array.ctypes.data not in sources(stage)
    assert np.array_equal(found["logit"], expected(batch.astype(np.float32))["logit"])


def test_a_map_is_drawn_of_it_as_well(stage: Stage) -> None:
    stage.network.outputs = {**stage.network.outputs, "cam": (1, 2, 3, 4)}
    stage.network.answer = lambda batch: {**expected(batch), "cam": batch[:, :, :2, :3, :4]}
    runtime = stage.open(outputs=("logit", "probability", "cam"))
    array = lent(runtime)
    assert np.array_equal(runtime.run(array, outputs=["cam"])["cam"], array[:, :, :2, :3, :4])
    assert sources(stage) == {array.ctypes.data}


@pytest.mark.parametrize("where", ["preprocessing", "network"])
def test_after_an_error_it_is_lent_again(stage: Stage, scans: list[np.ndarray], where: str) -> None:
    door = Classifier(stage.bundle, stage.open())
    wanted = told(door.predict(scans[0]))
    for _ in range(2 * MOST):
        if where == "network":
            stage.driver.fail("cuStreamSynchronize", OUT_OF_MEMORY)
            with pytest.raises(InferenceFailed, match="the GPU failed"):
                door.predict(scans[1])
        else:
            with pytest.raises(NotHounsfield):
                door.predict(np.zeros((16, 16, 16), np.float32))
        gc.collect()  # to which 3.13.0 leaves an error that went through a context manager
    stage.driver.uploads.clear()
    assert told(door.predict(scans[0])) == wanted
    assert sources(stage) <= set(stage.driver.tables["locked"])
    assert len(stage.driver.tables["locked"]) <= 2  # an error that is still held may hold one


def test_nothing_is_lent_by_a_network_that_is_still_being_opened(stage: Stage) -> None:
    opened: Future[list[Runtime]] = Future()
    opening = Opening(opened, 0)
    assert lend_input(opening) is None
    runtime = stage.open()
    opened.set_result([runtime])
    array = lent(opening)
    opening.run(array)
    assert sources(stage) == {array.ctypes.data}
    failed: Future[list[Runtime]] = Future()
    failed.set_exception(InferenceFailed("no"))
    assert lend_input(Opening(failed, 0)) is None
    plain: Future[list[Runtime]] = Future()
    plain.set_result([LendsNothing(runtime)])
    assert lend_input(Opening(plain, 0)) is None
