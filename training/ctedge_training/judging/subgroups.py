"""Whether the network answers as well for thick slices, another kernel, another site."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import counted
from ctedge_training.judging.metrics import THRESHOLD, paired, some_metrics
from ctedge_training.tasks import Task

Facts = Mapping[str, Any]

#: A group of fewer scans is flagged: its interval says more about chance than about the network.
FEW = 10

#: A column of the label file with this many different values is a grouping; one with more is a
#: name or a measurement.
CATEGORIES = range(2, 9)

UNKNOWN = "unknown"
OTHER = "other"

_BINARY_METRICS = ("auc", "sensitivity", "specificity")
_SCORE_METRICS = ("mae", "within_one_class")

#: Not groupings: what the scan is, or what is judged.
_NO_CATEGORY = {
    "spacing_mm", "shape", "kernel", "path", "patient", "label", "score", "category", "split",
}  # fmt: skip

_SPACING_MM = (2.0, 4.0, 6.0)
_PIXEL_MM = (0.6, 0.7, 0.8)
_SLICES = (50, 100, 200, 400)


def subgroup_table(  # noqa: PLR0913 - one keyword an independent choice
    task: Task,
    answers: npt.ArrayLike,
    predictions: npt.ArrayLike,
    facts: Sequence[Facts],
    threshold: float = THRESHOLD,
    *,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The main metrics of each subgroup.

    Scans are grouped by distance of slices, pixel size, number of slices, reconstruction kernel,
    and every further column of text with 2 to 8 different values (an empty one is "unknown").
    Kernels beyond the seven most frequent are one group, "other". A grouping of which nothing is
    known is left out.

    Args:
        task: decides the metrics: auc, sensitivity and specificity, or mae and within_one_class.
        answers: (n,) as for `metrics_of`.
        predictions: (n,) as for `metrics_of`.
        facts: n mappings: `spacing_mm` (x, y, z), `shape` (x, y, z), `kernel`, and further
            columns of the label file as text. Any may be missing or None.
        threshold: binary: a probability of at least this is called the second label.
        groups: (n,) the patient of each scan, as for `metrics_of`.
        seed: of the resampling.

    Returns:
        A row a group: `by`, `group`, `count`, `few` (fewer than 10 scans), `metrics` (each
        `{"value": v, "ci95": [low, high]}`, or None where the group leaves it undefined).

    Raises:
        DatasetError: no scans.
        InferenceFailed: a prediction is not a finite number.
        ValueError: arguments of different length.
    """
    truth, said = paired(task, answers, predictions)
    if len(facts) != len(truth):
        raise ValueError(
            f"facts of {counted(len(facts), 'scan')} for {counted(len(truth), 'answer')}"
        )
    names = _BINARY_METRICS if task.binary else _SCORE_METRICS
    table = []
    for by, order, member in _groupings(facts):
        for group in order:
            rows = np.array([index for index, name in enumerate(member) if name == group])
            table.append(
                {
                    "by": by,
                    "group": group,
                    "count": len(rows),
                    "few": len(rows) < FEW,
                    "metrics": some_metrics(
                        task,
                        names,
                        truth[rows],
                        said[rows],
                        threshold=threshold,
                        groups=None if groups is None else [groups[row] for row in rows],
                        seed=seed,
                    ),
                }
            )
    return table


def _groupings(facts: Sequence[Facts]) -> list[tuple[str, list[str], list[str]]]:
    """Of each grouping its name, its groups in order, and the group of each scan."""
    found = [
        _measured("slice spacing", facts, _spacing, _SPACING_MM, " mm"),
        _measured("pixel size", facts, _pixel, _PIXEL_MM, " mm"),
        _measured("number of slices", facts, _slices, _SLICES, ""),
        _kernels(facts),
    ]
    columns = dict.fromkeys(key for one in facts for key in one if key not in _NO_CATEGORY)
    for column in columns:
        values = [_text(one.get(column)) for one in facts]
        known = sorted(set(values) - {UNKNOWN})
        if len(known) in CATEGORIES:
            found.append((column, _present([*known, UNKNOWN], values), values))
    return [grouping for grouping in found if set(grouping[1]) - {UNKNOWN}]


def _measured(
    by: str,
    facts: Sequence[Facts],
    measure: Callable[[Facts], float | None],
    bounds: Sequence[float],
    unit: str,
) -> tuple[str, list[str], list[str]]:
    """Groups between bounds; each bound belongs to the group below it."""
    names = [
        f"≤ {bounds[0]:g}{unit}",
        *(f"> {low:g} to {high:g}{unit}" for low, high in itertools.pairwise(bounds)),
        f"> {bounds[-1]:g}{unit}",
        UNKNOWN,
    ]
    member = []
    for one in facts:
        value = measure(one)
        # Rounded, as 2 mm read from a float32 affine is 2.0000000298.
        index = -1 if value is None else int(np.searchsorted(bounds, round(value, 4)))
        member.append(names[index])
    return by, _present(names, member), member


def _kernels(facts: Sequence[Facts]) -> tuple[str, list[str], list[str]]:
    member = [_text(one.get("kernel")) for one in facts]
    frequent = Counter(name for name in member if name != UNKNOWN).most_common()
    if len(frequent) > CATEGORIES[-1]:
        kept = {name for name, _ in frequent[: CATEGORIES[-1] - 1]}
        member = [name if name in kept | {UNKNOWN} else OTHER for name in member]
    names = sorted(set(member) - {UNKNOWN, OTHER})
    return "kernel", _present([*names, OTHER, UNKNOWN], member), member


def _present(names: Sequence[str], member: Sequence[str]) -> list[str]:
    there = set(member)
    return [name for name in dict.fromkeys(names) if name in there]


def _text(value: object) -> str:
    return UNKNOWN if value is None or not str(value).strip() else str(value).strip()


def _spacing(facts: Facts) -> float | None:
    spacing = _triple(facts.get("spacing_mm"))
    return None if spacing is None else spacing[2]


def _pixel(facts: Facts) -> float | None:
    spacing = _triple(facts.get("spacing_mm"))
    return None if spacing is None else max(spacing[:2])


def _slices(facts: Facts) -> float | None:
    shape = _triple(facts.get("shape"))
    return None if shape is None else shape[2]


def _triple(value: object) -> tuple[float, float, float] | None:
    """The three numbers of a volume; None for a picture's two, and for a column of text."""
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        return None
    x, y, z = value
    return float(x), float(y), float(z)
