"""How well a network answers, with 95 % bootstrap confidence intervals.

The formulas stand here because the bootstrap asks for each a thousand times, and scikit-learn's
checks of its arguments would take most of that; the tests hold them against scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import DatasetError, InferenceFailed
from ctedge_training.judging import bootstrap
from ctedge_training.judging.bootstrap import Metric, Values
from ctedge_training.judging.calibration import BINS, calibration_error, wilson
from ctedge_training.tasks import SEVERITY, SEVERITY_BOUNDS, Task

#: A probability of at least this is called abnormal.
THRESHOLD = 0.5

#: Probabilities keep this distance from 0 and 1 in the cross-entropy, as Keras does.
CLIP = 1e-7

#: Metrics that are a share of scans, and the class whose scans they count; None is all.
_SHARES = {
    "accuracy": None,
    "misclassification_rate": None,
    "sensitivity": 1,
    "specificity": 0,
    "exact_class": None,
    "within_one_class": None,
}

#: The two shares whose mean is the balanced accuracy.
_OF_CLASS = ("sensitivity", "specificity")

#: A correlation of fewer scans is 1 or undefined.
_MIN_FOR_CORRELATION = 3


def metrics_of(  # noqa: PLR0913 - one keyword an independent choice
    task: Task,
    answers: npt.ArrayLike,
    predictions: npt.ArrayLike,
    *,
    threshold: float = THRESHOLD,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """All metrics of a task as plain JSON values.

    Args:
        task: a binary one, or severity.
        answers: (n,) true classes 0/1, or scores 0-100.
        predictions: (n,) probabilities, or scores; scores are clipped to 0-100 as the SDK does.
        threshold: binary: a probability of at least this is called the second label.
        groups: (n,) the patient of each scan; patients with several scans are resampled whole.
        seed: of the resampling.

    Returns:
        Counts (class 0 is "normal", class 1 "abnormal"), and for each metric
        `{"value": v, "ci95": [low, high]}`, or None where it is not defined (an AUC of one
        class). The calibration error `ece` comes without an interval: resamples repeat scans and
        so look worse calibrated than the data (its bias: Roelofs et al., 2022); `brier` and
        `loss` have one. A share that every resample repeats (all or none are hits, of each class
        by itself) has the interval of Wilson (1927), a balanced accuracy the mean of its parts';
        an AUC of 1 keeps an interval without width.

    Raises:
        DatasetError: no scans.
        InferenceFailed: a prediction is not a finite number.
        ValueError: arrays of different length, or probabilities outside 0-1.
    """
    truth, said = paired(task, answers, predictions)
    definitions = _definitions(task, truth, threshold)
    intervals = _intervals(task, definitions, truth, said, groups=groups, seed=seed)
    described = bootstrap.describe(groups, len(truth), seed)
    if not task.binary:
        return {
            "count": len(truth),
            **intervals,
            "class_distance": _class_distance(truth, said),
            "confusion": _confusion(truth, said),
            "bootstrap": described,
        }
    return {
        "count": len(truth),
        "counts": _counts(truth == 1, said >= threshold),
        "threshold": threshold,
        **intervals,
        "ece": {"value": calibration_error(truth, said), "bins": BINS},
        "bootstrap": described,
    }


def some_metrics(  # noqa: PLR0913 - one keyword an independent choice
    task: Task,
    names: Sequence[str],
    answers: npt.ArrayLike,
    predictions: npt.ArrayLike,
    *,
    threshold: float = THRESHOLD,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Any] | None]:
    """The named ones of `metrics_of` alone, which is quicker; same arguments and errors."""
    truth, said = paired(task, answers, predictions)
    known = _definitions(task, truth, threshold)
    wanted = {name: known[name] for name in names}
    return _intervals(task, wanted, truth, said, groups=groups, seed=seed)


def paired(task: Task, answers: npt.ArrayLike, predictions: npt.ArrayLike) -> tuple[Values, Values]:
    """Answers and predictions as arrays that can be compared; scores clipped to 0-100.

    Raises:
        DatasetError: no scans.
        InferenceFailed: a prediction is not a finite number.
        ValueError: arrays of different length, or probabilities outside 0-1.
    """
    truth = np.asarray(answers, dtype=np.float64)
    said = np.asarray(predictions, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != said.shape:
        raise ValueError(f"answers {truth.shape} and predictions {said.shape} do not pair up")
    if not len(truth):
        raise DatasetError(
            "there is nothing to judge",
            found="no scans",
            expected="at least one scan with its answer",
            fix="name a split that has scans",
        )
    if not np.isfinite(said).all():
        raise InferenceFailed(
            "the network's answer is not a number",
            found=f"{int((~np.isfinite(said)).sum())} of {len(said)} answers are NaN or infinite",
            expected="finite numbers",
            fix="train again, with a lower learning rate",
        )
    if not task.binary:
        return truth, np.clip(said, 0.0, 100.0)
    if said.min() < 0.0 or said.max() > 1.0:
        raise ValueError(f"probabilities from {said.min():g} to {said.max():g}; are these logits?")
    return truth, said


def severity_class(scores: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Class 0 (Low) to 4 (Critical) of scores 0-100."""
    return np.digitize(np.asarray(scores, dtype=np.float64), SEVERITY_BOUNDS)


def auc(truth: Values, said: Values) -> float:
    """Area under the ROC curve: how often an abnormal scan outranks a normal one (ties half).

    The Mann-Whitney form (Hanley and McNeil, 1982); 60 times faster than tracing the curve, which
    the bootstrap needs.
    """
    normal = np.sort(said[truth == 0])
    abnormal = said[truth == 1]
    below = np.searchsorted(normal, abnormal, side="left")
    below_or_tied = np.searchsorted(normal, abnormal, side="right")
    return float(np.mean(below + below_or_tied) / (2 * len(normal)))


