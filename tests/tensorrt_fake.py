"""A `tensorrt` module made from the real bindings' surface, over the driver of `cuda_fake`.

Its classes have the methods and properties of tensorrt_surface.json and no others: any other name
is an AttributeError, other arguments are a TypeError, and what the real thing has but nobody here
plays is a `Misuse`. So is the wrong order: shapes before they are set, a run without addresses, an
address that the GPU does not have, a graph of a context that has changed since.

What the engine calculates is a function of the test's.
"""

from __future__ import annotations

import enum
import json
import types
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cuda_fake import FakeDriver
from tensorrt_classes import generated

SURFACES: dict[str, Any] = json.loads(Path(__file__).with_name("tensorrt_surface.json").read_text())

_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32}
_SCRATCH = "tensorrt"


@dataclass
class Network:
    """An engine's content, and how it misbehaves.

    Attributes:
        answer: outputs (N, ...) by name, for a float32 batch.
        max_contexts: further ones are None, as where memory is short.
        shares_profile: false as before TensorRT 10, where one context has the only profile.
        uncapturable: runs are refused while a graph is captured.
        said: what TensorRT says on being asked to deserialise, which it then refuses.
        refuses: runs to refuse.
        refuses_address: a tensor whose address is refused.
        hides_shapes: the shapes of its outputs are not known, as where they depend on the values.
    """

    input: str
    shape: tuple[int, ...]
    outputs: Mapping[str, tuple[int, ...]]
    answer: Callable[[np.ndarray], dict[str, np.ndarray]]
    max_batch: int = 4
    dtypes: dict[str, str] = field(default_factory=dict)
    max_contexts: int = 99
    shares_profile: bool = True
    uncapturable: bool = False
    said: str | None = None
    refuses: int = 0
    refuses_address: str | None = None
    hides_shapes: bool = False

    def dtype(self, name: str) -> str:
        return self.dtypes.get(name, "FLOAT")


class _Thing:
    """What the native libraries hold of an object: counted, and gone before the GPU's context."""

    def _made(self, kind: str) -> Any:
        made = object.__new__(getattr(self._trt, kind))
        made._values = {}
        return made

    def _hold(self, driver: FakeDriver) -> None:
        self._driver = driver
        with driver.tensorrt_call():
            key = driver._add(_SCRATCH, type(self).__name__)
        weakref.finalize(self, _gone, driver, key).atexit = False


def _gone(driver: FakeDriver, key: int) -> None:
    if driver.tables[_SCRATCH].pop(key, None) and not driver.retained:
        driver.wrong("TensorRT's memory was freed after the GPU's context")


class _Runtime(_Thing):
    def __init__(self, logger: Any) -> None:
        if not isinstance(logger, self._trt.ILogger):
            raise TypeError("incompatible constructor arguments")
        self._log, self._values = logger, {"engine_host_code_allowed": False}
        self._hold(self._network[0])

    def _deserialize_cuda_engine(self, plan: bytes) -> Any:
        network = self._network[1]
        if network.said is not None:
            self._log.log(self._trt.ILogger.Severity.ERROR, network.said)
            return None
        return self._made("ICudaEngine")._open(self, network)


class _Engine(_Thing):
    def _open(self, runtime: Any, network: Network) -> Any:
        self._deserialiser, self._net, self._log = runtime, network, runtime._log
        self._contexts, self._profile_taken = 0, False
        self._values = {"num_io_tensors": 1 + len(network.outputs)}
        self._names = [network.input, *network.outputs]
        self._hold(runtime._driver)
        return self

    def _get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def _get_tensor_mode(self, name: str) -> Any:
        mode = self._trt.TensorIOMode
        return mode.INPUT if name == self._net.input else mode.OUTPUT

    def _get_tensor_dtype(self, name: str) -> Any:
        return self._trt.DataType[self._net.dtype(name)]

    def _get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(self._net.shape if name == self._net.input else self._net.outputs[name]))

    def _create_runtime_config(self) -> Any:
        config = self._made("IRuntimeConfig")
        config._values = {"dynamic_shapes_kernel_specialization_strategy": None}
        return config

    def _create_execution_context(self, how: Any = None) -> Any:
        if self._contexts >= self._net.max_contexts:
            self._log.log(self._trt.ILogger.Severity.ERROR, "Cuda Runtime (out of memory)")
            return None
        self._contexts += 1
        profile = 0 if self._net.shares_profile or not self._profile_taken else -1
        self._profile_taken = True
        return self._made("IExecutionContext")._open(self, profile, how)

    def _create_engine_inspector(self) -> Any:
        inspector = self._made("EngineInspector")
        inspector._hold(self._driver)
        return inspector


