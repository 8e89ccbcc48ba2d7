"""What a CPU computes natively, by its flags; and that int8 is exact, or refused, without VNNI."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import numpy as np
import onnxruntime

from bundle_factory import tiny_model
from ctedge.errors import RuntimeUnavailable
from ctedge.runtimes import cpu_flags
from ctedge.runtimes.cpu_flags import has_native_bf16, require_native, why_int8_saturates
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.openvino_runtime import OpenVinoRuntime
from engine_factory import SIZE, chain
from patience import PATIENCE_S

#: A level more or less where a sum lies between two: slabs add in another order.
INT8_ROUNDING = 1e-3

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)
may_run_int8 = pytest.mark.skipif(
    why_int8_saturates() is not None, reason="this CPU has no VNNI to leave out"
)

Writes = Callable[[str], None]


@pytest.fixture
def cpuinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Writes:
    """Plays /proc/cpuinfo."""
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)

    def write(text: str) -> None:
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(cpu_flags, "CPUINFO", tmp_path / "cpuinfo")

    return write


#: The lines of real machines, shortened.
CPUS = {
    "Haswell": ("flags\t\t: fpu avx avx2 fma", False, True),
    "Skylake-X": ("flags\t\t: fpu avx2 avx512f avx512bw avx512vl", False, True),
    "Zen 3": ("flags\t\t: fpu avx2 vaes vpclmulqdq", False, True),
    "Cascade Lake": ("flags\t\t: fpu avx2 avx512f avx512_vnni", False, False),
    "Alder Lake": ("flags\t\t: fpu avx2 avx_vnni", False, False),
    "Zen 4": ("flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni", True, False),
    "Sapphire Rapids": ("flags\t\t: fpu avx512_vnni amx_bf16 amx_tile amx_int8", True, False),
    "Graviton": ("Features\t: fp asimd asimddp i8mm bf16", True, False),
    "nothing said": ("", True, False),
}


@pytest.mark.parametrize("name", CPUS)
def test_the_flags_of_a_cpu(cpuinfo: Writes, name: str) -> None:
    line, bf16, saturates = CPUS[name]
    cpuinfo(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert has_native_bf16() is bf16
    assert (why_int8_saturates() is not None) is saturates
    for precision, able in (("fp32", True), ("bf16", bf16), ("int8", not saturates)):
        if able:
            require_native(precision)
        else:
            with pytest.raises(RuntimeUnavailable, match="expected") as met:
                require_native(precision)
            assert "leave precision out" in str(met.value.fix)


def test_a_system_without_such_a_file_says_nothing(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(cpu_flags, "CPUINFO", tmp_path / "absent")
    assert has_native_bf16()
    assert why_int8_saturates() is None


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("isa", "saturates"), [("AVX2", True), ("avx512_core", True), ("AVX2_VNNI", False)]
)
def test_what_onednn_was_told_to_leave_out(cpuinfo, monkeypatch, variable, isa, saturates) -> None:
    cpuinfo(CPUS["Zen 4"][0])
    monkeypatch.setenv(variable, isa)
    assert (why_int8_saturates() is not None) is saturates
    assert not saturates or isa in str(why_int8_saturates())


@needs_openvino
def test_openvino_refuses_int8_on_such_a_cpu_before_it_looks_at_the_file(cpuinfo: Writes) -> None:
    cpuinfo(CPUS["Haswell"][0])
    with pytest.raises(RuntimeUnavailable, match="int8 saturates on this CPU") as met:
        OpenVinoRuntime(b"", name="small", precision="int8")
    assert "avx2" in str(met.value.found)


@needs_openvino
@may_run_int8
def test_doctor_shows_a_refusal_and_no_broken_bundle(tmp_path: Path) -> None:
    """In a process of its own, whose oneDNN really leaves VNNI out."""
    code = (
        "from ctedge.bundle.model_bundle import ModelBundle\n"
        "from ctedge.runtimes.choice import choose\n"
        "made = choose(ModelBundle.load('pneumonia'), device='cpu')\n"
        "print(made.runtime.name, *made.verdicts, sep='\\n')\n"
        "assert not [one for one in made.verdicts if one.state == 'failed'], made.verdicts\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stderr
    assert not answer.stdout.startswith("openvino-cpu-int8\n")
    assert "openvino-cpu-int8: refused: OpenVINO's int8 saturates" in answer.stdout


@pytest.mark.parametrize("name", ["Haswell", "Zen 4"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_runtime_is_told_to_add_bytes_exactly(cpuinfo, monkeypatch, name, precision) -> None:
    """By default it saturates as well without VNNI; this entry ends that, and costs time."""
    given: list[bool] = []
    real = onnxruntime.InferenceSession

    def opened(model: bytes, options: onnxruntime.SessionOptions, **others: object) -> object:
        try:
            given.append(options.get_session_config_entry("session.x64quantprecision") == "1")
        except RuntimeError:  # there is no such entry
            given.append(False)
        return real(model, options, **others)

    cpuinfo(CPUS[name][0])
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    OnnxRuntime(tiny_model().SerializeToString(), name="small", precision=precision).close()
    assert given == [precision == "int8" and name == "Haswell"]


def test_exactly_added_bytes_are_the_same_answers(cpuinfo: Writes, rng) -> None:
    """Where the CPU has VNNI both ways are exact; the one without is that of the file as it is."""
    model = chain("int8")
    batch = rng.random((2, 1, SIZE, SIZE, SIZE), np.float32)
    answers = {}
    for name in ("Haswell", "Zen 4"):
        cpuinfo(CPUS[name][0])
        opened = OnnxRuntime(model, name="small", precision="int8")
        answers[name] = opened.run(batch)["logit"]
        opened.close()
    np.testing.assert_allclose(answers["Haswell"], answers["Zen 4"], atol=INT8_ROUNDING)
