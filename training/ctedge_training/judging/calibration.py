"""What probabilities mean: a temperature, a threshold, and the table behind the diagram."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import DatasetError, counted
from ctedge.extras import require

Values = npt.NDArray[np.float64]

BINS = 10

#: The bounds of a temperature. A network trained to convergence is overconfident (Guo et al.: 1
#: to 5); one stopped early may be a little timid. Beyond these, the data say too little.
TEMPERATURE_RANGE = (0.25, 10.0)

#: A line is fitted to so many scans at least, and its slope kept in these bounds: an average over
#: draws of weights (dropout) shrinks scores a little towards their mean, not by a factor of two.
LEAST_SCANS = 30
SLOPE_RANGE = (0.5, 2.0)

_Z_95 = 1.959963984540054


def fit_temperature(logits: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The T for which sigmoid(logit / T) has the least cross-entropy on these scans.

    Guo et al. 2017, "On calibration of modern neural networks". The cross-entropy is convex in
    1/T, so its slope has one root, which is looked for inside `TEMPERATURE_RANGE`. Order, and with
    it the AUC and every call at a threshold of 0.5, stay as they are.

    Args:
        logits: (n,) before the sigmoid; finite.
        labels: (n,) classes 0/1.

    Returns:
        The temperature. Where the root lies outside the range, its nearer end: the lower one for
        perfectly separated classes (the cross-entropy falls all the way to T = 0), the upper one
        for logits that point the wrong way. With one class only, or logits all 0, there is nothing
        to fit: 1.0.

    Raises:
        ValueError: no scans, arrays of different length, or logits that are not finite.
        MissingExtra: scipy is absent.
    """
    z, y = _pair(logits, labels)
    if not np.isfinite(z).all():
        raise ValueError("logits must be finite")
    if np.ptp(y) == 0 or not z.any():
        return 1.0
    optimize = require("scipy.optimize", extra="training", purpose="fitting a temperature")
    special = require("scipy.special", extra="training", purpose="fitting a temperature")

    def slope(inverse: float) -> float:
        return float(np.mean((special.expit(z * inverse) - y) * z))

    low, high = 1.0 / TEMPERATURE_RANGE[1], 1.0 / TEMPERATURE_RANGE[0]
    if slope(low) >= 0.0:
        return TEMPERATURE_RANGE[1]
    if slope(high) <= 0.0:
        return TEMPERATURE_RANGE[0]
    return 1.0 / float(optimize.brentq(slope, low, high))


