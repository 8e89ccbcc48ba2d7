"""Cross-validation and ablation: every patient tested once, every part left out once."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("keras")
pytest.importorskip("matplotlib")

from ctedge.errors import DatasetError, DigestMismatch, OutputError
from ctedge.progress import Reporter
from ctedge_training import recipes
from ctedge_training.ablation import ablate, variants
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.source import Source
from ctedge_training.datasets.volume import Volume
from ctedge_training.folds import cross_validate, deal
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from made_once import made_once
from training_factory import write_noisy_scans

GRID = (46, 46, 46)
TINY = Settings(epochs=1, batch_size=4, grid=GRID, settle=False)


def volumes_of(answers: list[tuple[str, float]]) -> list[Volume]:
    return [
        Volume(
            sample=Sample(name=f"{n}", path=Path(), answer=answer, split="train", patient=patient),
            scan_sha256=f"{n:064d}",
            stored=Path(),
            stored_sha256="",
            facts={},
        )
        for n, (patient, answer) in enumerate(answers)
    ]


def test_every_patient_is_tested_once_and_never_split() -> None:
    answers = [(f"p{n // 2}", float(n // 2 % 3 == 0)) for n in range(60)]  # two scans a patient
    volumes = volumes_of(answers)
    dealt = deal(volumes, CLASSIFIER, 5, seed=1)
    tested = Counter(v.sample.name for fold in dealt for v in fold if v.sample.split == "test")
    assert tested == Counter(v.sample.name for v in volumes)
    for fold in dealt:
        splits: dict[str, set[str]] = {}
        for volume in fold:
            splits.setdefault(volume.sample.patient, set()).add(volume.sample.split)
        assert all(len(found) == 1 for found in splits.values())
        for split in ("train", "validation", "test"):
            found = {v.sample.answer for v in fold if v.sample.split == split}
            assert found == {0.0, 1.0}, split
    assert dealt == deal(volumes, CLASSIFIER, 5, seed=1)
    assert dealt != deal(volumes, CLASSIFIER, 5, seed=2)


def test_scans_of_unknown_patients_stand_alone() -> None:
    volumes = volumes_of([("", float(n % 2)) for n in range(20)])
    tested = [
        sum(v.sample.split == "test" for v in fold) for fold in deal(volumes, CLASSIFIER, 4, seed=0)
    ]
    assert tested == [6, 6, 4, 4]


def test_a_class_with_fewer_patients_than_folds_is_refused() -> None:
    volumes = volumes_of([(f"p{n}", float(n == 0)) for n in range(9)])
    with pytest.raises(DatasetError, match="too few patients of class 'abnormal'"):
        deal(volumes, CLASSIFIER, 3, seed=0)


def test_every_fold_validates_on_every_class() -> None:
    volumes = volumes_of([(f"p{n}", float(n < 4)) for n in range(60)])
    for fold in deal(volumes, CLASSIFIER, 2, seed=0):
        assert {v.sample.answer for v in fold if v.sample.split == "validation"} == {0.0, 1.0}
    volumes = volumes_of([(f"p{n}", float(n < 2)) for n in range(12)])
    with pytest.raises(DatasetError, match="1 left when fold 1 is tested"):
        deal(volumes, CLASSIFIER, 2, seed=0)


def test_a_rare_severity_stands_in_nobodys_way() -> None:
    scores = [float(n) for n in range(39)] + [95.0]  # Critical once, Moderate and Severe never
    volumes = volumes_of([(f"p{n}", score) for n, score in enumerate(scores)])
    dealt = deal(volumes, SEVERITY, 4, seed=0)
    tested = Counter(v.sample.name for fold in dealt for v in fold if v.sample.split == "test")
    assert tested == Counter(v.sample.name for v in volumes)
    for fold in dealt:
        for split in ("train", "validation", "test"):
            found = [v.sample.answer for v in fold if v.sample.split == split]
            assert min(found) < 15, split
            assert max(found) > 24, split


def test_fewer_scores_than_folds_are_refused() -> None:
    volumes = volumes_of([(f"p{n}", float(n)) for n in range(3)])
    with pytest.raises(DatasetError, match="too few patients for 4 folds"):
        deal(volumes, SEVERITY, 4, seed=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = ["train"] * 8 + ["validation"] * 4 + ["test"] * 4
    base = tmp_path_factory.getbasetemp()
    return made_once(base, "sixteen-scans", lambda folder: write_noisy_scans(folder, splits))


def test_folds_are_runs_and_a_summary(data: Path, tmp_path: Path) -> None:
    source = Source(folder=data)
    document = cross_validate(CLASSIFIER, source, tmp_path, folds=2, settings=TINY)
    assert document == json.loads((tmp_path / "folds.json").read_text())
    assert document["all"]["count"] == 16
    assert [each["count"] for each in document["each"]] == [8, 8]
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        names = [row["path"] for row in csv.DictReader(stream)]
    assert sorted(names) == sorted(set(names))
    assert len(names) == 16
    model = (tmp_path / "fold-1" / "model.keras").stat().st_mtime_ns
    again = cross_validate(CLASSIFIER, source, tmp_path, folds=2, settings=TINY, resume=True)
    assert again == document
    assert (tmp_path / "fold-1" / "model.keras").stat().st_mtime_ns == model
    with pytest.raises(OutputError, match="--resume"):
        cross_validate(CLASSIFIER, source, tmp_path, folds=2, settings=TINY)
    other = replace(TINY, learning_rate=0.5)
    with pytest.raises(OutputError, match="learning_rate"):
        cross_validate(CLASSIFIER, source, tmp_path, folds=2, settings=other, resume=True)
    assert (tmp_path / "fold-1" / "model.keras").stat().st_mtime_ns == model
    with (tmp_path / "fold-1" / "model.keras").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(DigestMismatch):  # and never trained again without a word
        cross_validate(CLASSIFIER, source, tmp_path, folds=2, settings=TINY, resume=True)


def test_each_part_of_the_recipe_has_a_row() -> None:
    full = recipes.preset("every-part", CLASSIFIER)
    rows = {variant.name: variant.settings for variant in variants(full, CLASSIFIER.spec)}
    assert rows.pop("the whole recipe") == full
    plain = rows.pop("none of it")
    assert plain.augmentation is None
    assert (plain.mixup, plain.label_smoothing, plain.averaging) == (0.0, 0.0, 0.0)
    assert (plain.epochs, plain.learning_rate) == (full.epochs, full.learning_rate)
    assert all(settings != full for settings in rows.values())
    assert len({str(settings.to_json()) for settings in rows.values()}) == len(rows)
    severity = recipes.preset("every-part", SEVERITY)
    names = [variant.name for variant in variants(severity, SEVERITY.spec)]
    assert "without mixup" not in names  # it has none


def test_the_table_compares_with_the_whole_recipe_and_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = replace(TINY, mixup=0.2)
    kept = ("the whole recipe", "without mixup")
    monkeypatch.setattr(
        "ctedge_training.ablation.variants",
        lambda settings, spec: [v for v in variants(settings, spec) if v.name in kept],
    )
    lines: list[str] = []
    reporter = Reporter(say=lines.append, bars=False)
    source = Source(folder=data)
    document = ablate(CLASSIFIER, source, tmp_path, settings=full, seeds=2, reporter=reporter)
    assert [row["variant"] for row in document["table"]] == list(kept)
    assert len(document["runs"]) == 4
    whole, without = document["table"]
    assert whole["auc"]["against_the_whole"] == 0.0
    runs = {(row["variant"], row["seed"]): row["auc"] for row in document["runs"]}
    gaps = [runs["without mixup", seed] - runs["the whole recipe", seed] for seed in (0, 1)]
    assert without["auc"]["against_the_whole"] == pytest.approx(sum(gaps) / 2)
    assert "without mixup" in lines[-1]
    first = sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("model.keras"))
    again = ablate(CLASSIFIER, source, tmp_path, settings=full, seeds=2)
    assert again == document | {"command": ""}
    assert sorted(path.stat().st_mtime_ns for path in tmp_path.rglob("model.keras")) == first
