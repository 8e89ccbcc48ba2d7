"""The figures draw the numbers they are given; the eye judged the rest."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from ctedge_training.judging import plots
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def scans(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.integers(0, 2, 50).astype(float)
    return truth, np.clip(0.4 * truth + rng.uniform(0, 0.6, 50), 0, 1)


def said_in(figure: Figure) -> str:
    texts = []
    for axes in figure.axes:
        legend = axes.get_legend()
        texts += [text.get_text() for text in axes.texts]
        texts += [axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")]
        texts += [] if legend is None else [text.get_text() for text in legend.get_texts()]
    return "\n".join(texts)


def test_every_figure_of_a_task(scans: tuple[np.ndarray, np.ndarray]) -> None:
    truth, said = scans
    binary = plots.figures_of(SLICES, truth, said)
    assert list(binary) == ["roc", "reliability", "histogram", "confusion"]
    scores = plots.figures_of(SEVERITY, 100 * truth, 100 * said)
    assert list(scores) == ["scatter", "bland_altman", "confusion"]
    assert all(png.startswith(PNG) for png in (*binary.values(), *scores.values()))


def test_the_same_scans_give_the_same_bytes(scans: tuple[np.ndarray, np.ndarray]) -> None:
    first, again = (plots.figures_of(CLASSIFIER, *scans, seed=1) for _ in range(2))
    assert first == again


def test_one_class_and_one_scan_can_be_drawn() -> None:
    assert "roc" not in plots.figures_of(CLASSIFIER, [1, 1], [0.2, 0.9])
    assert len(plots.figures_of(SEVERITY, [50.0], [50.0])) == 3


def test_the_roc_curve_and_its_operating_point(scans: tuple[np.ndarray, np.ndarray]) -> None:
    truth, said = scans
    (axes,) = plots.roc(truth, said, threshold=0.45).axes
    false, true, _ = roc_curve(truth, said, drop_intermediate=False)
    _, curve, point = axes.lines
    np.testing.assert_allclose(curve.get_xydata(), np.c_[false, true])
    called = said >= 0.45
    (wanted,) = point.get_xydata()
    assert tuple(wanted) == pytest.approx((called[truth == 0].mean(), called[truth == 1].mean()))


def test_the_reliability_points(scans: tuple[np.ndarray, np.ndarray]) -> None:
    truth, said = scans
    upper, lower = plots.reliability_diagram(truth, said, positive="ill").axes
    points = upper.lines[1].get_xydata()
    assert len(points) == 10
    assert np.average(points[:, 0]) == pytest.approx(said.mean())  # ten bins of five scans
    assert sum(patch.get_height() for patch in lower.patches) == 50


def test_the_histogram_counts_every_scan(scans: tuple[np.ndarray, np.ndarray]) -> None:
    truth, said = scans
    figure = plots.probability_histogram(truth, said, 0.3, ("well", "ill"))
    ill, well = (sum(patch.get_height() for patch in axes.patches) for axes in figure.axes)
    assert (ill, well) == (truth.sum(), 50 - truth.sum())
    assert f"truly ill (n = {ill:.0f})" in said_in(figure)


def test_the_class_table_reads_row_by_row() -> None:
    table = plots.class_table(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]), ("well", "ill"))
    assert [text.get_text() for text in table.axes[0].texts] == ["2\n67%", "1\n33%", "0", "1\n100%"]
    assert [label.get_text() for label in table.axes[0].get_yticklabels()] == ["well", "ill"]


def test_the_limits_of_agreement() -> None:
    truth, said = np.array([10.0, 20.0, 30.0]), np.array([12.0, 20.0, 34.0])
    shown = said_in(plots.bland_altman(truth, said))
    assert "bias +2.0" in shown
    assert "limits of agreement -1.9 to +5.9" in shown  # 2 -+ 1.96 * 2
    assert "limits" not in said_in(plots.bland_altman(truth[:1], said[:1]))


def test_scores_are_drawn_over_their_classes() -> None:
    (axes,) = plots.score_scatter(np.array([30.0, 70.0]), np.array([35.0, 99.0])).axes
    assert axes.lines[-1].get_xydata().tolist() == [[30.0, 35.0], [70.0, 99.0]]
    assert len(axes.collections) == 5


@pytest.mark.parametrize(
    "label", [r"$\frac$", "a$b", "CT_NonCOVID_and_much_more_than_that", "a\nb\0"]
)
def test_odd_labels_can_be_drawn(scans: tuple[np.ndarray, np.ndarray], label: str) -> None:
    task = dataclasses.replace(CLASSIFIER, labels=("normal", label))
    assert len(plots.figures_of(task, *scans)) == 4
