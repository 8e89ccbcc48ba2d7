"""From a bundle to the same bundle in further precisions, and what is refused."""

from __future__ import annotations

import copy
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from typer.testing import CliRunner

from bundle_factory import read_document, replace_member, seal, write_tiny
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    CTEdgeError,
    GateFailed,
    InvalidBundle,
    OutputError,
    RuntimeUnavailable,
)
from ctedge.phantom import draw_patient, render, write_nifti
from ctedge_export.card import card_with_variants
from ctedge_export.cli import app
from ctedge_export.lock import written_by_one
from ctedge_export.precision import int8
from ctedge_export.precision.precision import export_precision
from ctedge_export.verify import Row, verify_bundle
from made_once import made_once
from precision_factory import Weights, plain, write

ALL = ("fp16", "bf16", "int8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain(tmp_path_factory.getbasetemp()).path


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """All precisions of the plain bundle, made by the command, in a bundle with an engine."""

    def make(target: Path) -> None:
        shutil.copytree(source, target)
        (target / "engines").mkdir()
        (target / "engines" / "device.engine").write_bytes(b"engine")
        arguments = ["precision", str(target), "--to", "fp16", "--to", "bf16", "--to", "int8"]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        assert done.stdout == ""
        said = ("subnormal", "percentile calibration", "onnxruntime-cpu-int8: passed", "written")
        for words in said:
            assert words in done.stderr

    return ModelBundle.load(made_once(tmp_path_factory.getbasetemp(), "all.ctedge", make))


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


def too_large_inside(drawn: Weights) -> None:
    """conv2 of ones gives more than the largest half; conv3 takes it back."""
    drawn["conv2.weight"][0] = 4e3
    drawn["conv3.weight"][:, 0] /= 1e5


def too_large_weights(drawn: Weights) -> None:
    drawn["conv1.weight"][0] = 1e5
    drawn["conv2.weight"][:, 0] /= 1e6


def test_a_layer_with_weights_beyond_half_stays_float(tmp_path: Path) -> None:
    """Its activations overflow the next layer's input as well, which bisection finds."""
    write(tmp_path / "x.ctedge", change=too_large_weights)
    said: list[str] = []
    bundle = export_precision(tmp_path / "x.ctedge", ["fp16"], say=said.append)
    assert bundle.variant("fp16").kept_float == ("conv1", "conv2")
    assert bundle.manifest["variants"]["fp16"]["weights"]["overflow"] == 27
    assert any("conv2 breaks it and stays in float" in line for line in said)


def test_what_cannot_be_mended_leaves_nothing_unless_kept(tmp_path: Path) -> None:
    def everywhere(drawn: Weights) -> None:
        for n, size in ((1, 1e5), (2, 1e-1), (3, 1e5), (4, 1e5)):
            drawn[f"conv{n}.weight"] *= size
        drawn["dense1.weight"] /= 1e14

    write(tmp_path / "x.ctedge", change=everywhere)
    before = (tmp_path / "x.ctedge" / "manifest.json").read_bytes()
    for options in ([], ["--keep-failed"]):
        arguments = ["precision", str(tmp_path / "x.ctedge"), "--to", "fp16", *options]
        done = CliRunner().invoke(app, arguments)
        assert isinstance(done.exception, GateFailed), done.exception
        assert done.exception.exit_code == 3
        assert "first layer that departs" in str(done.exception)
        assert (tmp_path / "x.ctedge" / "manifest.json").read_bytes() == before
        left = {path.name for path in tmp_path.iterdir()} - {"x.ctedge"}
        assert left == ({"x.failed"} if options else set())
    kept = {path.name for path in (tmp_path / "x.failed").iterdir()}
    assert kept == {"gate.json", "model.fp16.onnx"}


def test_a_wrong_scale_fails_naming_the_layer(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: onnx.ModelProto, ranges: dict[str, float], **options: object) -> bytes:
        clipped = dict.fromkeys(("volume", "pool1", "pool2"), 0.01)
        return int8_quantise(model, {**ranges, **clipped}, **options)

    int8_quantise = int8.quantise
    monkeypatch.setattr(int8, "quantise", wrong)
    # Two of the three layers that read these may stay in float; the one that is left is named.
    with pytest.raises(GateFailed, match=r"first layer that departs: conv[123] \("):
        export_precision(source, ["int8"], output=tmp_path / "x.ctedge")
    assert list(tmp_path.iterdir()) == []


def test_a_users_scans_join_the_gates(source: Path, tmp_path: Path) -> None:
    for seed, share in ((1, 0.0), (2, 0.3)):
        phantom = render(draw_patient(seed, lesion_share=share), shape=(48, 48, 48))
        write_nifti(phantom, tmp_path / f"{seed}.nii.gz")
    (tmp_path / "labels.csv").write_text("path,score\n1.nii.gz,0\n2.nii.gz,30\n")
    bundle = export_precision(source, ["bf16"], output=tmp_path / "x.ctedge", data=tmp_path)
    (record, *_) = bundle.manifest["variants"]["bf16"]["gates"]["runtimes"].values()
    assert record["task"]["source"] == "2 scans that were given"
    names = {shown["name"] for shown in record["numeric"]["inputs"]}
    assert len(names) == 34
    assert not any("nii" in name for name in names)


def without_gate(folder: Path) -> None:
    document = read_document(folder)
    document["gates"] = {}
    seal(folder, document)


def with_failed_gate(folder: Path) -> None:
    document = read_document(folder)
    document["gates"] = {"onnx": {"passed": False}}
    seal(folder, document)


def from_elsewhere(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.producer_name = "pytorch"
    replace_member(folder, "model.onnx", model.SerializeToString())


def with_nan(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    values = np.full((4, 1, 3, 3, 3), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "conv1.weight"))
    replace_member(folder, "model.onnx", model.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (without_gate, "no gate result"),
        (with_failed_gate, "no gate result"),
        (from_elsewhere, "written by pytorch"),
        (with_nan, "NaN"),
    ],
)
def test_a_bundle_that_is_no_reference_is_refused(
    source: Path, tmp_path: Path, spoil: object, named: str
) -> None:
    copy = tmp_path / "x.ctedge"
    shutil.copytree(source, copy)
    assert callable(spoil)
    spoil(copy)
    with pytest.raises(InvalidBundle, match=named):
        export_precision(copy, ["fp16"])


def test_what_does_not_fit_is_refused(source: Path, made: ModelBundle, tmp_path: Path) -> None:
    refused: list[tuple[object, list[str], dict[str, object], str]] = [
        (source, ["fp8"], {}, "fp16 or bf16 or int8"),
        (source, [], {}, "no such precision"),
        (made.path, ["fp16"], {}, "--overwrite"),
        (source, ["fp16"], {"output": made.path}, "already exists"),
        ("pneumonia", ["bf16"], {}, "not changed where it stands"),
        (source / "model.onnx", ["fp16"], {}, "no bundle"),
        (write_tiny(tmp_path / "t.ctedge").path, ["fp16"], {}, "not as `ctedge export onnx`"),
    ]
    for bundle, to, options, named in refused:
        with pytest.raises(CTEdgeError, match=named):
            export_precision(bundle, to, **options)  # type: ignore[arg-type]


def test_an_output_that_is_being_written_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "other.ctedge"
    with written_by_one(target), pytest.raises(OutputError, match="is going on"):
        export_precision(source, ["fp16"], output=target)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_bundle_as_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "x.ctedge"
    shutil.copytree(source, copy)
    before = (copy / "manifest.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctedge.files.os.fsync", full)
    with pytest.raises(OutputError, match="No space"):
        export_precision(copy, ["bf16"])
    assert (copy / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.ctedge"]
