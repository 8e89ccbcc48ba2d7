"""Whole trainings on a handful of tiny scans: what they write, repeat, resume and refuse."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from ctedge.errors import BundleNotFound, DatasetError, InferenceFailed, OutputError
from ctedge.files import sha256_of
from ctedge.preprocessing import preprocess
from ctedge.progress import Reporter
from ctedge.readers import read_scan
from ctedge.spec import PreprocessSpec
from ctedge_training.cli import app
from ctedge_training.datasets.labels import read_labels
from ctedge_training.datasets.source import Source
from ctedge_training.judging.evaluate import evaluate, judge
from ctedge_training.learning import weights
from ctedge_training.learning.settings import Settings, spec_on_grid
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from ctedge_training.train import train
from training_factory import GRID, SETTINGS, finished_run, left_over, noisy_scans

SILENT = Reporter.silent()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy_scans(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return finished_run(tmp_path_factory.getbasetemp())


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "history.csv").open(newline="") as stream:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]


def without_seconds(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def interrupt_at(line_start: str) -> Reporter:
    def say(line: str) -> None:
        if line.startswith(line_start):
            raise KeyboardInterrupt

    return Reporter(say=say, bars=False)


def test_a_run_holds_the_network_and_what_it_is(trained: Run) -> None:
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        "curves.png",
        "history.csv",
        "input.png",
        "model.json",
        "model.keras",
        "network.png",
        "network.txt",
        "splits.csv",
    ]
    document = json.loads((trained.folder / "model.json").read_text())
    assert document["schema_version"] == 2
    assert document["threshold"] == 0.5
    assert document["task"] == "classifier"
    assert PreprocessSpec.from_json(document["spec"]) == spec_on_grid(CLASSIFIER.spec, GRID)
    assert document["labels"] == ["normal", "abnormal"]
    assert document["input_shape"] == [46, 46, 46, 1]
    assert document["model_sha256"] == sha256_of(trained.folder / "model.keras")
    assert document["data"]["count"] == 11
    assert document["data"]["splits"] == {"test": 3, "train": 5, "validation": 3}
    assert document["data"]["synthetic"] is True
    geometry = {"slices": [20, 20], "spacing_mm": [2.0, 2.0], "field_mm": [45.0, 45.0]}
    assert document["data"]["geometry"] == geometry
    training = document["training"]
    assert (training["epochs_run"], training["seed"], training["shuffled_labels"]) == (2, 3, False)
    assert training["grid"] == list(GRID)
    assert training["start_from"] is None
    assert document["metrics"]["split"] == "test"
    assert document["metrics"]["count"] == 3
    assert set(document["versions"]) == {
        "python",
        "keras",
        "backend",
        "backend_version",
        "numpy",
        "ctedge",
    }
    assert (trained.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = history(trained.folder)
    assert list(rows[0]) == [
        "epoch",
        "seconds",
        "learning_rate",
        "accuracy",
        "loss",
        "val_loss",
        "val_accuracy",
        "auc",
    ]
    best = min(rows, key=lambda row: row["val_loss"])
    assert training["best_epoch"] == best["epoch"]
    assert training["best_val_loss"] == best["val_loss"]


def test_the_saved_network_loads_in_plain_keras(trained: Run) -> None:
    model = keras.saving.load_model(trained.folder / "model.keras")
    assert model.count_params() == 1_352_897
    assert model.input_shape == (None, 46, 46, 46, 1)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}


def test_an_interrupted_training_resumes_as_if_nothing_had_happened(
    data: Path, trained: Run, tmp_path: Path
) -> None:
    if keras.config.backend() == "torch":
        pytest.skip("on torch a resumed training goes on, but with another dropout sequence")
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(
            CLASSIFIER,
            Source(folder=data),
            out,
            settings=SETTINGS,
            reporter=interrupt_at("epoch   1"),
        )
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.npz", "history.csv"]
    with pytest.raises(OutputError, match="already exists"):
        train(CLASSIFIER, Source(folder=data), out, settings=SETTINGS)
    other = replace(SETTINGS, seed=4)
    with pytest.raises(OutputError, match="another one"):
        train(CLASSIFIER, Source(folder=data), out, settings=other, resume=True)
    with pytest.raises(BundleNotFound, match="no finished training"):
        Run.open(out)

    resumed = train(CLASSIFIER, Source(folder=data), out, settings=SETTINGS, resume=True)

    assert without_seconds(history(out)) == without_seconds(history(trained.folder))
    assert resumed.document["metrics"] == trained.document["metrics"]
    pairs = zip(
        weights.load_network(resumed).get_weights(),
        weights.load_network(trained).get_weights(),
        strict=True,
    )
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)
    again = train(CLASSIFIER, Source(folder=data), out, settings=SETTINGS, resume=True)
    assert again.document == resumed.document


def test_calibration_divides_the_logit_and_the_threshold_finds_the_abnormal(
    data: Path, trained: Run, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, calibrate=True, sensitivity=0.95)
    calibrated = train(CLASSIFIER, Source(folder=data), tmp_path / "run", settings=settings)
    decision = calibrated.document["training"]["decision"]
    temperature, threshold = decision["temperature"], calibrated.document["threshold"]
    assert temperature != 1.0
    assert 0.0 < threshold < 1.0
    answers = []
    for run in (trained, calibrated):
        rows = judge(
            run, Source(folder=data).open(CLASSIFIER, SETTINGS, SILENT).volumes, "validation"
        )
        answers.append({row.name: row for row in rows})
    for name, row in answers[0].items():
        logit = np.log(row.predicted) - np.log1p(-row.predicted)
        expected = 1.0 / (1.0 + np.exp(-logit / temperature))
        assert answers[1][name].predicted == pytest.approx(expected, abs=1e-5)
    abnormal = [row.predicted for row in answers[1].values() if row.answer == 1.0]
    assert abnormal
    assert min(abnormal) >= threshold


def test_calibration_moves_scores_along_a_line(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctedge_training.judging.calibration.LEAST_SCANS", 2)  # small data
    monkeypatch.setattr("ctedge_training.judging.calibration.SLOPE_RANGE", (-np.inf, np.inf))
    answers = []
    for calibrate in (False, True):
        settings = Settings(epochs=1, batch_size=2, grid=GRID, calibrate=calibrate)
        run = train(SEVERITY, Source(folder=data), tmp_path / str(calibrate), settings=settings)
        volumes = Source(folder=data).open(SEVERITY, settings, SILENT).volumes
        answers.append([row.predicted for row in judge(run, volumes, "validation")])
    decision = run.document["training"]["decision"]
    assert decision["slope"] != 1.0
    moved = decision["slope"] * np.array(answers[0]) + decision["intercept"]
    assert answers[1] == pytest.approx(moved, abs=1e-3)


def test_severity_answers_in_score_units_and_starts_from_a_classifier(
    data: Path, trained: Run, tmp_path: Path
) -> None:
    settings = Settings(epochs=1, batch_size=2, grid=GRID, mixed_precision=True)
    result = train(
        SEVERITY,
        Source(folder=data, workers=2),
        tmp_path / "run",
        settings=settings,
        start_from=trained.folder,
    )
    assert result.document["training"]["start_from"] == {
        "run": "run",
        "model_sha256": trained.model_sha256,
    }
    assert result.document["labels"] == ["Low", "Mild", "Moderate", "Severe", "Critical"]
    assert list(history(result.folder)[0])[-1] == "mae"
    test = [sample for sample in read_labels(data, SEVERITY) if sample.split == "test"]
    volumes = np.stack([preprocess(read_scan(sample.path), result.spec) for sample in test])
    model = keras.saving.load_model(result.folder / "model.keras")
    said = np.clip(
        keras.ops.convert_to_numpy(model(volumes[..., None], training=False))[:, 0], 0, 100
    )
    expected = np.mean(np.abs(said - [sample.answer for sample in test]))
    assert result.document["metrics"]["mae"]["value"] == pytest.approx(expected, abs=0.05)
    again = evaluate(result.folder, Source(folder=data))
    assert again["mae"]["value"] == pytest.approx(expected, abs=0.05)


def test_a_failed_write_leaves_nothing_half_and_can_be_resumed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    settings = Settings(epochs=1, batch_size=2, grid=GRID, shuffle_labels=True)

    def half_written(_model: Any, path: Path, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save", half_written)
        with pytest.raises(OutputError, match=r"model\.keras"):
            train(CLASSIFIER, Source(folder=data), out, settings=settings)
    assert left_over(out) == []
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint.npz", "history.csv"]
    result = train(CLASSIFIER, Source(folder=data), out, settings=settings, resume=True)
    assert result.document["training"]["shuffled_labels"] is True
    assert len(history(out)) == 1


def test_a_loss_that_is_no_number_ends_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctedge_training.learning.fit.loss_of", lambda *_: float("nan"))
    with pytest.raises(InferenceFailed, match="diverged"):
        train(CLASSIFIER, Source(folder=data), tmp_path / "run", settings=SETTINGS)


def test_nothing_to_resume_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nothing to resume"):
        train(CLASSIFIER, Source(folder=data), tmp_path / "none", settings=SETTINGS, resume=True)
    (tmp_path / "checkpoint.npz").write_bytes(b"no archive")
    with pytest.raises(OutputError, match="nothing to resume"):
        train(CLASSIFIER, Source(folder=data), tmp_path, settings=SETTINGS, resume=True)


def test_resuming_a_finished_run_gives_it_back_if_it_is_the_same(trained: Run, data: Path) -> None:
    source = Source(folder=data)
    again = train(CLASSIFIER, source, trained.folder, settings=SETTINGS, resume=True)
    assert again.model_sha256 == trained.model_sha256
    other = replace(SETTINGS, learning_rate=0.5)
    with pytest.raises(OutputError, match="learning_rate"):
        train(CLASSIFIER, source, trained.folder, settings=other, resume=True)
    with pytest.raises(OutputError, match="task"):
        train(SEVERITY, source, trained.folder, settings=SETTINGS, resume=True)


def test_a_refused_command_raises_what_the_sdk_prints(data: Path, tmp_path: Path) -> None:
    arguments = ["classifier", str(data), "-o", str(tmp_path / "run"), "--grid", "40x94x94"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "run").exists()
    result = CliRunner().invoke(app, ["severity", str(tmp_path), "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, DatasetError)
