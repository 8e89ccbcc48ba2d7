"""What ctedge calls of the NVIDIA driver is declared as NVIDIA's own bindings declare it."""

from __future__ import annotations

import ast
import ctypes
from collections.abc import Iterator

import pytest

from conftest import REPOSITORY
from ctedge.runtimes import cuda_driver
from ctedge.runtimes.cuda_driver import CudaDevice, find_device, require_device, why_no_device
from ctedge.runtimes.cuda_memory import PROTOTYPES
from cuda_fake import FakeDriver, Misuse
from cuda_header import SURFACES, FakeNvml, prototypes
from cuda_surface import CALLS, WHEELS, bindings, plain, read

SOURCES = "sdk/ctedge/runtimes/cuda_*.py"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    made = FakeDriver()
    played = {"libcuda.so.1": made, "libnvidia-ml.so.1": FakeNvml()}
    monkeypatch.setattr(cuda_driver.ctypes, "CDLL", played.__getitem__)
    yield made
    assert made.misuse == []


@pytest.mark.parametrize("cuda", WHEELS)
def test_the_surface_is_that_of_the_published_bindings(
    cuda: str, pytestconfig: pytest.Config
) -> None:
    cache = pytestconfig.cache
    assert cache is not None
    assert read(bindings(cuda, cache.mkdir("cuda-bindings"))) == SURFACES[cuda]


@pytest.mark.parametrize("cuda", SURFACES)
def test_every_call_is_declared_as_the_driver_has_it(cuda: str) -> None:
    of_the_driver = prototypes(cuda)
    assert {name: of_the_driver[name] for name in PROTOTYPES} == PROTOTYPES


def test_the_surface_holds_what_is_called_and_no_more() -> None:
    called = {
        node.value
        for path in REPOSITORY.glob(SOURCES)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value in SURFACES["13"]["names"].split()
    }
    assert called == set(CALLS)


def test_types_are_resolved_to_those_of_c() -> None:
    types = """
    ctypedef enum CUkind_enum:
    ctypedef CUkind_enum CUkind
    ctypedef struct CUthing_st:
    ctypedef CUthing_st* CUthing 'CUthing'
    ctypedef unsigned long long CUplace_v2 'CUplace_v2'
    ctypedef CUplace_v2 CUplace 'CUplace'
"""
    wanted = {"CUkind": "int", "CUthing*": "void**", "CUplace*": "unsigned long long*"}
    wanted |= {"const void*": "const void*", "size_t": "size_t"}
    assert {kind: plain(kind, types) for kind in wanted} == wanted
    with pytest.raises(LookupError, match="CUother is not declared"):
        plain("CUother*", types)


def test_what_the_driver_lacks_the_fake_lacks() -> None:
    made = FakeDriver()
    with pytest.raises(AttributeError, match="undefined symbol: cuMemAlloc_v9"):
        made.cuMemAlloc_v9  # noqa: B018 (asking is the test)
    with pytest.raises(Misuse, match="cuMemcpy2D_v2 is not played"):
        made.cuMemcpy2D_v2  # noqa: B018


def test_the_first_gpu_is_described(driver: FakeDriver) -> None:
    assert find_device() == CudaDevice(
        gpu="NVIDIA RTX A4000",
        compute_capability="8.6",
        memory_bytes=16 << 30,
        driver="580.65",
        cuda="13.0",
    )
    assert why_no_device() == "a GPU"
    assert require_device("testing") == find_device()


@pytest.mark.parametrize(
    "call", [name for name in CALLS[:6] if name != "cuInit"] + ["cuDeviceGet", "cuInit"]
)
def test_a_driver_that_does_not_answer_is_no_gpu_and_says_which_call(
    driver: FakeDriver, call: str
) -> None:
    driver.fail(call, 999)
    assert find_device() is None
    assert why_no_device() == "the NVIDIA driver answers cuInit: CUresult 999"  # it is lost now
    driver.lost = None
    driver.fail(call, 801)
    assert why_no_device() == f"the NVIDIA driver answers {call}: CUresult 801"


def test_a_driver_without_a_symbol_is_no_gpu_and_says_so(driver: FakeDriver) -> None:
    driver.lacks.add("cuDeviceTotalMem_v2")
    assert find_device() is None
    assert "cuDeviceTotalMem_v2" in why_no_device()


@pytest.mark.parametrize("how", ["none", "old", "refuses", "silent"])
def test_a_management_library_that_does_not_answer_hides_the_version_alone(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """As on a Jetson, which has none."""

    class Silent(FakeNvml):
        def nvmlInit_v2(self) -> int:  # noqa: N802
            return 9 if how == "refuses" else 0

        def nvmlSystemGetDriverVersion(self, text: object, size: object) -> int:  # noqa: N802
            return 3

    def load(name: str) -> object:
        if name == "libcuda.so.1":
            return driver
        if how == "none":
            raise OSError(f"{name}: cannot open shared object file")
        return object() if how == "old" else Silent()

    monkeypatch.setattr(ctypes, "CDLL", load)
    device = find_device()
    assert device is not None
    assert (device.gpu, device.driver) == ("NVIDIA RTX A4000", None)
