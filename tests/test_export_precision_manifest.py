"""What a manifest says of precisions is read strictly; older manifests have none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx

from bundle_factory import read_document, replace_member, seal, tiny_model, write_tiny
from ctedge.bundle.files import shipped_bundles
from ctedge.bundle.manifest import SCHEMA_VERSION
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.cli.inspect import inspect
from ctedge.errors import InvalidBundle, OutputError
from ctedge.runtimes.verification import VARIANT_TOLERANCES, tolerances
from ctedge_export.writer import MAX_GOLDEN_BYTES, write_bundle

RUNTIME = {"version": "1", "numeric": {"passed": True}, "task": {"passed": True}}
GATES = {"structural": {"passed": True}, "runtimes": {"onnxruntime-cpu-fp16-rounded": RUNTIME}}
FP16 = {
    "member": "model.fp16.onnx",
    "opset": 17,
    "kept_float": ["conv1"],
    "weights": {"overflow": 0},
    "calibration": None,
    "gates": GATES,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny bundle with a variant."""
    path = write_tiny(tmp_path / "tiny.ctedge").path
    document = read_document(path)
    assert document["schema_version"] == SCHEMA_VERSION == 3
    document["variants"] = {"fp16": FP16}
    seal(path, document)
    replace_member(path, "model.fp16.onnx", tiny_model().SerializeToString())
    return path


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = read_document(folder)
    change(document)
    seal(folder, document)


def test_a_variant_is_read(folder: Path) -> None:
    bundle = ModelBundle.load(folder)
    assert bundle.variants == ("fp16",)
    variant = bundle.variant("fp16")
    assert (variant.opset, variant.kept_float) == (17, ("conv1",))
    assert dict(variant.runtimes) == {"onnxruntime-cpu-fp16-rounded": True}
    assert bundle.model_bytes("fp16") == (folder / "model.fp16.onnx").read_bytes()


def test_inspect_shows_precisions(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    inspect(str(folder))
    assert "conv1 in float; gates passed: onnxruntime-cpu-fp16" in capsys.readouterr().out


def test_a_manifest_of_version_2_has_no_variants(folder: Path) -> None:
    def older(document: dict[str, Any]) -> None:
        document["schema_version"] = 2

    changed(folder, older)
    with pytest.raises(InvalidBundle, match="variants"):
        ModelBundle.load(folder)

    def without(document: dict[str, Any]) -> None:
        del document["variants"], document["members"]["model.fp16.onnx"]

    changed(folder, without)
    (folder / "model.fp16.onnx").unlink()
    assert ModelBundle.load(folder).variants == ()


def test_the_shipped_bundles_are_read() -> None:
    for name in shipped_bundles():
        assert set(ModelBundle.load(name).variants) <= set(VARIANT_TOLERANCES)


@pytest.mark.parametrize("name", shipped_bundles())
def test_the_shipped_bundles_carry_fp16_and_int8_with_their_gates_passed(name: str) -> None:
    """On what the choice of a runtime comes to (INT8), and on its reference (FP16)."""
    bundle = ModelBundle.load(name)
    assert {one: dict(bundle.variant(one).runtimes) for one in bundle.variants} == {
        "fp16": {"onnxruntime-cpu-fp16-rounded": True},
        "int8": {"openvino-cpu-int8": True, "onnxruntime-cpu-int8": True},
    }


def test_both_models_are_shipped() -> None:
    assert sorted(shipped_bundles()) == ["pneumonia", "severity"]


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("", {"fp8": FP16}, "'variants'"),
        ("", [], "'variants'"),
        ("fp16", {}, "variants.fp16"),
        ("fp16/member", "model.onnx", "variants.fp16.member"),
        ("fp16/member", "model.int8.onnx", "variants.fp16.member"),
        ("fp16/opset", "17", "variants.fp16.opset"),
        ("fp16/kept_float", "conv1", "variants.fp16.kept_float"),
        ("fp16/kept_float", [1], "variants.fp16.kept_float"),
        ("fp16/weights", {"overflow": -1}, "variants.fp16.weights"),
        ("fp16/weights", {"overflow": True}, "variants.fp16.weights"),
        ("fp16/calibration", [], "variants.fp16.calibration"),
        ("fp16/gates", {}, "variants.fp16.gates"),
        ("fp16/gates/structural", {"passed": 1}, "variants.fp16.gates.structural"),
        ("fp16/gates/structural", {"passed": False}, "did not pass"),
        ("fp16/gates/runtimes", {}, "variants.fp16.gates.runtimes"),
        ("fp16/gates/runtimes", {"x": {**RUNTIME, "task": {"passed": False}}}, "did not pass"),
        ("fp16/gates/runtimes", {"x": {**RUNTIME, "task": None}}, "runtimes.x.task"),
        ("fp16/gates/runtimes", {"x": {**RUNTIME, "more": 1}}, "runtimes.x"),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    folder: Path, path: str, value: object, named: str
) -> None:
    def change(document: dict[str, Any]) -> None:
        *parents, last = ["variants", *path.split("/")] if path else ["variants"]
        target = document
        for key in parents:
            target = target[key]
        target[last] = value

    changed(folder, change)
    with pytest.raises(InvalidBundle) as caught:
        ModelBundle.load(folder)
    assert named in str(caught.value)


def test_a_variant_takes_and_gives_what_fp32_does(folder: Path) -> None:
    model = tiny_model("severity")
    replace_member(folder, "model.fp16.onnx", model.SerializeToString())
    with pytest.raises(InvalidBundle, match="not what its manifest says"):
        ModelBundle.load(folder)
    model = tiny_model()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    replace_member(folder, "model.fp16.onnx", model.SerializeToString())
    with pytest.raises(InvalidBundle, match="not what its manifest says"):
        ModelBundle.load(folder)


def test_tolerances_are_those_of_the_precision() -> None:
    assert tolerances("fp32")["logit"] == 1e-4
    assert tolerances("fp16") == {"probability": 5e-3, "score": 0.5}
    assert tolerances("bf16") == tolerances("int8") == {"probability": 2e-2, "score": 2.0}


def test_golden_cases_have_a_size_that_travels(tmp_path: Path) -> None:
    members = {"golden/x.npy.gz": bytes(MAX_GOLDEN_BYTES + 1)}
    with pytest.raises(OutputError, match="too large"):
        write_bundle(tmp_path / "x.ctedge", description={}, members=members)
