"""Checkpoints of earlier Keras versions become run folders that answer as the files say."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
h5py = pytest.importorskip("h5py")

import typer
from typer.testing import CliRunner

from ctedge.errors import InvalidBundle, OutputError, WrongTask
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_training.cli.legacy import import_checkpoint as command
from ctedge_training.legacy.importing import import_checkpoint
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES
from legacy_factory import SHAPE, answers, small, write_model

#: The reference sums in float64, the networks in float32.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def network(run: Run) -> Any:
    return keras.saving.load_model(run.folder / "model.keras", compile=False)


def volumes(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """Random volumes of different brightness, float32 (N, A, B, C), 0..1."""
    rng = np.random.default_rng(8)
    brightest = np.linspace(0.2, 1, count, dtype=np.float32)[:, None, None, None]
    return brightest * rng.random((count, *shape), np.float32)


def logits(run: Run, given: np.ndarray) -> np.ndarray:
    """What the saved network answers to (N, A, B, C), before a sigmoid."""
    model = network(run)
    model.layers[-1].activation = keras.activations.linear
    said: np.ndarray = keras.ops.convert_to_numpy(model(given[..., None], training=False))
    return said[:, 0]


def exported(run: Run, folder: Path) -> Any:
    pytest.importorskip("tf2onnx", exc_type=ImportError)
    from ctedge_export.onnx_bundle import export_onnx

    return export_onnx(run.folder, folder / "imported.ctedge")


@pytest.mark.realdata
def test_a_real_keras_2_5_file_is_imported(real_data: Path, tmp_path: Path) -> None:
    file = real_data / "keras_h5" / "3d_cnn_keras2.5_brain_mri.h5"
    run = import_checkpoint(file, tmp_path / "run")
    assert [layer.name for layer in network(run).layers] == [
        "volume",
        *(f"{kind}_{n}" for n in (1, 2, 3) for kind in ("conv", "pool", "norm")),
        *("average", "dense", "dropout", "output"),
    ]
    assert run.document["spec"] == CLASSIFIER.spec.to_json()
    source = run.document["training"]["imported_from"]
    assert source["keras_version"] == "2.5.0"
    assert source["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.realdata
def test_onnx_answers_as_a_real_file_says(real_data: Path, tmp_path: Path) -> None:
    # The weights fit every size; a small one keeps the export's gate short.
    shape, file = (30, 32, 28), tmp_path / "small.h5"
    shutil.copyfile(real_data / "keras_h5" / "3d_cnn_keras2.5_brain_mri.h5", file)
    with h5py.File(file, "r+") as opened:
        document = json.loads(opened.attrs["model_config"])
        document["config"]["layers"][0]["config"]["batch_input_shape"] = [None, *shape, 1]
        opened.attrs["model_config"] = json.dumps(document)
    run = import_checkpoint(file, tmp_path / "run")
    assert run.document["spec"]["name"] == "keras-example-30x32x28"
    bundle = exported(run, tmp_path)
    card = (tmp_path / "imported.ctedge" / "MODEL_CARD.md").read_text()
    assert "Origin of the training data not recorded" in card
    assert run.document["training"]["imported_from"]["sha256"] in card
    given = volumes(3, shape)
    found = OnnxRuntime(bundle.model, name="imported").run(given[:, None])["logit"]
    np.testing.assert_allclose(found.ravel(), answers(file, given), **CLOSE)


def test_a_classifier_goes_all_the_way_to_a_bundle(tmp_path: Path) -> None:
    file = write_model(tmp_path / "gross\u00f6\n.h5")
    lines: list[str] = []
    run = import_checkpoint(
        file, tmp_path / "run", labels=("clear", "ill"), note="from\nelsewhere", say=lines.append
    )
    document = run.document
    assert document["task"] == "classifier"
    assert document["labels"] == ["clear", "ill"]
    assert document["threshold"] == 0.5
    assert document["input_shape"] == [*SHAPE, 1]
    assert document["data"]["synthetic"] is None
    assert document["training"]["note"] == "from elsewhere"
    assert document["training"]["imported_from"]["file"] == "gross\u00f6 .h5"
    assert document["training"]["imported_from"]["stored_as"] == "float32"
    assert any("assumed" in line for line in lines)
    assert sorted(p.name for p in run.folder.iterdir()) == ["model.json", "model.keras"]
    given = volumes(3, SHAPE)
    expected = answers(file, given)
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(logits(run, given), expected, **CLOSE)
    bundle = exported(run, tmp_path)
    found = OnnxRuntime(bundle.model, name="imported").run(given[:, None])["logit"]
    np.testing.assert_allclose(found.ravel(), expected, **CLOSE)


def test_a_linear_output_is_a_severity_network(tmp_path: Path) -> None:
    file = write_model(tmp_path / "a.h5", small("linear"))
    run = import_checkpoint(file, tmp_path / "run", task=SEVERITY)
    assert run.document["task"] == "severity"
    assert run.document["threshold"] is None
    assert run.document["labels"] == list(SEVERITY.labels)
    assert run.document["spec"]["axes"] == "SPL"
    given = volumes(2, SHAPE)
    np.testing.assert_allclose(logits(run, given), answers(file, given), **CLOSE)


def test_the_task_must_be_what_the_network_answers(tmp_path: Path) -> None:
    file = write_model(tmp_path / "a.h5")
    with pytest.raises(WrongTask, match="severity"):
        import_checkpoint(file, tmp_path / "run", task=SEVERITY)
    with pytest.raises(WrongTask, match="volumes"):
        import_checkpoint(file, tmp_path / "run", task=SLICES)
    for labels in (("a", "a"), ("a", "")):
        with pytest.raises(InvalidBundle, match="labels"):
            import_checkpoint(file, tmp_path / "run", labels=labels)
    linear = write_model(tmp_path / "b.h5", small("linear"))
    with pytest.raises(InvalidBundle, match="labels"):
        import_checkpoint(linear, tmp_path / "run", labels=("a", "b"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5"]


def test_nothing_is_overwritten_and_nothing_half_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_model(tmp_path / "a.h5")
    out = tmp_path / "run"
    out.mkdir()
    with pytest.raises(OutputError, match="already exists"):
        import_checkpoint(file, out)
    out.rmdir()

    def half_written(_model: Any, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", half_written)
    with pytest.raises(OutputError, match="cannot write"):
        import_checkpoint(file, out)
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_the_command(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("import")(command)
    file, out = write_model(tmp_path / "a.h5"), tmp_path / "run"
    result = CliRunner().invoke(app, [str(file), "-o", str(out), "--labels", "well"])
    assert result.exit_code == 2
    assert not out.exists()
    arguments = [str(file), "-o", str(out), "--task", "classifier", "--labels", "well, ill"]
    result = CliRunner().invoke(app, [*arguments, "--note", "by hand"])
    assert result.exit_code == 0, result.output
    assert "classifier, 463 weights in float32" in result.output
    document = json.loads((out / "model.json").read_text())
    assert document["labels"] == ["well", "ill"]
    assert document["training"]["note"] == "by hand"
