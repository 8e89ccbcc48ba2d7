"""Whole trainings on a handful of tiny scans: what they write, repeat, resume and refuse."""

# ruff: noqa: E402 - imports follow the check for the optional packages
from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytest.importorskip("matplotlib")

from typer.testing import CliRunner

from ctedge.errors import (
    BundleNotFound,
    DatasetError,
    DigestMismatch,
    InferenceFailed,
    InvalidBundle,
    OutputError,
)
from ctedge.files import sha256_of
from ctedge.preprocessing import preprocess
from ctedge.progress import Reporter
from ctedge.readers import read_scan
from ctedge.spec import PreprocessSpec
from ctedge_training.cli import app
from ctedge_training.datasets import store
from ctedge_training.datasets.labels import read_labels
from ctedge_training.datasets.source import Source
from ctedge_training.judging.evaluate import evaluate, judge
from ctedge_training.learning import weights
from ctedge_training.learning.job import Part
from ctedge_training.learning.settings import Settings, spec_on_grid
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from ctedge_training.train import train

GRID = (46, 46, 46)
SILENT = Reporter.silent()
SETTINGS = Settings(epochs=2, batch_size=2, grid=GRID, seed=3)
SPLITS = ["train"] * 5 + ["validation"] * 3 + ["test"] * 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven noisy scans of 30 x 28 x 20; the abnormal ones are brighter in the middle."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(5)
    rows = []
    for number, split in enumerate(SPLITS):
        score = 0.0 if number % 2 else 20.0 + 7.0 * number
        voxels = rng.normal(-850, 60, (30, 28, 20))
        voxels[:4] = 60.0  # tissue: a scan of air alone is refused
        voxels[8:22, 8:20, 5:15] += 6.0 * score
        image = nibabel.Nifti1Image(voxels.astype(np.int16), np.diag([-1.5, 1.5, 2.0, 1.0]))
        nibabel.save(image, folder / f"synthetic_{number:02d}.nii.gz")
        label = "abnormal" if score else "normal"
        rows.append(f"synthetic_{number:02d}.nii.gz,{label},{score},{split}\n")
    (folder / "labels.csv").write_text("path,label,score,split\n" + "".join(rows))
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(
        CLASSIFIER, Source(folder=data), tmp_path_factory.mktemp("runs") / "run", settings=SETTINGS
    )


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


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.name.startswith("."))


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


def test_shuffling_permutes_the_training_answers(data: Path, tmp_path: Path) -> None:
    samples = read_labels(data, SEVERITY)
    volumes = [
        store.Volume(sample=s, scan_sha256="", stored=tmp_path, stored_sha256="", facts={})
        for s in samples
    ]
    part = Part.of(volumes, "train", SEVERITY, SEVERITY.spec)
    permuted = part.shuffled(3).targets
    assert permuted.tolist() != part.targets.tolist()
    assert sorted(permuted) == sorted(part.targets)
    assert permuted.tolist() == part.shuffled(3).targets.tolist()
    assert part.targets.max() <= 1.0


def test_a_loss_that_is_no_number_ends_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctedge_training.learning.fit.loss_of", lambda *_: float("nan"))
    with pytest.raises(InferenceFailed, match="diverged"):
        train(CLASSIFIER, Source(folder=data), tmp_path / "run", settings=SETTINGS)


def test_stored_volumes_are_the_sdks_and_are_reused(data: Path, tmp_path: Path) -> None:
    spec = spec_on_grid(SEVERITY.spec, (46, 50, 48))
    samples = read_labels(data, SEVERITY)[:3]
    volumes = store.prepare(samples, spec, tmp_path)
    for volume in volumes:
        expected = preprocess(read_scan(volume.sample.path), spec)
        np.testing.assert_allclose(volume.load(), expected, atol=2.5e-4)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(before) == 6  # each with its record
    assert store.prepare(samples, spec, tmp_path) == volumes
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    volumes[0].stored.write_bytes(volumes[0].stored.read_bytes()[:100])
    store.prepare(samples, spec, tmp_path)
    assert volumes[0].load().shape == spec.shape


def test_the_data_digest_sees_bytes_answers_and_splits_but_no_order(
    data: Path, tmp_path: Path
) -> None:
    volumes = store.prepare(
        read_labels(data, CLASSIFIER)[:3], spec_on_grid(CLASSIFIER.spec, GRID), tmp_path
    )
    digest = store.data_digest(volumes)
    assert store.data_digest(volumes[::-1]) == digest
    assert store.data_digest(volumes[:2]) != digest