def fit_line(predicted: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[float, float]:
    """Slope and intercept of the straight line from predicted to true scores: least squares.

    The calibration of a regression (Cox, "Two further applications of a model for binary
    regression", Biometrika 1958, for its slope and intercept): order stays as it is.

    Args:
        predicted: (n,) scores, not clipped; finite.
        scores: (n,) true scores.

    Returns:
        (slope, intercept). Where the scans say too little (`LEAST_SCANS`, one score only, a slope
        outside `SLOPE_RANGE`), nothing is changed: (1.0, 0.0).

    Raises:
        ValueError: no scans, arrays of different length, or scores that are not finite.
    """
    x, y = _pair(predicted, scores)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("scores must be finite")
    spread = x - x.mean()
    if len(x) < LEAST_SCANS or not spread.any():
        return 1.0, 0.0
    slope = float(spread @ y / (spread @ spread))
    if not SLOPE_RANGE[0] <= slope <= SLOPE_RANGE[1]:
        return 1.0, 0.0
    return slope, float(y.mean() - slope * x.mean())


def threshold_for_sensitivity(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, sensitivity: float = 0.95
) -> float:
    """The largest threshold that still calls the wanted share of the abnormal scans.

    A scan is called where its probability is at least the threshold. The threshold lies halfway
    between the lowest score that must be called and the next lower one of any scan, so that
    another runtime's rounding flips no call. Choose it on validation scans, never on those that
    are reported: on other scans the sensitivity will differ.

    Args:
        labels: (n,) classes 0/1.
        probabilities: (n,) of class 1, within 0-1.
        sensitivity: the wanted share, above 0 and at most 1.

    Returns:
        The threshold, within 0-1.

    Raises:
        DatasetError: no abnormal scan.
        ValueError: arrays of different length, or a sensitivity or probability out of range.
    """
    positive = np.asarray(labels) == 1
    said = np.asarray(probabilities, dtype=np.float64)
    if said.ndim != 1 or positive.shape != said.shape:
        raise ValueError(f"labels {positive.shape} and probabilities {said.shape} do not pair up")
    if not 0.0 < sensitivity <= 1.0:
        raise ValueError(f"sensitivity must be above 0 and at most 1, got {sensitivity}")
    if not positive.any():
        raise DatasetError(
            "no threshold can be chosen for a sensitivity",
            found=f"{counted(len(said), 'scan')}, none abnormal",
            expected="at least one abnormal scan",
            fix="choose the threshold on a split that has abnormal scans",
        )
    if not ((said >= 0.0) & (said <= 1.0)).all():
        raise ValueError("probabilities must lie within 0-1")
    falling = np.sort(said[positive])[::-1]
    shares = np.arange(1, len(falling) + 1) / len(falling)
    must_call = float(falling[int(np.argmax(shares >= sensitivity))])
    below = said[said < must_call]
    halfway = (must_call + float(below.max() if len(below) else 0.0)) / 2
    # Between neighbouring floats there is no halfway.
    return halfway if not len(below) or halfway > below.max() else must_call


def reliability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> list[dict[str, Any]]:
    """What was said against what came true, in bins of about equal numbers of scans.

    Bins are cut at quantiles; equal probabilities stay together, so there may be fewer than asked.

    Args:
        labels: (n,) classes 0/1.
        probabilities: (n,) of class 1.
        bins: number of bins, at least 1.

    Returns:
        A row a bin, in rising order: `mean_probability`, `observed` (share of class 1), `count`,
        `ci95` (of the observed share: Wilson 1927).

    Raises:
        ValueError: no scans, arrays of different length, or no bins.
    """
    p, y = _pair(probabilities, labels)
    number = _bin_numbers(p, bins)
    return [
        {
            "mean_probability": float(p[inside].mean()),
            "observed": float(y[inside].mean()),
            "count": int(inside.sum()),
            "ci95": list(wilson(int(y[inside].sum()), int(inside.sum()))),
        }
        for inside in (number == one for one in np.unique(number))
    ]


def calibration_error(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = BINS
) -> float:
    """Expected calibration error: mean gap of `reliability`, weighted by scans (Naeini 2015)."""
    rows = reliability(labels, probabilities, bins)
    gaps = [row["count"] * abs(row["mean_probability"] - row["observed"]) for row in rows]
    return float(sum(gaps) / sum(row["count"] for row in rows))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share, by Wilson's score (1927); within 0-1 also for 0 or all hits."""
    share, z2 = hits / count, _Z_95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = (
        _Z_95 / (1 + z2 / count) * float(np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)))
    )
    # At 0 and at all hits the formula is exact, the rounding is not.
    low = 0.0 if hits == 0 else centre - half
    high = 1.0 if hits == count else centre + half
    return low, high


def _bin_numbers(probabilities: Values, bins: int) -> npt.NDArray[np.intp]:
    if bins < 1:
        raise ValueError(f"at least one bin, got {bins}")
    edges = np.percentile(probabilities, np.linspace(0.0, 100.0, bins + 1)[1:-1])
    return np.searchsorted(edges, probabilities)


def _pair(values: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Values, Values]:
    first, second = np.asarray(values, np.float64), np.asarray(labels, np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"values {first.shape} and labels {second.shape} do not pair up")
    return first, second
