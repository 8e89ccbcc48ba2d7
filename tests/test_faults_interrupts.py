"""Ctrl-C while a runtime is imported: an interruption, no broken package and no slower runtime."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ctedge.runtimes.choice as choice_module
from bundle_factory import write_tiny
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import MissingExtra, RuntimeUnavailable
from ctedge.extras import require
from ctedge.runtimes.choice import choose, survey
from ctedge.runtimes.openvino_package import devices
from patience import PATIENCE_S
from tensorrt_stage import set_stage

#: What pybind11 makes of an interruption, and what a package may make of that.
FROM_CAUSE = "raise ImportError('initialization failed') from error"
FROM_CONTEXT = "raise ImportError('initialization failed')"
HIDDEN = "raise ImportError('initialization failed') from None"

#: Ctrl-C within the native initialisation of a module, which takes longer than the half of a
#: millisecond after which another process presses it. Before and after it, it would be an
#: interruption without further ado.
CHILD = """
import importlib.machinery, os, sys, time

begun, begin = os.pipe()
me = os.getpid()
pressing = os.fork()
if not pressing:
    os.read(begun, 1)
    time.sleep(0.0005)
    os.kill(me, 2)
    os._exit(0)

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.runtimes.choice import choose

loader = importlib.machinery.ExtensionFileLoader
real = loader.exec_module

def initialise(self, module):
    if module.__name__.endswith(sys.argv[2]):
        print("armed", flush=True)
        os.write(begin, b".")
    return real(self, module)

loader.exec_module = initialise
found = choose(ModelBundle.load(sys.argv[1]), device="cpu", runtime=sys.argv[3] or None)
os.waitpid(pressing, 0)  # on a busy machine it is pressed as late as that
print(found.runtime.name)
"""


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return write_tiny(tmp_path / "tiny.ctedge")


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a module before the installed one, whose import ends as one that is interrupted does."""

    def make(name: str, *, by: str = "KeyboardInterrupt", ends: str = FROM_CAUSE) -> None:
        folder = tmp_path / "packages"
        folder.mkdir(exist_ok=True)
        code = f"try:\n    raise {by}\nexcept BaseException as error:\n    {ends}\n"
        (folder / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(folder)

    return make


@pytest.mark.parametrize("ends", [FROM_CAUSE, FROM_CONTEXT, HIDDEN])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_interrupted_import_is_an_interruption(bundle, broken, runtime, ends):
    broken(runtime, ends=ends)
    with pytest.raises(KeyboardInterrupt):
        choose(bundle, runtime=runtime, device="cpu")


def test_it_does_not_go_on_with_what_is_slower(bundle, broken):
    broken("openvino")
    for look in (lambda: choose(bundle, device="cpu"), lambda: survey(bundle), devices):
        with pytest.raises(KeyboardInterrupt):
            look()


def test_the_exit_of_a_signal_handler_keeps_its_code(bundle, broken):
    broken("openvino", by="SystemExit(7)")
    with pytest.raises(SystemExit) as met:
        choose(bundle, device="cpu")
    assert met.value.code == 7


def test_tensorrt_and_other_packages(tmp_path, monkeypatch, broken):
    stage = set_stage(monkeypatch, tmp_path, "10.3")
    stage.put()
    broken("tensorrt")
    with pytest.raises(KeyboardInterrupt):
        stage.load()
    broken("interrupted_package")
    with pytest.raises(KeyboardInterrupt):
        require("interrupted_package", extra="lungs", purpose="testing")


def test_a_runtime_that_makes_another_error_of_it(bundle, monkeypatch):
    def interrupted(*_):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeUnavailable("it does not load") from RuntimeError(error)

    monkeypatch.setattr(choice_module, "find_device", lambda: "a GPU")
    monkeypatch.setattr(choice_module, "_open_engine", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose(bundle)


def test_an_interruption_that_was_met_before_is_not_raised_again(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(RuntimeUnavailable, match="OpenVINO is not installed"):
            choose(bundle, runtime="openvino")
        with pytest.raises(MissingExtra):
            require("no_such_package", extra="lungs", purpose="testing")


@pytest.mark.parametrize(
    ("package", "native", "named"),
    [("onnxruntime", "pybind11_state", "onnxruntime"), ("openvino", "_pyopenvino", "")],
)
def test_a_signal_within_the_native_module(bundle, package, native, named):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, bundle.path, native, named],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert answer.stdout == "armed\n"
    assert answer.returncode == -signal.SIGINT
    assert answer.stderr.rstrip().endswith("KeyboardInterrupt")