class _Context(_Thing):
    def _open(self, engine: Any, profile: int, how: Any) -> Any:
        self._engine, self._net, self._log = engine, engine._net, engine._log
        self._values = {"active_optimization_profile": profile, "engine": engine}
        self._how, self._shape, self._ready = how, None, False
        self._addresses: dict[str, int] = {}
        self._hold(engine._driver)
        return self

    def _refuse(self, text: str) -> bool:
        self._log.log(self._trt.ILogger.Severity.ERROR, text)
        return False

    def _set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self._values["active_optimization_profile"] < 0:
            raise self._driver.wrong("a context without a profile was given shapes")
        most = (self._net.max_batch, *self._net.shape)
        if name != self._net.input or shape[1:] != most[1:] or not 1 <= shape[0] <= most[0]:
            return self._refuse(f"setInputShape: {shape} is not in the profile")
        if shape != self._shape:
            self._shape, self._ready = shape, False
        return True

    def _get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self._shape is None:
            raise self._driver.wrong("get_tensor_shape before set_input_shape")
        if self._net.hides_shapes:
            return (-1, *self._net.outputs[name])
        return (self._shape[0], *self._net.outputs[name])

    def _set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._names or name == self._net.refuses_address:
            return self._refuse(f"setTensorAddress: no tensor {name}")
        self._driver.block("memory", memory, 1)
        self._addresses[name] = memory
        return True

    def _execute_async_v3(self, stream: int) -> bool:
        if self._shape is None or set(self._addresses) != set(self._engine._names):
            raise self._driver.wrong("execute_async_v3 before shapes and addresses were set")
        with self._driver.tensorrt_call():
            captures = self._driver.captures(stream)
        if captures and (self._net.uncapturable or not self._ready):
            self._driver.invalidate(stream)
            return self._refuse("Cuda Runtime (operation not permitted when stream is capturing)")
        if self._net.refuses:
            self._net.refuses -= 1
            return self._refuse("Error Code 1: Cask (execution refused)")
        state = (self._shape, dict(self._addresses))
        this = weakref.ref(self)
        self._driver.submit(stream, lambda: _calculate(this, state))
        self._ready = True
        return True


def _calculate(this: Any, state: tuple[tuple[int, ...], dict[str, int]]) -> None:
    context = this()
    driver, network = context._driver, context._net
    shape, addresses = state
    if (context._shape, context._addresses) != state:
        raise driver.wrong("a run of a context whose shape or addresses changed before it was done")

    def floats(name: str, form: tuple[int, ...]) -> np.ndarray:
        kind = np.dtype(_NUMPY[network.dtype(name)])
        block = driver.block("memory", addresses[name], int(np.prod(form)) * kind.itemsize)
        return np.frombuffer(block, kind, int(np.prod(form))).reshape(form)

    found = network.answer(floats(network.input, shape).astype(np.float32))
    for name, form in network.outputs.items():
        floats(name, (shape[0], *form))[...] = found[name]


class _Inspector(_Thing):
    def _get_engine_information(self, form: Any) -> str:
        return json.dumps({"Layers": [form.name]})


class _Config:
    pass


_PLAYED: dict[str, type] = {
    "Runtime": _Runtime,
    "ICudaEngine": _Engine,
    "IExecutionContext": _Context,
    "IRuntimeConfig": _Config,
    "EngineInspector": _Inspector,
}


def fake_tensorrt(version: str, driver: FakeDriver, network: Network) -> Any:
    """A module with the surface of a version, "10.3", "10.16", "11" or "rtx-1.7"."""
    surface = SURFACES[version]
    trt = types.ModuleType("tensorrt")
    trt.__version__ = surface["version"]
    for name, members in surface["enums"].items():
        if name != "Severity":
            setattr(trt, name, enum.IntEnum(name, members))
    severity = enum.IntEnum("Severity", surface["enums"]["Severity"])
    trt.ILogger = type("ILogger", (), {"Severity": severity})
    for name, one in surface["classes"].items():
        base = type(name, (_PLAYED[name],), {"_trt": trt, "_network": (driver, network)})
        setattr(trt, name, generated(base, one))

    def lacking(name: str) -> Any:
        if name in surface["names"].split():
            raise driver.wrong(f"tensorrt.{name} is not played here")
        raise AttributeError(f"module 'tensorrt' has no attribute {name!r}")

    trt.__getattr__ = lacking
    return trt
