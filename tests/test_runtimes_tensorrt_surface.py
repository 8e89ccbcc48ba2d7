"""The played TensorRT is the real bindings' surface, and misuse of either fake is noticed."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge.runtimes.cuda_memory import Cuda
from ctedge.runtimes.tensorrt_lane import kept_log
from cuda_fake import Misuse
from tensorrt_fake import SURFACES
from tensorrt_stage import PLAN, SHAPE, Stage, set_stage
from tensorrt_surface import RTX, read_elsewhere
from test_tensorrt_surfaces import WHEELS, bindings


@pytest.mark.parametrize("name", WHEELS)
def test_the_surface_is_that_of_the_published_bindings(
    name: str, pytestconfig: pytest.Config
) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("the bindings are for Linux, and need stand-in libraries from a C compiler")
    cache = pytestconfig.cache
    assert cache is not None
    folder = bindings(name, compiler, cache.mkdir("tensorrt-bindings"))
    assert read_elsewhere("tensorrt_bindings", folder) == SURFACES[name]


def test_the_surface_is_that_of_tensorrt_rtx() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    if rtx.__version__ != SURFACES[RTX]["version"]:
        pytest.skip(f"tensorrt_rtx {rtx.__version__} is installed")
    assert read_elsewhere("tensorrt_rtx") == SURFACES[RTX]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stage]:
    return set_stage(monkeypatch, tmp_path, "10.3")


@pytest.fixture
def cuda(stage: Stage) -> Iterator[Cuda]:
    made = Cuda("testing")
    with made.current():
        yield made


@pytest.fixture
def context(stage: Stage, cuda: Cuda) -> Any:
    runtime = stage.trt.Runtime(kept_log(stage.trt))
    return runtime.deserialize_cuda_engine(PLAN).create_execution_context()


def test_what_the_bindings_lack_the_fake_lacks(stage: Stage, context: Any) -> None:
    with pytest.raises(AttributeError):
        context.execute_async_v4(1)
    with pytest.raises(AttributeError):
        context.engine.create_runtime_config()  # not before 10.16
    with pytest.raises(AttributeError):
        context.colour = 1
    with pytest.raises(AttributeError):
        context.active_optimization_profile = 1  # read only
    assert not hasattr(stage.trt, "CudaGraphStrategy")
    with pytest.raises(Misuse, match="not played"):
        stage.trt.Builder  # noqa: B018 (asking is the test)


NOT_PLAYED: dict[str, Callable[[Any], object]] = {
    "IExecutionContext.get_tensor_strides": lambda context: context.get_tensor_strides("logit"),
    "ICudaEngine.name": lambda context: context.engine.name,
    "EngineInspector.execution_context": (
        lambda context: context.engine.create_engine_inspector().execution_context
    ),
}


@pytest.mark.parametrize("name", NOT_PLAYED)
def test_what_is_not_played_is_noticed_where_its_error_is_swallowed(
    stage: Stage, context: Any, name: str
) -> None:
    with contextlib.suppress(Exception):  # as in a `__del__`
        NOT_PLAYED[name](context)
    assert stage.driver.misuse == [f"{name} is not played here"]


def test_other_arguments_are_refused(context: Any) -> None:
    for arguments in ([], ["volume"], ["volume", np.zeros(5)], ["volume", (1, *SHAPE), 1]):
        with pytest.raises(TypeError, match="incompatible"):
            context.set_input_shape(*arguments)
    with pytest.raises(TypeError, match="incompatible"):
        context.set_tensor_address("volume", ctypes.c_void_p(1))
    assert context.set_input_shape(name="volume", shape=(1, *SHAPE))


def _address(stage: Stage, cuda: Cuda, context: Any) -> None:
    context.set_tensor_address("volume", 4096)


def _shape(stage: Stage, cuda: Cuda, context: Any) -> None:
    context.get_tensor_shape("logit")


def _run(stage: Stage, cuda: Cuda, context: Any) -> None:
    context.set_input_shape("volume", (1, *SHAPE))
    context.execute_async_v3(1)


def _no_context(stage: Stage, cuda: Cuda, context: Any) -> None:
    cuda.leave()
    try:
        cuda("cuMemFree_v2", 1)
    finally:
        cuda.enter()


def _freed(stage: Stage, cuda: Cuda, context: Any) -> None:
    pointer = ctypes.c_uint64()
    cuda("cuMemAlloc_v2", ctypes.byref(pointer), 64)
    cuda("cuMemFree_v2", pointer.value)
    cuda("cuMemFree_v2", pointer.value)


def _too_much(stage: Stage, cuda: Cuda, context: Any) -> None:
    pointer, host, stream = ctypes.c_uint64(), ctypes.c_void_p(), ctypes.c_void_p()
    cuda("cuMemAlloc_v2", ctypes.byref(pointer), 64)
    cuda("cuMemHostAlloc", ctypes.byref(host), 128, 0)
    cuda("cuStreamCreate", ctypes.byref(stream), 1)
    cuda("cuMemcpyHtoDAsync_v2", pointer.value, host, 128, stream)


def _unpinned(stage: Stage, cuda: Cuda, context: Any) -> None:
    pointer = ctypes.c_uint64()
    cuda("cuMemAlloc_v2", ctypes.byref(pointer), 64)
    cuda.upload(pointer.value, np.zeros(4, np.float32), 1)


def _declared(stage: Stage, cuda: Cuda, context: Any) -> None:
    stage.driver.cuMemFree_v2.argtypes = (ctypes.c_int,)


@pytest.mark.parametrize(
    "misuse", [_address, _shape, _run, _no_context, _freed, _too_much, _unpinned, _declared]
)
def test_misuse_is_noticed(
    stage: Stage, cuda: Cuda, context: Any, misuse: Callable[[Stage, Cuda, Any], None]
) -> None:
    with pytest.raises(Misuse):
        misuse(stage, cuda, context)
    assert stage.driver.misuse


def test_what_nobody_waited_for_was_not_done(stage: Stage, cuda: Cuda) -> None:
    pointer, host, stream = ctypes.c_uint64(), ctypes.c_void_p(), ctypes.c_void_p()
    cuda("cuMemAlloc_v2", ctypes.byref(pointer), 4)
    cuda("cuMemHostAlloc", ctypes.byref(host), 4, 0)
    cuda("cuStreamCreate", ctypes.byref(stream), 1)
    ctypes.memset(host.value or 0, 1, 4)
    cuda("cuMemcpyHtoDAsync_v2", pointer.value, host, 4, stream)
    assert stage.driver.tables["memory"][pointer.value].raw == b"\xff" * 4
    cuda("cuStreamSynchronize", stream)
    assert stage.driver.tables["memory"][pointer.value].raw == b"\x01" * 4
