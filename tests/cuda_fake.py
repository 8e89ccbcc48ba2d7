"""A stand-in for libcuda.so.1 that holds every caller to the driver's rules.

Memory is the machine's own. What is given to a stream is done when somebody waits for the stream,
not before: who forgets to wait reads rubbish. Freed memory, a stream that nobody made, a call
without a context, a wrong prototype: each is a `Misuse`, and is remembered in `misuse`.

Prototypes, names and numbers are those of NVIDIA's own bindings (`cuda_surface`, CUDA 13).
"""

# ruff: noqa: N802 (the names are the driver's)
from __future__ import annotations

import ctypes
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from cuda_header import ANYWHERE, CUDA_H, ERRORS, NAMES, NUMBERS, PASSING, Function

_CONTEXT = 0xC0DE

Work = Callable[[], None]


class Misuse(AssertionError):
    """A call that the real driver or TensorRT would answer with a crash or rubbish."""


class FakeDriver:
    """What `ctypes.CDLL("libcuda.so.1")` gives."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.misuse: list[str] = []
        self.tables: dict[str, dict[int, Any]] = {
            name: {}
            for name in ("memory", "pinned", "locked", "streams", "graphs", "runnable", "tensorrt")
        }
        self.uploads: list[tuple[int, int]] = []  # from which address, how many bytes
        self.retained = 0
        self.lost: int | None = None
        self.lacks: set[str] = set()  # as an older driver
        self.faults: dict[str, list[int]] = defaultdict(list)
        self._capturing: dict[int, dict[str, Any]] = {}
        self._lock, self._own = threading.RLock(), threading.local()
        self._next, self._texts = 1000, dict[int, ctypes.c_char_p]()

    def __getattr__(self, name: str) -> Any:
        if name not in NAMES or name in self.lacks:
            raise AttributeError(f"libcuda.so.1: undefined symbol: {name}")
        if name not in CUDA_H:
            raise self.wrong(f"{name} is not played here")
        return self.__dict__.setdefault(name, Function(self, name))

    def fail(self, call: str, code: int, *, after: int = 0) -> None:
        """Let a call fail with a CUresult, once, after that many that succeed."""
        self.faults[call] += [0] * after + [code]

    def wrong(self, what: str) -> Misuse:
        self.misuse.append(what)
        return Misuse(what)

    def left(self) -> dict[str, int]:
        """What was not given back."""
        found = {name: len(table) for name, table in self.tables.items()}
        return {name: n for name, n in (found | {"contexts": self.retained}).items() if n}

    def answer(self, name: str, arguments: tuple[Any, ...]) -> int:
        with self._lock:
            self.calls[name] += 1
            if name != "cuGetErrorName" and self.lost is not None:
                return self.lost
            code = self.faults[name].pop(0) if self.faults[name] else 0
            if code:
                if name == "cuStreamEndCapture":  # the capture ends, whatever comes of it
                    self._capturing.pop(arguments[0])
                self.lost = None if code in PASSING else code
                return code
            if name not in ANYWHERE and not self._stack():
                raise self.wrong(f"{name}: no context is current in this thread")
        return getattr(self, "_" + name)(*arguments) or 0

    def submit(self, stream: int, work: Work) -> None:
        """Put work into a stream, or into the graph that it captures."""
        with self._lock:
            queue = self.tables["streams"].get(stream)
            if queue is None:
                raise self.wrong(f"no stream {stream}")
            (self._capturing[stream]["work"] if stream in self._capturing else queue).append(work)

    def captures(self, stream: int) -> bool:
        return stream in self._capturing

    def invalidate(self, stream: int) -> None:
        self._capturing[stream]["valid"] = False

    def block(self, table: str, address: int, size: int) -> ctypes.Array[ctypes.c_char]:
        """The live allocation at an address, large enough."""
        found = self.tables[table].get(address)
        if found is None:
            raise self.wrong(f"{table} at {address:#x} was freed, or never was")
        if len(found) < size:
            raise self.wrong(f"{size} bytes of {table} that has {len(found)}")
        return found

    @contextmanager
    def tensorrt_call(self) -> Any:
        """Around what TensorRT does with the GPU by itself."""
        if not self._stack():
            raise self.wrong("TensorRT was called without a GPU context")
        yield

    def _stack(self) -> list[int]:
        if not hasattr(self._own, "stack"):
            self._own.stack = []
        stack: list[int] = self._own.stack
        return stack

    def _add(self, table: str, value: Any) -> int:
        with self._lock:
            self._next += 1
            self.tables[table][self._next] = value
            return self._next

    def _take(self, table: str, key: int) -> Any:
        if key not in self.tables[table]:
            raise self.wrong(f"{table}: {key} was freed twice, or never was")
        return self.tables[table].pop(key)

    def _cuInit(self, flags: int) -> None: ...

    def _cuDriverGetVersion(self, version: Any) -> None:
        version[0] = 13000

    def _cuDeviceGetCount(self, count: Any) -> None:
        count[0] = 1

    def _cuDeviceGetName(self, text: int, size: int, device: int) -> None:
        ctypes.memmove(text, b"NVIDIA RTX A4000\0", 17)

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, device: int) -> None:
        capability = "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY"
        known = {NUMBERS[f"{capability}_MAJOR"]: 8, NUMBERS[f"{capability}_MINOR"]: 6}
        value[0] = known[attribute]

    def _cuDeviceTotalMem_v2(self, size: Any, device: int) -> None:
        size[0] = 16 << 30

    def _cuGetErrorName(self, code: int, text: Any) -> int:
        if code not in ERRORS:
            return NUMBERS["CUDA_ERROR_INVALID_VALUE"]
        text[0] = self._texts.setdefault(code, ctypes.c_char_p(ERRORS[code].encode()))
        return 0

    def _cuDeviceGet(self, device: Any, index: int) -> None:
        device[0] = index

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: int) -> None:
        self.retained += 1
        context[0] = _CONTEXT

    def _cuDevicePrimaryCtxRelease_v2(self, device: int) -> None:
        self.retained -= 1

    def _cuCtxPushCurrent_v2(self, context: int) -> None:
        if context != _CONTEXT or not self.retained:
            raise self.wrong("a context that is not retained was made current")
        self._stack().append(context)

    def _cuCtxPopCurrent_v2(self, context: Any) -> None:
        context[0] = self._stack().pop()

    def _cuStreamCreate(self, stream: Any, flags: int) -> None:
        if flags != NUMBERS["CU_STREAM_NON_BLOCKING"]:
            raise self.wrong("a stream that waits for the legacy default stream")
        stream[0] = self._add("streams", [])

    def _cuStreamSynchronize(self, stream: int) -> int:
        with self._lock:
            if stream in self._capturing:
                self.invalidate(stream)
                return 900
            queue = self.tables["streams"][stream]
            work, queue[:] = list(queue), []
        for one in work:  # outside of the lock: streams go on beside each other
            one()
        return self.lost or 0

    def _cuStreamDestroy_v2(self, stream: int) -> None:
        if self._take("streams", stream) or stream in self._capturing:
            raise self.wrong("a stream was destroyed with work in it")

    def _spoils_capture(self) -> bool:
        """Whether this thread captures, which a call that is about memory ends."""
        mine = threading.get_ident()
        found = [one for one in self._capturing.values() if one["thread"] == mine]
        for capture in found:
            capture["valid"] = False
        return bool(found)

    def _allocate(self, table: str, pointer: Any, size: int) -> int:
        if self._spoils_capture():
            return 900
        block = ctypes.create_string_buffer(b"\xff" * size, size)  # 0xffff... is not a number
        pointer[0] = ctypes.addressof(block)
        self.tables[table][pointer[0]] = block
        return 0

    def _cuMemAlloc_v2(self, pointer: Any, size: int) -> int:
        return self._allocate("memory", pointer, size)

    def _cuMemFree_v2(self, address: int) -> None:
        self._take("memory", address)

    def _cuMemHostAlloc(self, pointer: Any, size: int, flags: int) -> int:
        return self._allocate("pinned", pointer, size)

    def _cuMemFreeHost(self, address: int) -> None:
        self._take("pinned", address)

    def _cuMemHostRegister_v2(self, address: int, size: int, flags: int) -> int:
        if self._spoils_capture():
            return 900
        with self._lock:
            for start, block in self.tables["locked"].items():
                if start < address + size and address < start + len(block):
                    return NUMBERS["CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED"]
            self.tables["locked"][address] = (ctypes.c_char * size).from_address(address)
        return 0

    def _cuMemHostUnregister(self, address: int) -> None:
        self._take("locked", address)

    def _copy(self, to: tuple[str, int], source: tuple[str, int], size: int, stream: int) -> None:
        def work() -> None:
            ctypes.memmove(self.block(*to, size), self.block(*source, size), size)

        self.block(*to, size), self.block(*source, size)
        self.submit(stream, work)

    def _cuMemcpyHtoDAsync_v2(self, to: int, source: int, size: int, stream: int) -> None:
        table = "locked" if source in self.tables["locked"] else "pinned"
        self.uploads.append((source, size))
        self._copy(("memory", to), (table, source), size, stream)

    def _cuMemcpyDtoHAsync_v2(self, to: int, source: int, size: int, stream: int) -> None:
        self._copy(("pinned", to), ("memory", source), size, stream)

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> None:
        if self.tables["streams"][stream] or stream in self._capturing:
            raise self.wrong("a capture began in a stream that is at work")
        self._capturing[stream] = {"thread": threading.get_ident(), "work": [], "valid": True}
        if mode != NUMBERS["CU_STREAM_CAPTURE_MODE_THREAD_LOCAL"]:
            raise self.wrong("a capture that other threads' calls spoil")

    def _cuStreamEndCapture(self, stream: int, graph: Any) -> int:
        if stream not in self._capturing:
            return NUMBERS["CUDA_ERROR_ILLEGAL_STATE"]
        capture = self._capturing.pop(stream)
        if capture["thread"] != threading.get_ident():
            return 908
        if not capture["valid"]:
            return 901
        graph[0] = self._add("graphs", capture["work"])
        return 0

    def _cuGraphInstantiateWithFlags(self, runnable: Any, graph: int, flags: int) -> None:
        runnable[0] = self._add("runnable", list(self.tables["graphs"][graph]))

    def _cuGraphLaunch(self, runnable: int, stream: int) -> None:
        for work in self.tables["runnable"][runnable]:
            self.submit(stream, work)

    def _cuGraphExecDestroy(self, runnable: int) -> None:
        self._take("runnable", runnable)

    def _cuGraphDestroy(self, graph: int) -> None:
        self._take("graphs", graph)
