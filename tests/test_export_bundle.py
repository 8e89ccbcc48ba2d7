"""What an export tells, and what the bundle knows of its making."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorflow", exc_type=ImportError)
pytest.importorskip("tf2onnx", exc_type=ImportError)

import onnx
from typer.testing import CliRunner

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import OutputError
from ctedge.onnx_file.parts import answers_of
from ctedge.spec import KERAS_EXAMPLE
from ctedge_export import onnx_bundle
from ctedge_export.cli import app
from ctedge_export.gates import conversion
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import draw_chest, gate_input
from ctedge_export.onnx_bundle import export_onnx
from run_factory import (
    LABELS,
    PUBLISHED,
    SMALL,
    build,
    few_inputs,
    read_document,
    small_bundle,
    small_run,
    write_run,
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return small_bundle(tmp_path_factory.getbasetemp())


def test_the_command_tells_each_step(run_folder: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("Trained for a *test*.\n")
    target = tmp_path / "named.ctedge"
    arguments = ["onnx", str(run_folder), "-o", str(target), "--card-notes", str(notes)]
    with few_inputs():
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    for words in ("digest verified", "18 nodes", "gate passed: max |dlogit|", "written"):
        assert words in done.stderr
    assert done.stdout == ""
    written = ModelBundle.load(target, task="classifier")
    assert (written.name, written.labels) == ("named", tuple(LABELS["classifier"]))
    assert written.card.endswith("## Notes\n\nTrained for a *test*.\n")
    with pytest.raises(OutputError, match="no name for a bundle") as caught:
        export_onnx(run_folder, tmp_path / "named.onnx")
    assert caught.value.exit_code == 2
    with pytest.raises(OutputError, match="--overwrite"):
        export_onnx(run_folder, target)
    with few_inputs():
        again = export_onnx(run_folder, target, overwrite=True, card_notes=notes)
    assert again.digest == written.digest
    done = CliRunner().invoke(app, ["verify", str(target)], catch_exceptions=False)
    assert "digests verified" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named.ctedge", "notes.md"]


def test_the_card_warns_and_quotes_the_metrics(bundle: ModelBundle) -> None:
    for words in (
        "Not a medical device",
        "Synthetic training data",
        "Intended use",
        "auc: 0.9123 (95 % interval 0.8 to 0.95)",
    ):
        assert words in bundle.card


def test_provenance_names_run_and_versions(bundle: ModelBundle, run_folder: Path) -> None:
    document = read_document(run_folder)
    origin = bundle.provenance
    assert origin["run"]["model_sha256"] == document["model_sha256"]
    assert origin["run"]["data"]["digest"] == document["data"]["digest"]
    export = origin["export"]
    assert (export["nodes"], export["batch_norms_folded"], export["opset"]) == (18, 4, 17)
    assert set(export["versions"]) >= {"keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime"}
    assert bundle.metrics == document["metrics"]
    assert str(run_folder) not in (bundle.path / "manifest.json").read_text()


def test_severity_has_a_score(tmp_path: Path) -> None:
    network, data = build(SMALL.shape, "severity"), {"synthetic_scans": 1}
    run_folder = write_run(tmp_path / "run", network, SMALL, "severity", data=data)
    with few_inputs():
        bundle = export_onnx(run_folder, tmp_path / "s.ctedge")
    assert (bundle.task, bundle.output_names) == ("severity", ("score",))
    assert "**1 of its training scans is synthetic**" in bundle.card
    assert len(onnx.load_from_string(answers_of(bundle.model)).graph.node) == 17
    assert set(bundle.gates["task"]["mae"]) == {"keras", "found"}
    assert bundle.gates["task"]["figures"]["|dMAE|"]["limit"] == 0.3
    assert bundle.gates["onnx"]["tolerance"] == 1e-2
    assert bundle.gates["onnx"]["max_abs_difference"] <= 2e-5


def test_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, task = KERAS_EXAMPLE, "classifier"
    chosen = tuple(
        gate_input(name, draw_chest(spec, 7, share).values, spec)
        for name, share in (("healthy-chest", 0.0), ("diseased-chest", 0.3))
    )
    cases = tuple(Case(shown=one, positive=n > 0, score=None) for n, one in enumerate(chosen))
    monkeypatch.setattr(onnx_bundle, "gate_inputs", lambda spec: chosen)
    monkeypatch.setattr(conversion, "gate_phantoms", lambda spec: cases)
    network = build(spec.shape, task, channels=PUBLISHED)
    run_folder = write_run(tmp_path / "run", network, spec, task)
    bundle = export_onnx(run_folder, tmp_path / "full.ctedge")
    assert bundle.input_shape == (1, *spec.shape)
    size = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    assert 5e6 < size < 7.5e6
    assert bundle.gates["onnx"]["max_abs_difference"] <= 2e-5
