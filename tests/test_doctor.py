"""`ctedge doctor` in odd environments: what it calls broken, and what is only missing."""

from __future__ import annotations

import ctypes
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from command_here import call
from conftest import REPOSITORY
from ctedge import ModelBundle, diagnosis
from ctedge.bundle import files as shipped
from ctedge.diagnosis import IMPORTED, PACKAGES, Finding, examine
from ctedge.engines.machine import Machine
from ctedge.errors import RuntimeUnavailable
from ctedge.extras import MORE_OF_BOTH, version_of
from ctedge.runtimes.choice import choose
from cuda_fake import FakeDriver
from cuda_header import FakeNvml

NO_DEVICE = 100

#: Extras that are one package with another name elsewhere, or have a row of their own.
_ELSEWHERE = {"tensorflow", "tensorflow-cpu", "torch", "openvino", "tensorrt", "tensorrt-rtx-cu13"}

Play = Callable[[FakeDriver | None], None]


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "shipped_bundles", lambda: ())


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """A machine with this driver, or with none."""
    real = ctypes.CDLL

    def played(driver: FakeDriver | None) -> None:
        def load(name: str, *arguments: object, **named: object) -> object:
            if name not in ("libcuda.so.1", "libnvidia-ml.so.1"):
                return real(name, *arguments, **named)  # type: ignore[arg-type]
            if driver is None:
                raise OSError(f"{name}: cannot open shared object file")
            return driver if name == "libcuda.so.1" else FakeNvml()

        monkeypatch.setattr(ctypes, "CDLL", load)

    return played


