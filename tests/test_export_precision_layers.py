"""Layers that a precision cannot hold stay in float; what cannot be mended fails by name."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from typer.testing import CliRunner

from ctedge.errors import (
    GateFailed,
)
from ctedge_export.cli import app
from ctedge_export.precision import int8
from ctedge_export.precision.precision import export_precision
from precision_factory import Weights, plain, write


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain(tmp_path_factory.getbasetemp()).path


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
