"""The driver's C surface, made from that of NVIDIA's own bindings (`cuda_surface.json`), and
functions that put their arguments through its prototypes, whatever their caller declared.
"""

# ruff: noqa: N802 (the names are the driver's)
from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

SURFACES: dict[str, Any] = json.loads(Path(__file__).with_name("cuda_surface.json").read_text())

#: C's types as ctypes has them; a text that the driver writes into is only a place.
_TYPES: dict[str, Any] = {
    "int": ctypes.c_int,
    "unsigned int": ctypes.c_uint,
    "unsigned long long": ctypes.c_ulonglong,
    "size_t": ctypes.c_size_t,
    "void*": ctypes.c_void_p,
    "const void*": ctypes.c_void_p,
    "char*": ctypes.c_void_p,
    "const char*": ctypes.c_char_p,
}


def of_c(kind: str) -> Any:
    """The ctypes of "unsigned long long*"."""
    return _TYPES[kind] if kind in _TYPES else ctypes.POINTER(of_c(kind.removesuffix("*")))


def prototypes(cuda: str) -> dict[str, tuple[Any, ...]]:
    """Arguments of each call as the driver of a CUDA, "13", declares them."""
    return {name: tuple(map(of_c, kinds)) for name, kinds in SURFACES[cuda]["calls"].items()}


CUDA_H = prototypes("13")
NAMES = frozenset(SURFACES["13"]["names"].split())
NUMBERS: dict[str, int] = {
    name: number for enum in SURFACES["13"]["enums"].values() for name, number in enum.items()
}
ERRORS = {number: name for name, number in SURFACES["13"]["enums"]["CUresult"].items()}

#: Of docs.nvidia.com/cuda/cuda-driver-api: after these the context goes on.
PASSING = {NUMBERS[f"CUDA_ERROR_{name}"] for name in ("OUT_OF_MEMORY", "NOT_SUPPORTED")}
PASSING |= {NUMBERS["CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"], NUMBERS["CUDA_ERROR_NOT_PERMITTED"]}
PASSING |= {number for number, name in ERRORS.items() if "_STREAM_CAPTURE_" in name}

#: Of the same: what needs no current context.
ANYWHERE = {name for name in CUDA_H if name.startswith(("cuInit", "cuD", "cuGetE", "cuCtx"))}


class Function:
    """One call: arguments go through its C prototype, whatever the caller declared."""

    def __init__(self, driver: Any, name: str) -> None:
        self._driver, self._name = driver, name
        self.restype: Any = ctypes.c_int

    @property
    def argtypes(self) -> Any:
        return CUDA_H[self._name]

    @argtypes.setter
    def argtypes(self, declared: Any) -> None:
        if tuple(declared) != CUDA_H[self._name]:
            raise self._driver.wrong(f"{self._name} is declared as {declared}")

    def __call__(self, *arguments: Any) -> int:
        raised: list[BaseException] = []

        def within(*converted: Any) -> int:
            try:
                return self._driver.answer(self._name, converted)
            except BaseException as error:  # noqa: BLE001 (ctypes would only print it)
                raised.append(error)
                return 999

        code: int = ctypes.CFUNCTYPE(ctypes.c_int, *CUDA_H[self._name])(within)(*arguments)
        if raised:
            raise raised[0]
        return code


class FakeNvml:
    """What `ctypes.CDLL("libnvidia-ml.so.1")` gives."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlShutdown(self) -> int:
        return 0

    def nvmlSystemGetDriverVersion(self, text: Any, size: Any) -> int:
        text.value = b"580.65"
        return 0