def row(subject: str) -> Finding:
    return next(one for one in examine() if one.subject == subject)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("raise RuntimeError('it does not start')", "RuntimeError: it does not start"),
        ("import tensorrt_libs_of_another_name", "ModuleNotFoundError"),
        ("raise OSError('libnvinfer.so.10')", "OSError: libnvinfer.so.10"),
        ("", "AttributeError"),
    ],
)
def test_a_tensorrt_that_breaks_while_it_is_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, said: str
) -> None:
    (tmp_path / "tensorrt.py").write_text(f"{module}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    found = row("tensorrt")
    assert found.state == "broken"
    assert said in found.detail
    assert "ctedge[tensorrt]" in str(found.fix)
    assert "tensorrt" not in Machine.here().versions
    sys.modules.pop("tensorrt", None)  # before the patch puts back what was there


@pytest.mark.parametrize(("name", "module"), IMPORTED.items(), ids=list(IMPORTED))
def test_a_package_that_cannot_be_imported_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    if version_of(name) is None:
        pytest.skip(f"{name} is not installed")
    assert row(name).state == "ok"
    package = module.partition(".")[0]
    (tmp_path / f"{package}.py").write_text("raise ImportError('[a:x:b] libz.so.9')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for loaded in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, loaded)
    found = row(name)
    assert found.state == "broken"
    assert "ImportError: [a:x:b] libz.so.9" in found.detail
    assert str(found.fix).startswith(f"pip uninstall -y {name}; pip install ")
    answer = call("doctor")
    assert answer.returncode == 1
    assert f"!!  {name}" in answer.stdout
    assert "[a:x:b]" in answer.stdout
    (tmp_path / f"{package}.py").write_text("raise MemoryError\n")
    assert row(name).fix == MORE_OF_BOTH


def test_one_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = row("tensorrt")
    assert (found.state, "no Python package tensorrt" in found.detail) == ("missing", True)


@pytest.fixture
def without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    real = diagnosis.version_of

    def version_of(name: str) -> str | None:
        return None if name in ("onnxruntime", "onnxruntime-gpu") else real(name)

    monkeypatch.setattr("ctedge.diagnosis.version_of", version_of)
    monkeypatch.setattr("ctedge.runtimes.onnxruntime_package.version_of", version_of)


@pytest.mark.usefixtures("without_onnxruntime")
def test_openvino_alone_is_no_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", exc_type=ImportError)
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    monkeypatch.setattr(diagnosis, "shipped_bundles", lambda: (str(bundle),))
    answer = call("doctor", "--json")
    findings = {one["subject"]: one for one in reversed(json.loads(answer.stdout))}
    assert findings["ONNX Runtime"]["state"] == "missing"
    assert "another runtime runs the models" in findings["ONNX Runtime"]["detail"]
    assert findings["model tiny"]["detail"].startswith("digests hold; openvino-cpu-")
    assert [one for one in findings.values() if one["state"] == "broken"] == []
    assert answer.returncode == 0


@pytest.mark.usefixtures("without_onnxruntime")
def test_no_runtime_at_all_is_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    monkeypatch.setattr(diagnosis, "shipped_bundles", lambda: (str(bundle),))
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = row("ONNX Runtime")
    assert (found.state, found.detail) == ("broken", "none is installed")
    assert found.fix == 'pip install "ctedge[cpu]"'


def test_two_of_them_are_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctedge.runtimes.onnxruntime_package.version_of", lambda name: "1.30")
    found = row("ONNX Runtime")
    assert (found.state, "overwrite each other" in found.detail) == ("broken", True)
    assert str(found.fix).startswith("pip uninstall -y onnxruntime onnxruntime-gpu; ")


def test_a_driver_that_sees_no_gpu_is_not_ok(play: Play) -> None:
    driver = FakeDriver()
    driver.fail("cuInit", NO_DEVICE)
    play(driver)
    found = row("NVIDIA driver")
    assert found.state == "missing"
    assert found.detail == f"the NVIDIA driver answers cuInit: CUresult {NO_DEVICE}; CPU only"


def test_a_driver_without_gpus_is_not_ok(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeDriver, "_cuDeviceGetCount", lambda self, count: None)
    play(FakeDriver())
    found = row("NVIDIA driver")
    assert found.state == "missing"
    assert "cuDeviceGetCount: no GPU" in found.detail


def test_no_driver_is_missing_and_a_gpu_is_named(play: Play) -> None:
    play(None)
    assert row("NVIDIA driver").detail.startswith("no NVIDIA driver (libcuda.so.1: ")
    play(FakeDriver())
    found = row("NVIDIA driver")
    assert found.state == "ok"
    assert found.detail == (
        "580.65, for CUDA 13.0, sees NVIDIA RTX A4000 (compute capability 8.6, 16 GiB)"
    )


def test_what_needs_a_gpu_says_what_to_do_without_one(play: Play, tmp_path: Path) -> None:
    play(None)
    bundle = ModelBundle.load(write_tiny(tmp_path / "tiny.ctedge").path)
    with pytest.raises(RuntimeUnavailable, match="no NVIDIA driver") as met:
        choose(bundle, runtime="onnxruntime", precision="fp16")
    assert "leave out device and precision: no CPU runs fp16" in str(met.value.fix)
    with pytest.raises(RuntimeUnavailable, match="no NVIDIA driver") as met:
        choose(bundle, device="cuda")
    assert "the device cpu" in str(met.value.fix)


def test_an_installation_without_its_models_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert row("models").state == "broken"
    assert "--force-reinstall" in str(row("models").fix)
    monkeypatch.setattr(shipped, "shipped_bundles", lambda: ())
    answer = call("predict", "scan.nii.gz")
    assert answer.returncode == 1
    assert "--force-reinstall" in answer.stderr


def test_your_own_model_is_looked_at_by_name(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "tiny.ctedge").path
    (path / "MODEL_CARD.md").write_text("changed")
    answer = call("doctor", path)
    assert answer.returncode == 1
    assert "model tiny" in answer.stdout
    (finding,) = [one for one in examine([path]) if one.subject.startswith("model")]
    assert "expected" in finding.detail
    assert "reinstall" not in str(finding.fix)


def test_every_package_that_an_extra_names_has_a_row() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    base = re.findall(r"^dependencies = (\[.*\])$", text, re.MULTILINE)
    extras = text.partition("[project.optional-dependencies]")[2].partition("[project.scripts]")[0]
    extras = extras.partition("\ndev = [")[0]
    named = {
        re.match(r"[\w-]+", one)[0]  # type: ignore[index]
        for one in re.findall(r'"([^"]+)"', re.sub(r"#.*", "", "".join(base) + extras))
    } - {"ctedge"}
    listed = {name for name, _, _ in PACKAGES}
    assert named - listed - _ELSEWHERE == {"typer", "rich"}, "without these doctor does not start"
    of_extra = dict(re.findall(r"^([\w-]+) = (\[.*?\])$", extras, re.MULTILINE | re.DOTALL))
    for name, _, extra in PACKAGES:
        assert extra is None or re.search(rf'"{name}\b', of_extra[extra]) or name == "keras", name
