"""What is drawn again: scans or whole patients, with every class present."""

from __future__ import annotations

import numpy as np
import pytest

from ctedge_training.judging import bootstrap
from ctedge_training.judging.metrics import metrics_of, some_metrics
from ctedge_training.tasks import CLASSIFIER, SEVERITY


def test_patients_are_drawn_whole(rng: np.random.Generator) -> None:
    patients = [f"p{index // 3}" for index in range(30)]
    truth = np.repeat([0.0, 1.0], 15)
    for rows in bootstrap.resamples(truth, by_class=True, groups=patients)[:50]:
        assert len(rows) == 30
        counts = np.bincount(rows, minlength=30).reshape(10, 3)
        assert (counts == counts[:, :1]).all()
        assert truth[rows].sum() == 15


def test_both_classes_stay_where_a_patient_has_both() -> None:
    truth = np.array([0.0, 1.0, 0.0, 0.0])
    draws = bootstrap.resamples(truth, by_class=True, groups=["a", "a", "b", "c"])
    assert all({0.0, 1.0} == set(truth[rows]) for rows in draws)


def test_one_scan_a_patient_is_the_draw_of_scans() -> None:
    truth, said = [0, 0, 1, 1, 0, 1], [0.2, 0.6, 0.4, 0.9, 0.1, 0.7]
    alone = metrics_of(CLASSIFIER, truth, said)
    named = metrics_of(CLASSIFIER, truth, said, groups=list("abcdef"))
    assert alone == named
    assert named["bootstrap"]["unit"] == "scan"


def test_copies_of_a_scan_do_not_narrow_the_interval(rng: np.random.Generator) -> None:
    truth = rng.uniform(0, 100, 20)
    said = truth + rng.normal(0, 10, 20)
    patients = [str(index) for index in range(20)]

    def width(copies: int, *, grouped: bool) -> float:
        found = metrics_of(
            SEVERITY,
            np.tile(truth, copies),
            np.tile(said, copies),
            groups=patients * copies if grouped else None,
        )
        low, high = found["mae"]["ci95"]
        return high - low

    once = width(1, grouped=True)
    assert width(4, grouped=True) == pytest.approx(once, rel=0.15)
    assert width(4, grouped=False) < 0.65 * once


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for seed in range(120):
        error = rng.normal(0, 10, 40)
        found = some_metrics(SEVERITY, ["bias"], np.full(40, 50.0), 50 + error, seed=seed)["bias"]
        assert found is not None
        hits += found["ci95"][0] <= 0.0 <= found["ci95"][1]
    assert 0.87 <= hits / 120 <= 0.99


def test_a_metric_undefined_on_some_draws_is_judged_on_the_others() -> None:
    found = metrics_of(SEVERITY, [10.0, 10.0, 40.0], [12.0, 9.0, 50.0])["pearson_r"]
    assert found is not None
    assert np.isfinite(found["ci95"]).all()


def test_patients_that_do_not_pair_up() -> None:
    with pytest.raises(ValueError, match="2 patients for 3 scans"):
        metrics_of(CLASSIFIER, [0, 1, 1], [0.1, 0.2, 0.3], groups=["a", "b"])


def test_the_record_says_what_was_drawn() -> None:
    found = metrics_of(CLASSIFIER, [0, 0, 1, 1], [0.1] * 4, groups=["a", "a", "b", "c"], seed=4)
    assert found["bootstrap"] == {
        "unit": "patient",
        "units": 3,
        "resamples": 1000,
        "confidence": 0.95,
        "seed": 4,
    }
