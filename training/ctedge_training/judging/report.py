"""The report of an evaluation: `report.json`, `report.html` and `predictions.csv`."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ctedge import __version__
from ctedge.files import write_atomic
from ctedge_training.judging.calibration import reliability
from ctedge_training.judging.metrics import THRESHOLD, metrics_of, paired
from ctedge_training.judging.page import HEADLINE, page_of
from ctedge_training.judging.plots import figures_of
from ctedge_training.judging.rows import PREDICTIONS_FILE, Judged, patients_of, write_predictions
from ctedge_training.judging.subgroups import subgroup_table
from ctedge_training.run import Run
from ctedge_training.tasks import Task

SCHEMA_VERSION = 1
DOCUMENT_FILE = "report.json"
PAGE_FILE = "report.html"


def write_evaluation(  # noqa: PLR0913 - one keyword an independent choice
    folder: str | os.PathLike[str],
    trained: Run,
    rows: Sequence[Judged],
    *,
    command: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    published: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Judge the answers of a run and write all three files.

    Args:
        folder: created if absent; files of these names are replaced.
        trained: the run; its labels and its threshold are used.
        rows: the judged scans.
        command: the command line, for the record.
        data: names and digests of the judged data, for the record.
        published: figures from elsewhere to stand beside ours, as for `report_document`.
        seed: of the bootstrap.

    Returns:
        The path of `report.html`.

    Raises:
        DatasetError: no rows.
        InferenceFailed: a prediction is not a finite number.
        OutputError: a file cannot be written.
        MissingExtra: matplotlib or scikit-learn is absent.
    """
    labels = trained.document.get("labels", trained.task.labels)
    task = dataclasses.replace(trained.task, labels=tuple(labels))
    chosen = trained.document.get("threshold")
    threshold = THRESHOLD if chosen is None else float(chosen)
    document = report_document(
        task,
        rows,
        threshold=threshold,
        run_document={"name": trained.folder.resolve().name, **trained.document},
        command=command,
        seed=seed,
        data=data,
        published=published,
    )
    figures = figures_of(
        task,
        [row.answer for row in rows],
        [row.predicted for row in rows],
        threshold=threshold,
        groups=patients_of(rows),
        seed=seed,
    )
    # The document first: by it an interrupted report is known as one.
    page = write_report(folder, document, figures)
    write_predictions(Path(folder) / PREDICTIONS_FILE, rows, task=task, threshold=threshold)
    return page


def report_document(  # noqa: PLR0913 - one keyword an independent choice
    task: Task,
    rows: Sequence[Judged],
    *,
    threshold: float = THRESHOLD,
    run_document: Mapping[str, Any],
    command: Sequence[str] = (),
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    published: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything a report says, as plain JSON values.

    Args:
        task: what the network answers; its labels name the classes.
        rows: the judged scans.
        threshold: binary: a probability of at least this is called the second label.
        run_document: `model.json`, and `name`; its `metrics`, of another evaluation, are left out.
        command: the command line, for the record.
        seed: of the bootstrap.
        data: names and digests of the judged data, for the record.
        published: figures from elsewhere by the key of a metric ("accuracy", "mae", "same",
            "off_by_1"), each with its source in words; other keys stand in rows of their own.

    Raises:
        DatasetError: no rows.
        InferenceFailed: a prediction is not a finite number.
    """
    answers, predictions = [row.answer for row in rows], [row.predicted for row in rows]
    truth, said = paired(task, answers, predictions)
    patients = patients_of(rows)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "headline": HEADLINE,
        "task": task.name,
        "labels": list(task.labels),
        "threshold": threshold if task.binary else None,
        "data": {
            **(data or {}),
            "scans": len(rows),
            "patients": len(set(patients)) if all(row.patient for row in rows) else None,
            "splits": dict(sorted(Counter(row.split for row in rows).items())),
        },
        "run": {key: value for key, value in run_document.items() if key != "metrics"},
        "command": shlex.join(command),
        "versions": {
            "ctedge": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        "metrics": metrics_of(
            task, answers, predictions, threshold=threshold, groups=patients, seed=seed
        ),
        "subgroups": subgroup_table(
            task,
            answers,
            predictions,
            [row.facts for row in rows],
            threshold,
            groups=patients,
            seed=seed,
        ),
        "published": dict(published or {}),
    }
    if task.binary:
        document["reliability"] = reliability(truth, said)
    return document


def write_report(
    folder: str | os.PathLike[str], document: Mapping[str, Any], figures: Mapping[str, bytes]
) -> Path:
    """Write `report.json` and `report.html`, each whole or not at all.

    Args:
        folder: created if absent.
        document: what `report_document` gives.
        figures: PNG by name, as `figures_of` gives.

    Returns:
        The path of `report.html`.

    Raises:
        OutputError: a file cannot be written.
        ValueError: the document holds what JSON cannot (NaN, infinity).
    """
    text = json.dumps(document, indent=2, allow_nan=False)
    page = page_of(document, figures)
    write_atomic(Path(folder) / DOCUMENT_FILE, text + "\n")
    return write_atomic(Path(folder) / PAGE_FILE, page)
