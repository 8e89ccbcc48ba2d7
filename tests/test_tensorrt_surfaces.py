"""TensorRT's Python surface, version by version: what our code takes is there, or asked for.

The bindings are fetched as they are published (1.3 MB each) and imported over stand-ins for the C
libraries; JetPack 6 has 10.3, JetPack 7 has 10.16, the newest is 11. TensorRT-RTX is the real one.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from ctedge_export.engine import surface
from patience import PATIENCE_S

#: Where TensorRT is called: it is built with in the one, run in the other.
SOURCES = ("export/ctedge_export/engine/*.py", "sdk/ctedge/runtimes/tensorrt_*.py")

#: Distribution and version, the number in its libraries' names, whether it is strongly typed only.
WHEELS = {
    "10.3": ("tensorrt-cu12-bindings==10.3.0", "10", False),
    "10.16": ("tensorrt-cu13-bindings==10.16.1.11", "10", False),
    "11": ("tensorrt-cu13-bindings==11.4.0.106", "11", True),
}

LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
MAKERS = ("createInferBuilder", "createInferRefitter", "createInferRuntime")
MAKERS += ("createNvOnnxParserRefitter", "createNvOnnxParser")
PLAIN = ("getBuilderPluginRegistry", "getNvOnnxParserVersion", "getPluginRegistry")
PLAIN += ("initLibNvInferPlugins",)

#: Runs beside the bindings: what is there, and our own code on it as far as no library is called.
PROBE = """
import importlib, json, sys, threading
module, folder = sys.argv[1:]
sys.path.insert(0, folder)
trt = importlib.import_module(module)
from ctedge_export.engine import surface
from ctedge_export.engine.flavours import Flavour
from ctedge_export.engine.log import captured_log
from ctedge_export.engine.progress import Unwatched, monitor

def lacks(wanted):
    owners = {owner: trt if owner == "" else getattr(trt, owner, None) for owner in wanted}
    return sorted(f"{owner}.{name}" for owner in wanted for name in wanted[owner]
                  if not hasattr(owners[owner], name))

