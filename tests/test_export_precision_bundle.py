"""From a bundle to the same bundle in further precisions: members, gates, card, and verify."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from typer.testing import CliRunner

from bundle_factory import replace_member
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    GateFailed,
    RuntimeUnavailable,
)
from ctedge.phantom import draw_patient, render, write_nifti
from ctedge_export.card import card_with_variants
from ctedge_export.cli import app
from ctedge_export.precision.precision import export_precision
from ctedge_export.verify import Row, verify_bundle
from precision_factory import every_precision, plain

ALL = ("fp16", "bf16", "int8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain(tmp_path_factory.getbasetemp()).path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return every_precision(tmp_path_factory.getbasetemp())


def test_each_precision_is_a_member_with_its_own_gates(made: ModelBundle) -> None:
    assert set(made.variants) == set(ALL)
    assert made.name == "plain"  # changed where it stands, it keeps its name
    for precision in ALL:
        variant = made.variant(precision)
        assert variant.member == f"model.{precision}.onnx"
        assert made.model_bytes(precision) == made.member(variant.member)
        record = made.manifest["variants"][precision]
        decides = f"onnxruntime-cpu-{precision}{'' if precision == 'int8' else '-rounded'}"
        assert variant.runtimes[decides] is True
        gates = record["gates"]["runtimes"][decides]
        assert len(gates["numeric"]["inputs"]) >= 32
        assert "gated against Keras" in gates["numeric"]["reference"]
        assert gates["task"]["scans"] == 24
        assert gates["task"]["source"] == "24 phantoms"
    assert made.model_bytes() == made.model
    calibration = made.manifest["variants"]["int8"]["calibration"]
    assert set(calibration["methods"]) == {"min-max", "percentile", "entropy", "error"}
    assert calibration["chosen"] in calibration["methods"]
    assert calibration["share_of_multiplications"] == 1
    assert made.gates["structural"]["passed"] is True
    assert (made.path / "engines" / "device.engine").read_bytes() == b"engine"


def test_the_card_tells_of_every_precision(made: ModelBundle) -> None:
    card = made.card
    assert card.index("## Conversion") < card.index("## Other precisions") < card.index("## Train")
    for words in (
        "### FP16",
        "### BF16",
        "### INT8",
        "`model.int8.onnx`, opset 17",
        "convolutions kept in float: none",
        "multiplications in it: 100.0%",
        "calibrated on: 32 phantoms",
        "- onnxruntime-cpu-int8 (onnxruntime ",
        " inputs: max |dscore| ",
        "(allowed: 2)",
        "task gate on 24 phantoms: |dMAE| ",
    ):
        assert words in card, words
    again = card_with_variants(card, made.manifest["variants"])
    assert again == card
    fewer = card_with_variants(card, {"fp16": made.manifest["variants"]["fp16"]})
    assert "### INT8" not in fewer
    assert "### By hand" in fewer
    short = card_with_variants("# x\n", made.manifest["variants"])
    assert short.startswith("# x\n\n## Other precisions\n")
    assert card_with_variants(short, made.manifest["variants"]) == short


def test_one_input_is_not_told_as_several(made: ModelBundle) -> None:
    record = copy.deepcopy(made.manifest["variants"]["fp16"])
    for gates in record["gates"]["runtimes"].values():
        gates["numeric"]["inputs"] = gates["numeric"]["inputs"][:1]
    assert "numeric gate over 1 input: " in card_with_variants("# x\n", {"fp16": record})


def test_a_precision_that_is_not_there_is_said_to_be_missing(source: Path) -> None:
    bundle = ModelBundle.load(source)
    assert bundle.variants == ()
    with pytest.raises(RuntimeUnavailable, match="export precision"):
        bundle.model_bytes("int8")


def test_verify_runs_every_gate_again(made: ModelBundle, tmp_path: Path) -> None:
    copy = tmp_path / "copy.ctedge"
    shutil.copytree(made.path, copy, ignore=shutil.ignore_patterns("engines"))
    done = CliRunner().invoke(app, ["verify", str(copy)], catch_exceptions=False)
    assert "digests verified" in done.stderr
    assert "onnxruntime-cpu-int8" in done.stdout
    assert "FAILED" not in done.stdout


def test_verify_finds_another_network_in_a_variant(made: ModelBundle, tmp_path: Path) -> None:
    copy = tmp_path / "spoilt.ctedge"
    shutil.copytree(made.path, copy)
    model = onnx.load_from_string(made.model_bytes("int8"))
    for weight in model.graph.initializer:
        if weight.name == "conv2.input.scale":
            values = onnx.numpy_helper.to_array(weight) / 40
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    replace_member(copy, "model.int8.onnx", model.SerializeToString())
    shown: list[Row] = []
    with pytest.raises(GateFailed, match="int8"):
        verify_bundle(copy, show=shown.extend)
    assert {row.runtime for row in shown if not row.passed} >= {"onnxruntime-cpu-int8"}


def test_a_users_scans_join_the_gates(source: Path, tmp_path: Path) -> None:
    for seed, share in ((1, 0.0), (2, 0.3)):
        phantom = render(draw_patient(seed, lesion_share=share), shape=(48, 48, 48))
        write_nifti(phantom, tmp_path / f"{seed}.nii.gz")
    (tmp_path / "labels.csv").write_text("path,score\n1.nii.gz,0\n2.nii.gz,30\n")
    bundle = export_precision(source, ["bf16"], output=tmp_path / "x.ctedge", data=tmp_path)
    (record, *_) = bundle.manifest["variants"]["bf16"]["gates"]["runtimes"].values()
    assert record["task"]["source"] == "2 given scans"
    names = {shown["name"] for shown in record["numeric"]["inputs"]}
    assert len(names) == 34
    assert not any("nii" in name for name in names)
