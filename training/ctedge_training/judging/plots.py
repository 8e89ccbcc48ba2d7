"""What a judged network looks like: ROC, reliability, histograms, scores, class tables.

Each drawing is a Figure of matplotlib; `figures_of` gives all that a task has as PNG. Colours are
those of Okabe and Ito (2008), which the colour-blind can tell apart.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ctedge.extras import require
from ctedge_training.judging import bootstrap
from ctedge_training.judging.calibration import calibration_error, reliability
from ctedge_training.judging.metrics import THRESHOLD, auc, paired, severity_class
from ctedge_training.tasks import SEVERITY, SEVERITY_BOUNDS, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.NDArray[np.float64]

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
_DPI = 130
_HISTOGRAM_BINS = np.linspace(0.0, 1.0, 21)
_EDGES = [50.0 * (1.0 - bootstrap.CONFIDENCE), 50.0 * (1.0 + bootstrap.CONFIDENCE)]
_LIMITS_OF_AGREEMENT = 1.96
_LABEL_LENGTH = 16


def figures_of(  # noqa: PLR0913 - one keyword an independent choice
    task: Task,
    answers: npt.ArrayLike,
    predictions: npt.ArrayLike,
    *,
    threshold: float = THRESHOLD,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, bytes]:
    """Every figure that a task has, as PNG.

    Args:
        task: a binary one gives "roc" (where both classes are there), "reliability", "histogram"
            and "confusion"; severity gives "scatter", "bland_altman" and "confusion".
        answers: (n,) as for `metrics_of`.
        predictions: (n,) as for `metrics_of`.
        threshold: binary: the operating point.
        groups: (n,) the patient of each scan, as for `metrics_of`.
        seed: of the band of the ROC curve.

    Raises:
        DatasetError: no scans.
        InferenceFailed: a prediction is not a finite number.
        MissingExtra: matplotlib or scikit-learn is absent.
    """
    truth, said = paired(task, answers, predictions)
    figures: dict[str, Figure] = {}
    if task.binary:
        if 0 < (truth == 1).sum() < len(truth):
            figures["roc"] = roc(truth, said, threshold=threshold, groups=groups, seed=seed)
        figures["reliability"] = reliability_diagram(truth, said, positive=task.labels[1])
        figures["histogram"] = probability_histogram(truth, said, threshold, task.labels)
        table = class_table(truth == 1, said >= threshold, task.labels)
    else:
        figures["scatter"] = score_scatter(truth, said)
        figures["bland_altman"] = bland_altman(truth, said)
        table = class_table(severity_class(truth), severity_class(said), task.labels)
    figures["confusion"] = table
    return {name: png_of(figure) for name, figure in figures.items()}


def png_of(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()


def roc(
    truth: Values,
    said: Values,
    *,
    threshold: float = THRESHOLD,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Figure:
    """The ROC curve with its 95 % bootstrap band (pointwise), area, and the operating point."""
    metrics = require("sklearn.metrics", extra="training", purpose="drawing the ROC curve")
    grid = np.linspace(0.0, 1.0, 201)
    curves, areas = [], []
    for rows in bootstrap.resamples(truth, by_class=True, groups=groups, seed=seed):
        false, true, _ = metrics.roc_curve(truth[rows], said[rows], drop_intermediate=False)
        curves.append(np.interp(grid, false, true))
        areas.append(auc(truth[rows], said[rows]))
    low, high = np.percentile(curves, _EDGES, axis=0)
    least, most = np.percentile(areas, _EDGES)
    false, true, _ = metrics.roc_curve(truth, said, drop_intermediate=False)
    called, positive = said >= threshold, truth == 1
    point = float(np.mean(called[~positive])), float(np.mean(called[positive]))

    figure, axes = _sheet(5.2, 5.2)
    axes.fill_between(grid, low, high, color=BLUE, alpha=0.18, linewidth=0, label="95 % interval")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance")
    area = f"AUC {auc(truth, said):.3f} [{least:.3f}, {most:.3f}]"
    axes.plot(false, true, color=BLUE, linewidth=2, label=area)
    axes.plot(
        *point,
        "o",
        color=RED,
        markersize=9,
        markeredgecolor="white",
        zorder=5,
        clip_on=False,
        label=f"threshold {threshold:.3g}: sensitivity {point[1]:.2f}, "
        f"specificity {1 - point[0]:.2f}",
    )
    _square(axes, "1 - specificity (false positive rate)", "sensitivity (true positive rate)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False)
    return figure


def reliability_diagram(truth: Values, said: Values, *, positive: str = "abnormal") -> Figure:
    """Observed share against mean probability (Wilson intervals), and how often each is said."""
    table = reliability(truth, said)
    mean = np.array([row["mean_probability"] for row in table])
    observed = np.array([row["observed"] for row in table])
    low, high = np.array([row["ci95"] for row in table]).T
    figure = _figure(5.2, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfect")
    upper.errorbar(
        mean,
        observed,
        yerr=(np.maximum(observed - low, 0), np.maximum(high - observed, 0)),
        color=BLUE,
        marker="o",
        linewidth=1.5,
        elinewidth=1,
        capsize=3,
        clip_on=False,
        zorder=5,
        label=f"bins of equal size, 95 % interval; "
        f"calibration error {calibration_error(truth, said):.3f}",
    )
    upper.set_xlim(0, 1)
    upper.set_ylim(0, 1)
    upper.grid(alpha=0.3)
    upper.set_ylabel(f"share that is {_name(positive)}")
    upper.legend(loc="lower center", bbox_to_anchor=(0.5, 1.01), frameon=False)
    lower.hist(said, bins=list(_HISTOGRAM_BINS), color=BLUE, alpha=0.7)
    lower.set_ylabel("scans")
    _whole_numbers(lower)
    lower.set_xlabel(f"predicted probability of {_name(positive)}")
    return figure


def probability_histogram(
    truth: Values, said: Values, threshold: float, labels: Sequence[str]
) -> Figure:
    """What was said of each class, above and below one axis, and where the call is made."""
    figure = _figure(6.4, 4.2)
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    for panel, value, colour in zip(panels, (1, 0), (RED, BLUE), strict=True):
        of_class = said[truth == value]
        panel.hist(of_class, bins=list(_HISTOGRAM_BINS), color=colour, alpha=0.8)
        panel.axvline(threshold, color="black", linestyle="--", linewidth=1)
        panel.set_title(f"truly {_name(labels[value])} (n = {len(of_class)})", loc="left")
        panel.set_ylabel("scans")
        panel.set_xlim(0, 1)
        _whole_numbers(panel)
    panels[1].set_xlabel(
        f"predicted probability of {_name(labels[1])} (dashed: threshold {threshold:.3g})"
    )
    return figure


def score_scatter(truth: Values, said: Values) -> Figure:
    """Predicted against true score, over the squares in which the class is right."""
    figure, axes = _sheet(5.6, 5.6)
    edges = [0.0, *SEVERITY_BOUNDS, 100.0]
    for low, high in itertools.pairwise(edges):
        axes.fill_between([low, high], low, high, color=GREEN, alpha=0.15, linewidth=0)
    for edge in SEVERITY_BOUNDS:
        axes.axvline(edge, color="0.85", linewidth=0.8, zorder=0)
        axes.axhline(edge, color="0.85", linewidth=0.8, zorder=0)
    axes.plot([0, 100], [0, 100], color=GREY, linestyle=":", linewidth=1)
    axes.plot(truth, said, "o", color=BLUE, alpha=0.6, markersize=5, clip_on=False, zorder=3)
    _square(axes, "true score", "predicted score", 100.0)
    axes.grid(visible=False)
    middles = [(low + high) / 2 for low, high in itertools.pairwise(edges)]
    above, right = axes.secondary_xaxis("top"), axes.secondary_yaxis("right")
    above.set_xticks(middles, SEVERITY.labels)
    right.set_yticks(middles, SEVERITY.labels)
    for side in (above, right):
        side.tick_params(length=0)
    return figure


def bland_altman(truth: Values, said: Values) -> Figure:
    """Error against the mean of both scores (Bland and Altman, 1986), with limits of agreement."""
    error, mean = said - truth, (said + truth) / 2
    bias = float(error.mean())
    # One scan has no spread, so there are no limits to draw.
    spread = _LIMITS_OF_AGREEMENT * float(error.std(ddof=1)) if len(error) > 1 else None
    figure, axes = _sheet(6.4, 4.4)
    axes.plot(mean, error, "o", color=BLUE, alpha=0.6, markersize=5, markeredgewidth=0)
    axes.axhline(0, color=GREY, linestyle=":", linewidth=1)
    axes.axhline(bias, color=RED, linewidth=1.5, label=f"bias {bias:+.1f}")
    if spread is not None:
        low, high = bias - spread, bias + spread
        label = f"limits of agreement {low:+.1f} to {high:+.1f}"
        axes.axhline(low, color=RED, linestyle="--", linewidth=1.2, label=label)
        axes.axhline(high, color=RED, linestyle="--", linewidth=1.2)
    reach = 1.15 * max(5.0, float(np.abs(error).max()), abs(bias) + (spread or 0.0))
    axes.set_ylim(-reach, reach)
    axes.set_xlim(0, 100)
    axes.set_xlabel("mean of true and predicted score")
    axes.set_ylabel("predicted - true score")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=2, frameon=False)
    return figure


def class_table(
    truth: npt.NDArray[np.bool_ | np.intp],
    said: npt.NDArray[np.bool_ | np.intp],
    labels: Sequence[str],
) -> Figure:
    """How many scans of each true class were called each class, and the share of its row."""
    metrics = require("sklearn.metrics", extra="training", purpose="drawing the class table")
    size = len(labels)
    counts = metrics.confusion_matrix(truth.astype(int), said.astype(int), labels=range(size))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _sheet(2.4 + 0.85 * size, 1.9 + 0.75 * size)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row in range(size):
        for column in range(size):
            axes.text(
                column,
                row,
                f"{counts[row, column]}\n{shares[row, column]:.0%}" if counts[row, column] else "0",
                ha="center",
                va="center",
                fontsize="large",
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.set_xticks(range(size), [_name(label) for label in labels])
    axes.set_yticks(range(size), [_name(label) for label in labels])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return figure


def _name(label: str) -> str:
    """A label that leaves room for the figure, and is no formula (which `$` begins)."""
    short = label if len(label) <= _LABEL_LENGTH else label[: _LABEL_LENGTH - 1] + "…"
    plain = "".join(one if one.isprintable() else "?" for one in short)
    return plain.replace("$", r"\$")


def _figure(width: float, height: float) -> Figure:
    require("matplotlib", extra="training", purpose="drawing the figures of a report")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _square(axes: Axes, across: str, up: str, high: float = 1.0) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(0, high)
    axes.set_ylim(0, high)
    axes.grid(alpha=0.3)
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
