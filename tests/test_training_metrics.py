"""Metrics against values worked out by hand or by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    mean_absolute_error,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from ctedge_training.evaluate import as_text
from ctedge_training.metrics import metrics_of, severity_class
from ctedge_training.tasks import CLASSIFIER, SEVERITY


def test_classifier_by_hand() -> None:
    found = metrics_of(CLASSIFIER, [0, 0, 0, 1, 1], [0.1, 0.5, 0.2, 0.4, 0.9])
    assert found["counts"] == {
        "normal": 3,
        "abnormal": 2,
        "true_positive": 1,
        "false_positive": 1,
        "true_negative": 2,
        "false_negative": 1,
    }
    assert found["accuracy"]["value"] == pytest.approx(3 / 5)
    assert found["sensitivity"]["value"] == pytest.approx(1 / 2)
    assert found["specificity"]["value"] == pytest.approx(2 / 3)
    assert found["auc"]["value"] == pytest.approx(5 / 6)


def test_classifier_against_scikit_learn(rng: np.random.Generator) -> None:
    truth = rng.integers(0, 2, 80)
    said = np.clip(0.3 * truth + rng.uniform(0, 0.8, 80), 0, 1)
    found = metrics_of(CLASSIFIER, truth, said)
    called = said >= 0.5
    assert found["auc"]["value"] == pytest.approx(roc_auc_score(truth, said))
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(truth, called))
    assert found["sensitivity"]["value"] == pytest.approx(recall_score(truth, called))
    assert found["specificity"]["value"] == pytest.approx(recall_score(1 - truth, ~called))
    for name in ("auc", "accuracy", "sensitivity", "specificity"):
        low, high = found[name]["ci95"]
        assert low <= found[name]["value"] <= high
        assert high > low


def test_severity_against_scikit_learn(rng: np.random.Generator) -> None:
    truth = rng.uniform(0, 100, 60)
    said = truth + rng.normal(0, 15, 60)
    found = metrics_of(SEVERITY, truth, said)
    clipped = np.clip(said, 0, 100)
    assert found["mae"]["value"] == pytest.approx(mean_absolute_error(truth, clipped))
    assert found["rmse"]["value"] == pytest.approx(root_mean_squared_error(truth, clipped))
    classes = severity_class(truth), severity_class(clipped)
    table = confusion_matrix(*classes, labels=range(5))
    assert found["confusion"]["counts"] == table.tolist()
    assert found["exact_class"]["value"] == pytest.approx(np.trace(table) / 60)
    near = sum(np.trace(table, offset) for offset in (-1, 0, 1))
    assert found["within_one_class"]["value"] == pytest.approx(near / 60)


def test_the_lower_bound_of_a_severity_class_belongs_to_it() -> None:
    scores = [0, 19.999, 20, 39.999, 40, 60, 79.999, 80, 100]
    assert severity_class(scores).tolist() == [0, 0, 1, 1, 2, 3, 3, 4, 4]


def test_the_intervals_follow_the_seed() -> None:
    truth, said = [0, 0, 1, 1, 0, 1], [0.2, 0.6, 0.4, 0.9, 0.1, 0.7]
    first, again, other = (metrics_of(CLASSIFIER, truth, said, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["auc"]["value"] == other["auc"]["value"]


def test_one_class_leaves_undefined_metrics_empty() -> None:
    found = metrics_of(CLASSIFIER, [1, 1, 1], [0.9, 0.2, 0.8])
    assert found["auc"] is None
    assert found["specificity"] is None
    assert found["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert "not defined" in as_text({"split": "test", **found})
