"""95 % confidence intervals by resampling scans, or whole patients.

Intervals are percentiles over resamples (Efron and Tibshirani, 1993). Scans of one patient
resemble each other: where patients have several, whole patients are drawn (the cluster
bootstrap: Field and Welsh, 2007), as single scans would make the intervals too narrow.
The draw keeps the number of each stratum, so that every class stays present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import counted

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Metric = Callable[[Values, Values], float]

RESAMPLES = 1000
CONFIDENCE = 0.95


def resamples(
    truth: Values, *, by_class: bool, groups: Sequence[str] | None = None, seed: int = 0
) -> list[Rows]:
    """`RESAMPLES` draws, each the row numbers of one resample.

    Args:
        truth: (n,) answers.
        by_class: whether `truth` holds classes 0/1, whose shares the draw keeps. Patients with
            scans of both classes are a stratum of their own.
        groups: (n,) patient of each scan; None, or one scan a patient, draws scans.
        seed: of the draw.
    """
    rng = np.random.default_rng(seed)
    patients = _patients(groups, len(truth))
    if patients is None:
        if by_class:
            strata = [np.flatnonzero(truth == 1), np.flatnonzero(truth != 1)]
        else:
            strata = [np.arange(len(truth))]
        return [
            np.concatenate([rng.choice(rows, len(rows)) for rows in strata if len(rows)])
            for _ in range(RESAMPLES)
        ]
    alike: dict[tuple[float, ...], list[Rows]] = {}
    for rows in patients:
        classes = tuple(np.unique(truth[rows])) if by_class else ()
        alike.setdefault(classes, []).append(rows)
    return [
        np.concatenate(
            [
                stratum[index]
                for stratum in alike.values()
                for index in rng.integers(len(stratum), size=len(stratum))
            ]
        )
        for _ in range(RESAMPLES)
    ]


def describe(groups: Sequence[str] | None, count: int, seed: int) -> dict[str, Any]:
    """What `resamples` draws, for the record."""
    patients = _patients(groups, count)
    return {
        "unit": "scan" if patients is None else "patient",
        "units": count if patients is None else len(patients),
        "resamples": RESAMPLES,
        "confidence": CONFIDENCE,
        "seed": seed,
    }


def with_intervals(
    metrics: Mapping[str, Metric | None], truth: Values, said: Values, draws: Sequence[Rows]
) -> dict[str, dict[str, Any] | None]:
    """`{"value": v, "ci95": [low, high]}` of each metric, or None where it is not defined.

    A metric that answers NaN for a draw (a correlation with a constant) is judged on the others;
    where it is undefined on the data or on every draw, the answer is None.
    """
    edges = [50.0 * (1.0 - CONFIDENCE), 50.0 * (1.0 + CONFIDENCE)]
    result: dict[str, dict[str, Any] | None] = {}
    for name, metric in metrics.items():
        value = np.nan if metric is None else metric(truth, said)
        if metric is None or np.isnan(value):
            result[name] = None
            continue
        spread = np.array([metric(truth[rows], said[rows]) for rows in draws])
        spread = spread[~np.isnan(spread)]
        if not len(spread):
            result[name] = None
            continue
        low, high = np.percentile(spread, edges)
        result[name] = {"value": value, "ci95": [float(low), float(high)]}
    return result


def _patients(groups: Sequence[str] | None, count: int) -> list[Rows] | None:
    """The rows of each patient, or None where every scan stands alone."""
    if groups is None:
        return None
    if len(groups) != count:
        raise ValueError(f"{counted(len(groups), 'patient')} for {counted(count, 'scan')}")
    rows: dict[str, list[int]] = {}
    for row, patient in enumerate(groups):
        rows.setdefault(patient, []).append(row)
    if len(rows) == count:
        return None
    return [np.array(of_one, dtype=np.intp) for of_one in rows.values()]
