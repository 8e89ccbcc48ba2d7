"""The task gate: on labelled scans, does a model decide as what it was made of does?

That is Keras, or the FP32 file on scans that nobody showed to Keras. Classifier and slices: no
label may change where the reference's probability is not within 0.01 of the threshold, and the AUC
may change by 0.001 (INT8: 0.005). Severity: the mean absolute error of the score may change by 0.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.bundle.variants import FP32
from ctedge_export.gates.cases import Case
from ctedge_export.gates.numeric import Answers
from ctedge_export.gates.result import Figure, GateResult, number

#: The reference itself hardly decides closer to its threshold than this.
_UNDECIDED = 0.01

_AUC_CHANGE = {"int8": 0.005}
_AUC_CHANGE_ELSE = 0.001
_MAE_CHANGE = 0.3


def check(  # noqa: PLR0913 (keyword-only options)
    reference: Mapping[str, Mapping[str, float]],
    found: Answers,
    cases: Sequence[Case],
    *,
    precision: str,
    threshold: float | None,
    source: str,
    called: str = FP32,
) -> GateResult:
    """Hold the decisions of a model against those of its reference.

    Args:
        reference: the reference's answers, by the name of the input.
        found: the model's, likewise.
        cases: scans with their truth.
        precision: of the model; gives the limits.
        threshold: the last label from this probability; None for severity.
        source: where the scans come from, for the record.
        called: the reference's name in the record.
    """
    names = [case.shown.name for case in cases]
    record: dict[str, Any] = {"scans": len(cases), "source": source}
    output = "score" if threshold is None else "probability"
    before, after = (np.array([a[name][output] for name in names]) for a in (reference, found))
    if threshold is None:
        scores = np.array([case.score for case in cases], dtype=np.float64)
        figures, details = _severity(before, after, scores, called)
    else:
        positive = np.array([bool(case.positive) for case in cases])
        figures, details = _classes(before, after, positive, threshold)
        areas = [number(auc(answers, positive)) for answers in (before, after)]
        figures += _auc_change(*areas, limit=_AUC_CHANGE.get(precision, _AUC_CHANGE_ELSE))
        details["auc"] = dict(zip((called, "found"), areas, strict=True))
        if positive.all() or not positive.any():
            details["note"] = "no AUC: the scans are of one class alone"
    finite = np.isfinite(before) & np.isfinite(after)
    return GateResult(
        gate="task",
        figures=figures,
        broken=tuple(f"no number for {names[place]!r}" for place in np.flatnonzero(~finite)[:1]),
        details={**record, **details},
    )


_Floats = npt.NDArray[np.float64]
_Found = tuple[tuple[Figure, ...], dict[str, Any]]


def _classes(
    before: _Floats, after: _Floats, positive: npt.NDArray[np.bool_], threshold: float
) -> _Found:
    decided = np.abs(before - threshold) >= _UNDECIDED
    flipped = ((before >= threshold) != (after >= threshold)) & decided
    return (Figure(name="labels changed", value=float(flipped.sum()), limit=0),), {
        "positive": int(positive.sum()),
        "undecided": int((~decided).sum()),
    }


def _auc_change(before: float | None, after: float | None, *, limit: float) -> tuple[Figure, ...]:
    if before is None:  # one class alone has none
        return ()
    change = float("inf") if after is None else abs(after - before)
    return (Figure(name="|dAUC|", value=change, limit=limit),)


def _severity(before: _Floats, after: _Floats, truth: _Floats, called: str) -> _Found:
    errors = [float(np.abs(np.clip(scores, 0, 100) - truth).mean()) for scores in (before, after)]
    return (Figure(name="|dMAE|", value=abs(errors[1] - errors[0]), limit=_MAE_CHANGE),), {
        "mae": {called: number(errors[0]), "found": number(errors[1])}
    }


def auc(scores: _Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, by ranks (ties count half); NaN where one class is missing."""
    pairs = int(positive.sum()) * int((~positive).sum())
    if not pairs or not np.isfinite(scores).all():
        return float("nan")
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / pairs)