def test_one_scan_in_two_splits_is_refused(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (copy / name).write_bytes((data / "synthetic_00.nii.gz").read_bytes())
    (copy / "labels.csv").write_text(
        "path,label,split\na.nii.gz,normal,train\nb.nii.gz,normal,test\n"
    )
    with pytest.raises(DatasetError, match="two splits"):
        store.prepare(
            read_labels(copy, CLASSIFIER), spec_on_grid(CLASSIFIER.spec, GRID), tmp_path / "cache"
        )
    assert left_over(tmp_path) == []


def broken_json(folder: Path) -> None:
    (folder / "model.json").write_text("{")


def newer_schema(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**document, "schema_version": 99}))


def other_network(folder: Path) -> None:
    (folder / "model.keras").write_bytes(b"other")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (broken_json, InvalidBundle),
        (newer_schema, InvalidBundle),
        (other_network, DigestMismatch),
    ],
)
def test_a_spoilt_run_is_refused(
    trained: Run, tmp_path: Path, spoil: Callable[[Path], None], error: type[Exception]
) -> None:
    for path in trained.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Run.open(tmp_path)
    spoil(tmp_path)
    with pytest.raises(error):
        Run.open(tmp_path)


def test_nothing_to_resume_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nothing to resume"):
        train(CLASSIFIER, Source(folder=data), tmp_path / "none", settings=SETTINGS, resume=True)
    (tmp_path / "checkpoint.npz").write_bytes(b"no archive")
    with pytest.raises(OutputError, match="nothing to resume"):
        train(CLASSIFIER, Source(folder=data), tmp_path, settings=SETTINGS, resume=True)


def test_evaluate_on_the_command_line(trained: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    arguments = ["evaluate", str(trained.folder), "--data", str(data), "-o", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--split", "test", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "95 % bootstrap" in result.output
    assert {path.name for path in out.iterdir()} >= {
        "report.json",
        "report.html",
        "predictions.csv",
    }
    metrics = evaluate(trained.folder, Source(folder=data))
    expected = trained.document["metrics"]
    assert metrics["counts"] == expected["counts"]
    assert metrics["auc"] == expected["auc"]
    with pytest.raises(DatasetError, match="no scan in the split"):
        evaluate(trained.folder, Source(folder=data), split="nowhere")


def test_resuming_a_finished_run_gives_it_back_if_it_is_the_same(trained: Run, data: Path) -> None:
    source = Source(folder=data)
    again = train(CLASSIFIER, source, trained.folder, settings=SETTINGS, resume=True)
    assert again.model_sha256 == trained.model_sha256
    other = replace(SETTINGS, learning_rate=0.5)
    with pytest.raises(OutputError, match="learning_rate"):
        train(CLASSIFIER, source, trained.folder, settings=other, resume=True)
    with pytest.raises(OutputError, match="task"):
        train(SEVERITY, source, trained.folder, settings=SETTINGS, resume=True)


def test_classes_in_another_order_are_not_judged(trained: Run, tmp_path: Path) -> None:
    for label in trained.document["labels"]:
        (tmp_path / label).mkdir()
        (tmp_path / label / "one.nii.gz").touch()
    reverse = tuple(reversed(trained.document["labels"]))
    source = Source(folder=tmp_path, classes=reverse, shares={"test": 1.0})
    with pytest.raises(DatasetError, match="another order"):
        evaluate(trained.folder, source)


def test_what_was_learnt_does_not_test(trained: Run, data: Path, tmp_path: Path) -> None:
    rows = (data / "labels.csv").read_text()
    other = tmp_path / "other.csv"
    other.write_text(rows.replace(",train", ",test"))
    with pytest.raises(DatasetError, match="has learnt from") as caught:
        evaluate(trained.folder, Source(folder=data, labels=other))
    assert "5 of 8" in str(caught.value)
    other.write_text(rows.replace(",test", ",validation"))
    assert evaluate(trained.folder, Source(folder=data, labels=other), split="validation")


def test_a_refused_command_raises_what_the_sdk_prints(data: Path, tmp_path: Path) -> None:
    arguments = ["classifier", str(data), "-o", str(tmp_path / "run"), "--grid", "40x94x94"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert not (tmp_path / "run").exists()
    result = CliRunner().invoke(app, ["severity", str(tmp_path), "-o", str(tmp_path / "run")])
    assert isinstance(result.exception, DatasetError)
