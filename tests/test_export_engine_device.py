"""An engine on a device, as far as stand-ins go: a driver whose memory is the machine's own, and a
runtime whose engine is the ONNX file on the CPU. Everything between the two is the real thing,
down to the C calls.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)

from conftest import REPOSITORY
from ctedge.bundle.model_bundle import ModelBundle
from engine_factory import write_engine_bundle
from patience import LONG_PATIENCE_S, PATIENCE_S

#: A driver for one GPU, whose memory is the machine's own.
DRIVER = r"""
#include <stdlib.h>
#include <string.h>
typedef unsigned long long ptr;
int cuInit(unsigned f) { return 0; }
int cuDeviceGetCount(int *n) { *n = getenv("NO_GPU") ? 0 : 1; return 0; }
int cuDriverGetVersion(int *v) { *v = 13020; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "NVIDIA RTX A4000", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 6 : -1; return 0; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = 16ull << 30; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = c; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { return 0; }
int cuCtxPushCurrent_v2(void *c) { return c == 0; }
int cuCtxPopCurrent_v2(void **c) { *c = 0; return 0; }
int cuStreamCreate(void **s, unsigned f) { *s = s; return f != 1; }
int cuStreamDestroy_v2(void *s) { return 0; }
int cuStreamSynchronize(void *s) { return 0; }
int cuMemAlloc_v2(ptr *p, size_t n) { if (n > 1 << 20) return 2; *p = (ptr) malloc(n); return 0; }
int cuMemFree_v2(ptr p) { free((void *) p); return 0; }
int cuMemHostAlloc(void **p, size_t n, unsigned f) { *p = malloc(n); return f; }
int cuMemFreeHost(void *p) { free(p); return 0; }
int cuMemHostRegister_v2(void *p, size_t n, unsigned f) { return f; }
int cuMemHostUnregister(void *p) { return 0; }
int cuMemcpyHtoDAsync_v2(ptr d, void *s, size_t n, void *q) { memcpy((void *) d, s, n); return 0; }
int cuMemcpyDtoHAsync_v2(void *d, ptr s, size_t n, void *q) { memcpy(d, (void *) s, n); return 0; }
int cuStreamBeginCapture_v2(void *s, int m) { return 801; }
int cuStreamEndCapture(void *s, void **g) { return 801; }
int cuGraphInstantiateWithFlags(void **e, void *g, unsigned long long f) { return 801; }
int cuGraphLaunch(void *e, void *s) { return 801; }
int cuGraphExecDestroy(void *e) { return 801; }
int cuGraphDestroy(void *g) { return 801; }
int cuGetErrorName(int e, const char **t) {
  *t = e == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_NOT_SUPPORTED"; return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "580.65.06", n); return 0; }
"""

ASK = """
import numpy as np
from ctedge.runtimes.cuda_driver import find_device, why_no_device
print(find_device())
print(why_no_device())
if find_device():
    from contextlib import ExitStack
    from ctedge.runtimes.cuda_memory import Cuda, CudaFailure
    cuda, owner = Cuda("testing"), ExitStack()
    with cuda.current(), owner:
        stream = cuda.stream(owner)
        sent, back = (cuda.pinned(1000, np.float32, owner) for _ in range(2))
        sent[:], back[:] = np.arange(1000), 0
        address = cuda.allocate(sent.nbytes, owner)
        cuda.upload(address, sent, stream)
        cuda.download(back, address, stream)
        cuda.wait(stream)
        print(np.array_equal(sent, back))
        try: cuda.allocate(2 << 20, owner)
        except CudaFailure as error: print(error, error.final)
        try: cuda.begin_capture(stream)
        except CudaFailure as error: print(error, error.final)
    cuda.close()
    cuda.close()
"""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in driver")
    folder = tmp_path_factory.mktemp("driver")
    source = folder / "driver.c"
    source.write_text(DRIVER)
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        command = [compiler, "-shared", "-fPIC", "-o", str(folder / name), str(source)]
        subprocess.run(command, check=True, timeout=PATIENCE_S)
    return folder


def ask(driver: Path, **environment: str) -> list[str]:
    known = os.environ | {"LD_LIBRARY_PATH": str(driver)} | environment
    return subprocess.check_output(
        [sys.executable, "-c", ASK], text=True, env=known, timeout=PATIENCE_S
    ).splitlines()


def test_a_driver_is_asked_for_its_gpu_and_copies_what_it_is_given(driver: Path) -> None:
    device, why, copied, refused, uncaptured = ask(driver)
    expected = "gpu='NVIDIA RTX A4000', compute_capability='8.6', memory_bytes=17179869184"
    assert f"{expected}, driver='580.65.06', cuda='13.2'" in device
    assert why == "a GPU"
    assert copied == "True"
    assert refused == "CUDA_ERROR_OUT_OF_MEMORY (cuMemAlloc_v2) False"
    assert uncaptured == "CUDA_ERROR_NOT_SUPPORTED (cuStreamBeginCapture_v2) False"


def test_a_driver_that_sees_no_gpu_is_no_device(driver: Path) -> None:
    assert ask(driver, NO_GPU="1") == [
        "None",
        "the NVIDIA driver answers cuDeviceGetCount: no GPU",
    ]


def test_an_older_driver_without_a_call_is_no_device(driver: Path, tmp_path: Path) -> None:
    source = tmp_path / "old.c"
    source.write_text("int cuInit(unsigned f) { return 0; }\n")
    compiler = shutil.which("cc") or "gcc"
    command = [compiler, "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(source)]
    subprocess.run(command, check=True, timeout=PATIENCE_S)
    assert ask(tmp_path)[0] == "None"


#: The builder is real; what opens its engine is the bundle's half-precision file on the CPU. The
#: chests that its gate shows are those of the other tests, of networks of this size as well.
STAGE = """
import ctypes, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from drawn_once import share_drawings
share_drawings(Path(os.environ["CTEDGE_TEST_DRAWN"]))
del sys.path[0]
import numpy as np
import tensorrt_rtx as trt
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import CTEdgeError
from ctedge.runtimes.onnx_runtime import OnnxRuntime
import ctedge_export.engine.verify as verify
from ctedge_export.engine.inspect import inspect_file
from ctedge_export.engine.make import build_engine
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input

folder, shift = sys.argv[1], float(sys.argv[2])
bundle = ModelBundle.load(folder)
session = OnnxRuntime(bundle.model_bytes("fp16"), name="fp16")
names = [bundle.input_name, *bundle.output_names]

class Context:
    active_optimization_profile = 0
    def __init__(self): self.at, self.shape = {}, None
    def set_input_shape(self, name, shape): self.shape = tuple(shape); return True
    def get_tensor_shape(self, name): return (self.shape[0], 1)
    def set_tensor_address(self, name, address): self.at[name] = address; return True
    def floats(self, name, shape):
        kind = ctypes.c_float * int(np.prod(shape))
        return np.frombuffer(kind.from_address(self.at[name]), np.float32).reshape(shape)
    def execute_async_v3(self, stream):
        assert self.shape[0] <= 2, "more than max_batch"
        answers = session.run(self.floats(names[0], self.shape).copy())
        for name in names[1:]:
            self.floats(name, (self.shape[0], 1))[...] = answers[name] + np.float32(shift)
        return True

class Inspector:
    def get_engine_information(self, kind):
        assert kind == trt.LayerInformationFormat.JSON
        half = [{"Name": "x", "Format/Datatype": "Half"}]
        rows = [{"Name": f"conv{n}", "LayerType": "CaskConvolution", "Inputs": half,
                 "Outputs": half, "TacticName": "fast"} for n in range(4)]
        return json.dumps({"Layers": rows})

class Engine:
    num_io_tensors = len(names)
    def get_tensor_name(self, index): return names[index]
    def get_tensor_mode(self, name):
        return trt.TensorIOMode.INPUT if name == names[0] else trt.TensorIOMode.OUTPUT
    def get_tensor_dtype(self, name): return trt.DataType.FLOAT
    def get_tensor_shape(self, name): return (-1, *bundle.input_shape)
    def create_runtime_config(self): return type("Config", (), {})()
    def create_execution_context(self, how): return Context()
    def create_engine_inspector(self): return Inspector()

class Runtime:
    def __init__(self, log): pass
    def deserialize_cuda_engine(self, plan): return Engine()

trt.Runtime = Runtime
noise = np.random.default_rng(2).random((3, *bundle.spec.shape))
shown = tuple(gate_input(f"noise {n}", one, bundle.spec) for n, one in enumerate(noise))
verify.gate_inputs = lambda spec: shown
verify.gate_phantoms = lambda spec: tuple(
    Case(shown=one, positive=n == 0, score=None) for n, one in enumerate(shown))
from ctedge_export.engine.settings import Settings
from ctedge.engines.files import find_engine, read_record
"""

BUILD = (
    STAGE
    + """
try:
    path = build_engine(folder, runtime="tensorrt-rtx", settings=Settings(max_batch=2))
except CTEdgeError as error:
    print(json.dumps([type(error).__name__, str(error.found)]))
    sys.exit()
record, plan = find_engine(bundle, precision="fp16", runtime="tensorrt-rtx", batch=2)
looked = inspect_file(path)
print(json.dumps([path.name, record.device_gate.state, record.machine.gpu, record.layers.source,
                  len(plan), looked.source, looked.unopened, looked.rows[0].tactic]))
"""
)

VERIFY = (
    STAGE
    + """
from dataclasses import replace
from ctedge.engines.record import DeviceGate, Site
from ctedge.engines.files import list_engines, record_path
(path,) = list_engines(bundle)
old = replace(read_record(path), device_gate=DeviceGate(), machine=Site())
record_path(path).write_bytes(old.to_bytes())
said = []
try: verify.verify_engines(bundle, say=said.append)
except CTEdgeError as error: said.append(type(error).__name__)
print(json.dumps([said[-1], read_record(path).device_gate.state]))
"""
)


def on_stage(driver: Path, script: str, bundle: ModelBundle, shift: float = 0.0) -> list[object]:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    known = os.environ | {"LD_LIBRARY_PATH": str(driver)}
    command = [sys.executable, "-c", script, str(bundle.path), str(shift), REPOSITORY / "tests"]
    answer = subprocess.run(  # it may have to draw the chests of the gate before
        command, capture_output=True, text=True, check=False, env=known, timeout=LONG_PATIENCE_S
    )
    assert answer.returncode == 0, answer.stderr
    found: list[object] = json.loads(answer.stdout.splitlines()[-1])
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return write_engine_bundle(tmp_path / "small.ctedge", variants=("fp16",))


def test_where_a_device_is_the_engine_passes_its_own_gate_and_is_given(
    driver: Path, bundle: ModelBundle
) -> None:
    name, state, gpu, source, size, *looked = on_stage(driver, BUILD, bundle)
    assert str(name).endswith("-sm86-batch2.engine")
    assert (state, gpu, source) == ("passed", "NVIDIA RTX A4000", "inspector")
    assert isinstance(size, int)
    assert looked == ["inspector", None, "fast"]


def test_an_engine_that_fails_its_gate_is_not_written(driver: Path, bundle: ModelBundle) -> None:
    kind, found = on_stage(driver, BUILD, bundle, shift=0.5)
    assert kind == "GateFailed"
    assert "max |dprobability|" in str(found)
    assert not (bundle.path / "engines").exists()


def test_verify_writes_down_what_the_gate_gave(driver: Path, bundle: ModelBundle) -> None:
    on_stage(driver, BUILD, bundle)
    said, state = on_stage(driver, VERIFY, bundle)
    assert str(said).endswith("-batch2.engine: device gate passed on NVIDIA RTX A4000")
    assert state == "passed"
    said, state = on_stage(driver, VERIFY, bundle, shift=0.5)
    assert (said, state) == ("GateFailed", "failed")