flavour = Flavour(runtime="tensorrt", trt=trt)
log = captured_log(trt)
log.log(trt.ILogger.Severity.VERBOSE, "a")
log.log(trt.ILogger.Severity.WARNING, "b")
log.log(trt.ILogger.Severity.ERROR, "c")
stop = threading.Event()
watched = monitor(trt, Unwatched(), stop)
steps = [watched.step_complete("a", 1)]
stop.set()
print(json.dumps({
    "version": flavour.version, "required": lacks(surface.REQUIRED),
    "optional": lacks(surface.OPTIONAL), "typed": flavour.strongly_typed,
    "ahead": flavour.ahead_of_time, "capabilities": flavour.capabilities,
    "flags": flavour.network_flags, "lines": log.lines,
    "steps": [*steps, watched.step_complete("a", 2)],
    "sources": sorted(trt.TacticSource.__members__),
    "names": [trt.DataType.HALF.name, trt.LayerType.CONVOLUTION.name],
}))
"""


def probe(module: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-W", "error", "-c", PROBE, module, str(folder)]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.fixture(scope="session")
def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        pytest.skip("no C compiler for the stand-in libraries")
    return found


def bindings(name: str, compiler: str, cache: Path) -> Path:
    """The folder of the unpacked bindings; fetched once."""
    requirement, number, _ = WHEELS[name]
    wheels, folder = cache / name, cache / f"{name}-{sys.version_info.minor}"
    if not list(wheels.glob(f"*cp3{sys.version_info.minor}*.whl")):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary=:all:",
        ]
        command += ["-d", str(wheels), requirement]
        answer = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        if answer.returncode:
            pytest.skip(f"{requirement} cannot be fetched: {answer.stderr.strip()[-200:]}")
    (wheel,) = wheels.glob(f"*cp3{sys.version_info.minor}*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    source = folder / "stand_in.c"
    symbols = [*PLAIN, *(f"{name}_INTERNAL" for name in MAKERS)]
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
    for library in LIBRARIES:
        shared = f"lib{library}.so.{number}"
        built = folder / "tensorrt_bindings" / shared
        command = [compiler, "-shared", "-fPIC", f"-Wl,-soname,{shared}"]
        subprocess.run([*command, "-o", str(built), str(source)], check=True, timeout=PATIENCE_S)
    return folder


@pytest.mark.parametrize("name", WHEELS)
def test_each_tensorrt_has_what_the_code_takes(
    name: str, compiler: str, pytestconfig: pytest.Config
) -> None:
    if sys.platform != "linux":
        pytest.skip("the bindings are for Linux")
    cache = pytestconfig.cache
    assert cache is not None
    folder = bindings(name, compiler, cache.mkdir("tensorrt-bindings"))
    found = probe("tensorrt_bindings", folder)
    requirement, _, typed_only = WHEELS[name]
    assert found["version"] == requirement.partition("==")[2]
    check(found)
    assert not found["ahead"]
    untyped = {"BuilderFlag.FP16", "BuilderFlag.INT8"}
    untyped.add("NetworkDefinitionCreationFlag.EXPLICIT_BATCH")
    assert untyped.isdisjoint(found["optional"]) is not typed_only
    assert ({"CUBLAS", "CUBLAS_LT", "CUDNN"} <= set(found["sources"])) is not typed_only


def test_tensorrt_rtx_has_what_the_code_takes(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    found = probe("tensorrt_rtx", tmp_path)
    check(found)
    assert found["ahead"]
    assert found["sources"] == ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    assert {"7.5", "8.6", "8.9", "12.0"} <= set(found["capabilities"])


def check(found: dict[str, Any]) -> None:
    """Everything required is there, and whatever a capability test lets through."""
    assert found["required"] == []
    lacking = set(found["optional"])
    owner_of = {name: owner for owner, names in surface.OPTIONAL.items() for name in names}
    for owner, names in surface.OPTIONAL.items():
        for name, guard in names.items():
            asked = guard.removeprefix("not ")
            offered = f"{owner_of[asked]}.{asked}" not in lacking
            if offered is not guard.startswith("not "):
                assert f"{owner}.{name}" not in lacking, name
    assert found["typed"]
    assert found["flags"] & ~1 in (0, 2)  # one bit: the first or the second of the enumeration
    assert found["lines"] == [[2, "b"], [1, "c"]]
    assert found["steps"] == [True, False]
    assert found["names"] == ["HALF", "CONVOLUTION"]


def trees() -> list[ast.AST]:
    paths = [path for source in SOURCES for path in sorted(REPOSITORY.glob(source))]
    return [ast.parse(path.read_text()) for path in paths]


def declared(owner: str) -> set[str]:
    return set(surface.REQUIRED.get(owner, ())) | set(surface.OPTIONAL.get(owner, ()))


def uses() -> set[tuple[str, str]]:
    """(class, name) of every attribute taken of a TensorRT variable, and of `trt.CLASS`."""
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute):
                continue
            inside = node.value
            if isinstance(inside, ast.Name) and inside.id in surface.VARIABLES:
                found.add((surface.VARIABLES[inside.id], node.attr))
            elif isinstance(inside, ast.Attribute) and ast.unparse(inside.value) == "trt":
                found.add((inside.attr, node.attr))
    return found


#: Of classes that ours derive from: Python's own.
_INHERITED = {("ILogger", "__init__"), ("IProgressMonitor", "__init__")}


def test_the_code_takes_nothing_that_is_not_declared() -> None:
    undeclared = {(owner, name) for owner, name in uses() if name not in declared(owner)}
    assert undeclared == _INHERITED


def test_nothing_declared_is_unused() -> None:
    taken = uses()
    texts = {
        node.value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for owner in {*surface.REQUIRED, *surface.OPTIONAL}:
        for name in declared(owner):
            by_text = owner == "BuilderFlag" and name in texts
            assert (owner, name) in taken or by_text, f"{owner}.{name}"


def test_what_not_every_version_has_is_asked_for_first() -> None:
    asked = {
        node.args[1].value
        for tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "hasattr"
        and isinstance(node.args[1], ast.Constant)
    }
    guards = {guard for names in surface.OPTIONAL.values() for guard in names.values()}
    assert {guard.removeprefix("not ") for guard in guards} <= asked


def test_no_branch_looks_at_a_version_number() -> None:
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare):
                text = ast.unparse(node)
                assert "__version__" not in text, text
                assert "tensorrt-rtx" not in text, text