def log_loss(truth: Values, said: Values) -> float:
    """Mean binary cross-entropy in nats, probabilities clipped by `CLIP`."""
    clipped = np.clip(said, CLIP, 1.0 - CLIP)
    return float(-np.mean(np.log(np.where(truth == 1, clipped, 1.0 - clipped))))


def mae(truth: Values, said: Values) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(said - truth)))


def rmse(truth: Values, said: Values) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((said - truth) ** 2)))


def pearson(truth: Values, said: Values) -> float:
    """Pearson's correlation; NaN where either side is constant."""
    a, b = truth - truth.mean(), said - said.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    if np.ptp(truth) == 0 or np.ptp(said) == 0 or scale == 0:
        return float("nan")
    return float(np.clip((a @ b) / scale, -1.0, 1.0))


def _intervals(  # noqa: PLR0913 - one keyword an independent choice
    task: Task,
    metrics: Mapping[str, Metric | None],
    truth: Values,
    said: Values,
    *,
    groups: Sequence[str] | None,
    seed: int,
) -> dict[str, dict[str, Any] | None]:
    """Bootstrap intervals; Wilson's where no draw differs, so that the bootstrap would be sure.

    That is where all or none are hits, of all scans or of each class by itself.
    """
    draws = bootstrap.resamples(truth, by_class=task.binary, groups=groups, seed=seed)
    found = bootstrap.with_intervals(metrics, truth, said, draws)
    for name, metric in found.items():
        if metric is None or name not in _SHARES or metric["ci95"][0] != metric["ci95"][1]:
            continue
        of_class = _SHARES[name]
        counted = np.flatnonzero((truth == of_class) | (of_class is None)).tolist()
        # Scans of one patient are no independent trials.
        units = len(counted) if groups is None else len({groups[row] for row in counted})
        metric["ci95"] = list(wilson(round(metric["value"] * units), units))
    balanced = found.get("balanced_accuracy")
    if balanced is not None and balanced["ci95"][0] == balanced["ci95"][1]:
        parts = [part["ci95"] for name in _OF_CLASS if (part := found.get(name)) is not None]
        balanced["ci95"] = [float(np.mean(ends)) for ends in zip(*parts, strict=True)]
    return found


def _definitions(task: Task, truth: Values, threshold: float) -> dict[str, Metric | None]:
    """Every metric that has an interval; None where these answers leave it undefined."""
    if not task.binary:
        return {
            "mae": mae,
            "rmse": rmse,
            "exact_class": lambda t, p: float(np.mean(_distance(t, p) == 0)),
            "within_one_class": lambda t, p: float(np.mean(_distance(t, p) <= 1)),
            "bias": lambda t, p: float(np.mean(p - t)),
            "pearson_r": pearson if len(truth) >= _MIN_FOR_CORRELATION else None,
        }
    sensitivity = _share_called(1, True, threshold) if (truth == 1).any() else None
    specificity = _share_called(0, False, threshold) if (truth != 1).any() else None
    balanced: Metric | None = None
    if sensitivity is not None and specificity is not None:
        of_abnormal, of_normal = sensitivity, specificity
        balanced = lambda t, p: (of_abnormal(t, p) + of_normal(t, p)) / 2  # noqa: E731
    return {
        "auc": auc if balanced else None,
        "accuracy": lambda t, p: float(np.mean((p >= threshold) == (t == 1))),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": balanced,
        "misclassification_rate": lambda t, p: float(np.mean((p >= threshold) != (t == 1))),
        "loss": log_loss,
        "brier": lambda t, p: float(np.mean((p - t) ** 2)),
    }


def _share_called(of_class: int, abnormal: bool, threshold: float) -> Metric:
    """Of the scans of a class, the share that is called abnormal, or normal."""
    return lambda t, p: float(np.mean((p[t == of_class] >= threshold) == abnormal))


def _counts(positive: npt.NDArray[np.bool_], called: npt.NDArray[np.bool_]) -> dict[str, int]:
    return {
        "normal": int((~positive).sum()),
        "abnormal": int(positive.sum()),
        "true_positive": int((positive & called).sum()),
        "false_positive": int((~positive & called).sum()),
        "true_negative": int((~positive & ~called).sum()),
        "false_negative": int((positive & ~called).sum()),
    }


def _distance(truth: Values, said: Values) -> npt.NDArray[np.intp]:
    steps: npt.NDArray[np.intp] = np.abs(severity_class(truth) - severity_class(said))
    return steps


def _class_distance(truth: Values, said: Values) -> dict[str, list[float]]:
    """How many scans, and which share, are so many classes off (PSG College, table 6.1)."""
    numbers = np.bincount(_distance(truth, said), minlength=len(SEVERITY.labels)).tolist()
    names = ["same", *(f"off_by_{step}" for step in range(1, len(SEVERITY.labels)))]
    return {
        name: [number, number / len(truth)] for name, number in zip(names, numbers, strict=True)
    }


def _confusion(truth: Values, said: Values) -> dict[str, Any]:
    table = np.zeros((len(SEVERITY.labels),) * 2, dtype=int)
    np.add.at(table, (severity_class(truth), severity_class(said)), 1)
    return {
        "labels": list(SEVERITY.labels),
        "rows": "true class",
        "columns": "predicted class",
        "counts": table.tolist(),
    }
