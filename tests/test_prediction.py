from __future__ import annotations

import pytest

from ctedge.prediction import severity_category, severity_ctsi


@pytest.mark.parametrize(
    ("score", "category", "ctsi"),
    [
        (0.0, "Low", 0),
        (3.99, "Low", 0),
        (4.0, "Low", 1),
        (19.999, "Low", 4),
        (20.0, "Mild", 5),
        (39.999, "Mild", 9),
        (40.0, "Moderate", 10),
        (60.0, "Severe", 15),
        (79.999, "Severe", 19),
        (80.0, "Critical", 20),
        (99.999, "Critical", 24),
        (100.0, "Critical", 25),
    ],
)
def test_class_and_severity_index(score, category, ctsi):
    assert severity_category(score) == category
    assert severity_ctsi(score) == ctsi


@pytest.mark.parametrize("score", [-0.001, 100.001, float("nan"), float("inf")])
def test_no_class_for_what_is_no_score(score):
    with pytest.raises(ValueError, match="between 0 and 100"):
        severity_category(score)
    with pytest.raises(ValueError, match="between 0 and 100"):
        severity_ctsi(score)
