"""One judged scan, and the table of all of them for a spreadsheet."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctedge.files import write_atomic
from ctedge_training.judging.metrics import THRESHOLD, paired, severity_class
from ctedge_training.tasks import Task

PREDICTIONS_FILE = "predictions.csv"

#: What a spreadsheet takes for a formula when a cell begins with it (OWASP, "CSV injection"); the
#: last four are the full-width forms, which Excel knows in East Asian locales.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a network said of one scan.

    Attributes:
        name: the path as written in the label file.
        patient: who it is of; empty where that is not known, then the scan stands alone.
        split: "train", "validation" or "test".
        answer: the truth: class 0/1, or score 0-100.
        predicted: the network's answer: probability of class 1, or score as it came out.
        facts: `spacing_mm` (x, y, z), `shape` (x, y, z), `kernel` and further columns of the
            label file, as `subgroup_table` reads them.
    """

    name: str
    patient: str
    split: str
    answer: float
    predicted: float
    facts: Mapping[str, Any] = field(default_factory=dict)


def patients_of(rows: Sequence[Judged]) -> list[str]:
    """The patient of each scan; one of unknown patient is a patient of its own."""
    # The null byte keeps it apart from every name that a label file holds.
    return [row.patient or f"{index}\0" for index, row in enumerate(rows)]


def write_predictions(
    path: str | os.PathLike[str],
    rows: Sequence[Judged],
    *,
    task: Task,
    threshold: float = THRESHOLD,
) -> Path:
    """Write `predictions.csv`, one line a scan, whole or not at all.

    Binary columns: path, patient, split, answer, predicted, label, predicted_label, correct (1 or
    0). Severity columns: path, patient, split, answer, predicted, category, predicted_category,
    class_distance; `predicted` is the score as it came out, its category that of the score
    clipped to 0-100, as in the metrics. Numbers have full precision.

    Text that a spreadsheet would run as a formula (it begins with = + - @, a tab, a line end, or
    a full-width form of these) gets a leading apostrophe; take it off before using such a path.
    Text is quoted, numbers are not.

    Raises:
        DatasetError: no rows.
        InferenceFailed: a prediction is not a finite number.
        OutputError: the file cannot be written.
    """
    truth, said = paired(task, [row.answer for row in rows], [row.predicted for row in rows])
    if task.binary:
        header = ("label", "predicted_label", "correct")
        true_class, called = (truth == 1).astype(int), (said >= threshold).astype(int)
        verdict = (true_class == called).astype(int)
    else:
        header = ("category", "predicted_category", "class_distance")
        true_class, called = severity_class(truth), severity_class(said)
        verdict = abs(true_class - called)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(("path", "patient", "split", "answer", "predicted", *header))
    for row, one, other, last in zip(rows, true_class, called, verdict, strict=True):
        writer.writerow(
            (
                inert(row.name),
                inert(row.patient),
                inert(row.split),
                float(row.answer),
                float(row.predicted),
                inert(task.labels[one]),
                inert(task.labels[other]),
                int(last),
            )
        )
    return write_atomic(path, text.getvalue().encode("utf-8", "backslashreplace"))


def inert(text: str) -> str:
    """The text, with a leading apostrophe where a spreadsheet would take it for a formula."""
    # Spreadsheets look past spaces.
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA_STARTS) else text
