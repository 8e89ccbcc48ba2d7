"""The driver's C surface as NVIDIA's own bindings have it, written down in cuda_surface.json.

    python tests/cuda_surface.py

fetches the `cuda-bindings` of each CUDA and writes the file: of every call that ctedge makes its
prototype, its types resolved to C's own, and the numbers of the enumerations that stand in them.
`cuda_header` and with it the played driver are generated from it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from patience import PATIENCE_S

FILE = Path(__file__).with_suffix(".json")
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "d" / "cuda-bindings"

#: By CUDA: the bindings, and what they import. There are none older than CUDA 11.8.
WHEELS = {
    "11": ("cuda-bindings==11.8.7",),
    "12": ("cuda-bindings==12.9.10", "cuda-pathfinder==1.9.0"),
    "13": ("cuda-bindings==13.5.0", "cuda-pathfinder==1.9.0"),
}

#: What ctedge calls: of `cuda_driver`, then of `cuda_memory`.
CALLS = (
    *("cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGetName"),
    *("cuDeviceGetAttribute", "cuDeviceTotalMem_v2"),
    *("cuGetErrorName", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2"),
    *("cuCtxPushCurrent_v2", "cuCtxPopCurrent_v2"),
    *("cuStreamCreate", "cuStreamSynchronize", "cuStreamDestroy_v2"),
    *("cuMemAlloc_v2", "cuMemFree_v2", "cuMemHostAlloc", "cuMemFreeHost"),
    *("cuMemHostRegister_v2", "cuMemHostUnregister"),
    *("cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"),
    *("cuStreamBeginCapture_v2", "cuStreamEndCapture"),
    *("cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuGraphExecDestroy", "cuGraphDestroy"),
)

#: Enumerations, and how the names of interest begin.
ENUMS = {
    "CUresult": "CUDA_",
    "CUdevice_attribute": "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_M",
    "CUstream_flags": "CU_STREAM_",
    "CUstreamCaptureMode": "CU_STREAM_CAPTURE_MODE_",
}

_OF_C = ("int", "unsigned int", "unsigned long long", "size_t", "void", "const void")
_OF_C += ("char", "const char")

_NUMBERS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from cuda.bindings import driver
print(json.dumps({name: {one.name: int(one) for one in getattr(driver, name)
                         if one.name.startswith(start)}
                  for name, start in json.loads(sys.argv[2]).items()}))
"""


def bindings(cuda: str, cache: Path) -> Path:
    """The folder of the unpacked bindings; fetched once."""
    wheels, folder = cache / cuda, cache / f"{cuda}-{sys.version_info.minor}"
    pattern = f"cuda_bindings-*cp3{sys.version_info.minor}*.whl"
    if not list(wheels.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
        command += ["--only-binary=:all:", "-d", str(wheels), *WHEELS[cuda]]
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        if answer.returncode:
            pytest.skip(f"{WHEELS[cuda][0]} cannot be fetched: {answer.stderr.strip()[-200:]}")
    for wheel in [*wheels.glob(pattern), *wheels.glob("cuda_pathfinder-*.whl")]:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
    return folder


def read(folder: Path) -> dict[str, Any]:
    """The surface that unpacked bindings have."""
    from importlib.metadata import distributions

    known = {one.metadata["Name"]: one.version for one in distributions(path=[str(folder)])}
    sources = folder / "cuda" / "bindings"
    symbols = sources / "_internal" / "driver.pxd"
    if not symbols.exists():  # before CUDA 12
        symbols = sources / "_bindings" / "cydriver.pxd"
    calls = calls_of(symbols.read_text())
    types = (sources / "cydriver.pxd").read_text()
    command = [sys.executable, "-W", "error", "-c", _NUMBERS, str(folder), json.dumps(ENUMS)]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.returncode == 0, answer.stderr
    return {
        "version": known["cuda-bindings"],
        "names": " ".join(sorted(calls)),
        "calls": {name: [plain(one, types) for one in calls[name]] for name in CALLS},
        "enums": json.loads(answer.stdout),
    }


def calls_of(text: str) -> dict[str, list[str]]:
    """The types of the arguments of each symbol: `cdef CUresult _cuInit(unsigned int Flags)`."""
    found = re.findall(r"^cdef CUresult _(cu\w+)\((.*?)\) except", text, re.MULTILINE)
    return {
        name: [re.sub(r"\w+$", "", one).strip() for one in arguments.split(", ") if one]
        for name, arguments in found
    }


def plain(kind: str, types: str) -> str:
    """A type in C's own words: "CUdeviceptr*" is "unsigned long long*", any enumeration an int."""
    name, stars = kind.rstrip("*"), kind.count("*")
    while name not in _OF_C:
        known = re.search(rf"^\s*ctypedef (?!enum|struct)(.+?) {name}(?: '{name}')?$", types, re.M)
        if known is not None:
            name, stars = known[1].rstrip("*"), stars + known[1].count("*")
        elif re.search(rf"^\s*(?:ctypedef|cdef) enum {name}\b", types, re.MULTILINE):
            name = "int"
        elif re.search(rf"^\s*(?:ctypedef|cdef) struct {name}\b", types, re.MULTILINE):
            name = "void"
        else:
            raise LookupError(f"{kind}: {name} is not declared")
    return name + "*" * stars


def main() -> None:
    found = {cuda: read(bindings(cuda, CACHE)) for cuda in WHEELS}
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
