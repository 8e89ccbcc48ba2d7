"""Metrics against values worked out by hand or by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from ctedge.errors import DatasetError, InferenceFailed
from ctedge_training.judging.evaluate import as_text
from ctedge_training.judging.metrics import metrics_of, severity_class, some_metrics
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES


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
    assert as_text({"split": "test", "count": 1}) == "test: 1 scan (95 % bootstrap intervals)"


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.81])
def test_the_further_classifier_metrics_against_scikit_learn(
    rng: np.random.Generator, threshold: float
) -> None:
    truth = (rng.uniform(size=90) < 0.3).astype(int)
    said = np.clip(0.3 * truth + rng.uniform(0, 0.8, 90), 0, 1)
    said[:2] = 0.0, 1.0  # the clipping decides how much a sure mistake costs
    found = metrics_of(CLASSIFIER, truth, said, threshold=threshold)
    called = said >= threshold
    assert found["threshold"] == threshold
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(truth, called))
    assert found["misclassification_rate"]["value"] == pytest.approx(np.mean(called != truth))
    assert found["balanced_accuracy"]["value"] == pytest.approx(
        balanced_accuracy_score(truth, called)
    )
    assert found["sensitivity"]["value"] == pytest.approx(recall_score(truth, called))
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(truth, said))
    assert found["loss"]["value"] == pytest.approx(log_loss(truth, np.clip(said, 1e-7, 1 - 1e-7)))
    (tn, fp), (fn, tp) = confusion_matrix(truth, called).tolist()
    names = ("true_negative", "false_positive", "false_negative", "true_positive")
    assert [found["counts"][name] for name in names] == [tn, fp, fn, tp]
    for name in ("loss", "brier", "balanced_accuracy", "misclassification_rate"):
        low, high = found[name]["ci95"]
        assert low <= found[name]["value"] <= high
        assert high > low


def test_the_loss_is_the_one_of_keras(rng: np.random.Generator) -> None:
    keras = pytest.importorskip("keras")
    truth = rng.integers(0, 2, 40)
    said = rng.uniform(size=40).astype(np.float32)
    said[:4] = 0.0, 1.0, 1e-9, 0.5
    wanted = float(keras.losses.BinaryCrossentropy()(truth.astype(np.float32), said))
    assert metrics_of(CLASSIFIER, truth, said)["loss"]["value"] == pytest.approx(wanted, rel=0.02)


def test_slices_are_judged_as_the_other_binary_task() -> None:
    truth, said = [0, 1, 1, 0], [0.2, 0.7, 0.4, 0.1]
    assert metrics_of(SLICES, truth, said) == metrics_of(CLASSIFIER, truth, said)


def test_a_call_is_made_at_the_threshold_itself() -> None:
    assert metrics_of(CLASSIFIER, [0, 1], [0.3, 0.7], threshold=0.7)["accuracy"]["value"] == 1.0
    assert metrics_of(CLASSIFIER, [0, 1], [0.3, 0.7], threshold=0.3)["accuracy"]["value"] == 0.5


def test_class_distances_are_the_table_of_the_study() -> None:
    # PSG College, table 6.1: 23, 13, 3, 1 and 0 of 40 samples.
    truth = [10.0] * 40
    said = [10.0] * 23 + [30.0] * 13 + [50.0] * 3 + [70.0]
    found = metrics_of(SEVERITY, truth, said)
    assert found["class_distance"] == {
        "same": [23, 0.575],
        "off_by_1": [13, 0.325],
        "off_by_2": [3, 0.075],
        "off_by_3": [1, 0.025],
        "off_by_4": [0, 0.0],
    }
    assert found["exact_class"]["value"] == pytest.approx(0.575)
    assert found["within_one_class"]["value"] == pytest.approx(0.9)
    assert found["pearson_r"] is None  # one side is constant


def test_class_distance_looks_both_ways() -> None:
    found = metrics_of(SEVERITY, [90.0, 5.0], [5.0, 90.0])["class_distance"]
    assert found["off_by_4"] == [2, 1.0]


def test_bias_and_correlation(rng: np.random.Generator) -> None:
    truth = rng.uniform(10, 80, 50)
    said = 0.8 * truth + 12 + rng.normal(0, 3, 50)
    found = metrics_of(SEVERITY, truth, said)
    assert found["bias"]["value"] == pytest.approx(np.mean(said - truth))
    assert found["pearson_r"]["value"] == pytest.approx(np.corrcoef(truth, said)[0, 1])
    assert metrics_of(SEVERITY, [50.0], [30.0])["bias"]["value"] == -20.0


def test_some_metrics_are_those_of_all(rng: np.random.Generator) -> None:
    truth, said = rng.integers(0, 2, 30), rng.uniform(size=30)
    every = metrics_of(CLASSIFIER, truth, said, threshold=0.4, seed=3)
    some = some_metrics(CLASSIFIER, ["auc", "brier"], truth, said, threshold=0.4, seed=3)
    assert some == {name: every[name] for name in ("auc", "brier")}


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(DatasetError, match="nothing to judge"):
        metrics_of(CLASSIFIER, [], [])
    with pytest.raises(InferenceFailed) as error:
        metrics_of(SEVERITY, [10.0, 20.0], [float("nan"), 20.0])
    assert "1 of 2" in str(error.value)
    with pytest.raises(ValueError, match="logits"):
        metrics_of(CLASSIFIER, [0, 1], [-3.0, 2.0])
    with pytest.raises(ValueError, match="pair up"):
        metrics_of(CLASSIFIER, [0, 1], [0.5])


def test_all_hits_of_a_few_scans_are_no_certainty() -> None:
    truth, said = [1] * 5 + [0] * 8, [0.9] * 5 + [0.1] * 8
    found = metrics_of(CLASSIFIER, truth, said)
    for name, share, count in (("sensitivity", 1, 5), ("specificity", 1, 8), ("accuracy", 1, 13)):
        wanted = binomtest(share * count, count).proportion_ci(method="wilson")
        assert found[name]["ci95"] == pytest.approx([wanted.low, wanted.high])
    wanted = binomtest(0, 13).proportion_ci(method="wilson")
    assert found["misclassification_rate"]["ci95"] == pytest.approx([wanted.low, wanted.high])
    patients = metrics_of(CLASSIFIER, truth, said, groups=["a"] * 3 + ["b"] * 2 + list("cdefghij"))
    wanted = binomtest(2, 2).proportion_ci(method="wilson")
    assert patients["sensitivity"]["ci95"] == pytest.approx([wanted.low, wanted.high])
    assert metrics_of(SEVERITY, [10.0, 90.0], [10.0, 90.0])["exact_class"]["ci95"][0] < 0.5


def test_a_network_that_says_one_thing_only_is_no_certainty() -> None:
    found = metrics_of(CLASSIFIER, [1] * 5 + [0] * 8, [0.1] * 13)
    wanted = binomtest(8, 13).proportion_ci(method="wilson")
    assert found["accuracy"]["ci95"] == pytest.approx([wanted.low, wanted.high])
    low, high = found["balanced_accuracy"]["ci95"]
    assert low < 0.5 < high
