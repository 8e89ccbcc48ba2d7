"""Temperature, threshold and reliability against scikit-learn, scipy and hand-made tables."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, recall_score, roc_curve

from ctedge.errors import DatasetError
from ctedge_training.judging.calibration import (
    LEAST_SCANS,
    TEMPERATURE_RANGE,
    calibration_error,
    fit_line,
    fit_temperature,
    reliability,
    threshold_for_sensitivity,
    wilson,
)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(rng: np.random.Generator, true_temperature: float) -> None:
    honest = rng.normal(0, 2, 20_000)
    labels = rng.uniform(size=20_000) < sigmoid(honest)
    found = fit_temperature(honest * true_temperature, labels)
    assert found == pytest.approx(true_temperature, rel=0.05)


def test_no_other_temperature_has_a_lower_cross_entropy(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 4, 60)
    labels = rng.uniform(size=60) < sigmoid(logits / 2)
    best = fit_temperature(logits, labels)
    assert TEMPERATURE_RANGE[0] < best < TEMPERATURE_RANGE[1]
    at_best = log_loss(labels, sigmoid(logits / best))
    for other in best * np.array([0.5, 0.9, 0.99, 1.01, 1.1, 2.0]):
        assert at_best < log_loss(labels, sigmoid(logits / other))


@pytest.mark.parametrize(
    ("logits", "labels", "wanted"),
    [
        ([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1], TEMPERATURE_RANGE[0]),  # perfectly separated
        ([-2.0, -1.0, 1.0, 2.0], [1, 1, 0, 0], TEMPERATURE_RANGE[1]),  # the wrong way round
        ([-700.0, 700.0], [0, 1], TEMPERATURE_RANGE[0]),
        ([1e6, -1e6, 1e6], [0, 1, 1], TEMPERATURE_RANGE[1]),
        ([3.0, -1.0], [1, 1], 1.0),  # one class
        ([0.0, 0.0], [0, 1], 1.0),  # nothing said
    ],
)
def test_degenerate_temperatures(logits: list[float], labels: list[int], wanted: float) -> None:
    assert fit_temperature(logits, labels) == wanted


def test_logits_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_temperature([np.inf, 1.0], [0, 1])
    with pytest.raises(ValueError, match="pair up"):
        fit_temperature([], [])


def test_reliability_by_hand() -> None:
    said = [0.05, 0.15, 0.2, 0.4, 0.6, 0.7, 0.9, 1.0]
    rows = reliability([0, 0, 1, 0, 1, 0, 1, 1], said, bins=4)
    assert [row["count"] for row in rows] == [2, 2, 2, 2]
    assert [row["mean_probability"] for row in rows] == pytest.approx([0.1, 0.3, 0.65, 0.95])
    assert [row["observed"] for row in rows] == [0.0, 0.5, 0.5, 1.0]
    gap = (0.1 + 0.2 + 0.15 + 0.05) / 4
    assert calibration_error([0, 0, 1, 0, 1, 0, 1, 1], said, bins=4) == pytest.approx(gap)


def test_reliability_against_scikit_learn(rng: np.random.Generator) -> None:
    said = rng.uniform(size=203).round(2)  # with ties
    labels = rng.uniform(size=203) < said
    observed, mean = calibration_curve(labels, said, n_bins=10, strategy="quantile")
    rows = reliability(labels, said)
    assert [row["mean_probability"] for row in rows] == pytest.approx(list(mean))
    assert [row["observed"] for row in rows] == pytest.approx(list(observed))
    assert sum(row["count"] for row in rows) == 203
    assert min(row["count"] for row in rows) >= 15


def test_equal_probabilities_stay_together_whatever_their_order() -> None:
    rows = reliability([0, 1, 0, 1], [0.3, 0.3, 0.3, 0.3])
    assert [row["count"] for row in rows] == [4]
    assert rows == reliability([1, 1, 0, 0], [0.3, 0.3, 0.3, 0.3])


@pytest.mark.parametrize(("hits", "count"), [(0, 7), (7, 7), (3, 10), (1, 1), (190, 200)])
def test_wilson_against_scipy(hits: int, count: int) -> None:
    wanted = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert 0.0 <= wilson(hits, count)[0] <= hits / count <= wilson(hits, count)[1] <= 1.0


@pytest.mark.parametrize("wanted", [0.05, 0.5, 0.9, 0.95, 0.951, 1.0])
def test_the_threshold_is_the_largest_that_suffices(
    rng: np.random.Generator, wanted: float
) -> None:
    labels = rng.uniform(size=100) < 0.4
    said = np.clip(0.3 * labels + rng.uniform(0, 0.7, 100), 0, 1).round(2)
    threshold = threshold_for_sensitivity(labels, said, wanted)
    assert recall_score(labels, said >= threshold) >= wanted
    _, sensitivity, steps = roc_curve(labels, said, drop_intermediate=False)
    largest = steps[np.argmax(sensitivity >= wanted)]
    assert (said >= threshold).tolist() == (said >= largest).tolist()
    # Halfway: no score is near enough for rounding to carry it over.
    assert np.abs(said - threshold).min() >= 0.0049


def test_the_threshold_by_hand() -> None:
    labels, said = [1, 1, 1, 1, 0, 0], [0.9, 0.8, 0.6, 0.2, 0.5, 0.1]
    assert threshold_for_sensitivity(labels, said, 0.75) == pytest.approx(0.55)
    assert threshold_for_sensitivity(labels, said, 0.76) == pytest.approx(0.15)
    assert threshold_for_sensitivity([1, 1], [0.4, 0.6], 1.0) == pytest.approx(0.2)
    assert threshold_for_sensitivity([1, 0], [0.0, 0.6], 1.0) == 0.0


def test_nineteen_of_twenty_are_95_percent() -> None:
    said = np.linspace(0.05, 1.0, 20)
    threshold = threshold_for_sensitivity(np.ones(20), said, 0.95)
    assert (said >= threshold).sum() == 19


def test_a_threshold_between_neighbouring_floats() -> None:
    low = 0.5
    high = np.nextafter(low, 1.0)
    threshold = threshold_for_sensitivity([1, 0], [high, low], 1.0)
    assert low < threshold <= high


def test_no_threshold_without_an_abnormal_scan() -> None:
    with pytest.raises(DatasetError, match="no threshold"):
        threshold_for_sensitivity([0, 0], [0.1, 0.2])
    with pytest.raises(DatasetError, match="1 scan, none abnormal"):
        threshold_for_sensitivity([0], [0.1])
    for sensitivity in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="sensitivity"):
            threshold_for_sensitivity([0, 1], [0.1, 0.2], sensitivity)
    with pytest.raises(ValueError, match="within 0-1"):
        threshold_for_sensitivity([0, 1], [float("nan"), 0.2])


def test_the_line_from_predicted_to_true_scores_is_found_again(rng: np.random.Generator) -> None:
    truth = rng.uniform(0.0, 100.0, 400)
    predicted = (truth - 3.0) / 0.9
    assert fit_line(predicted, truth) == pytest.approx((0.9, 3.0))
    noisy = predicted + rng.normal(0.0, 5.0, 400)
    slope, intercept = fit_line(noisy, truth)
    error = np.mean((slope * noisy + intercept - truth) ** 2)
    assert error < np.mean((noisy - truth) ** 2)


@pytest.mark.parametrize(
    ("predicted", "scores"),
    [
        (np.arange(LEAST_SCANS - 1.0), 2.0 * np.arange(LEAST_SCANS - 1.0)),
        (np.full(100, 7.0), np.arange(100.0)),
        (np.arange(100.0), -np.arange(100.0)),
        (np.arange(100.0), 9.0 * np.arange(100.0)),
    ],
    ids=["few", "one score", "backwards", "steep"],
)
def test_where_scans_say_too_little_no_line_is_fitted(
    predicted: np.ndarray, scores: np.ndarray
) -> None:
    assert fit_line(predicted, scores) == (1.0, 0.0)


def test_a_line_needs_finite_scores() -> None:
    with pytest.raises(ValueError, match="finite"):
        fit_line([np.nan, 1.0], [0.0, 1.0])
