"""The label file: which scan, which label, which score, which split."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctedge.errors import DatasetError
from ctedge.phantom.dataset import LABEL_FILE, SPLITS
from ctedge_training.tasks import CLASSIFIER, Task

_PLAIN_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of the label file.

    Attributes:
        name: the path as written in the file, relative to the data folder.
        path: where the scan lies.
        answer: what the network should say: 0 or 1 (classifier), score 0-100 (severity).
        split: "train", "validation" or "test".
    """

    name: str
    path: Path
    answer: float
    split: str


def read_labels(folder: Path, task: Task, *, labels: Path | None = None) -> list[Sample]:
    """Read the label file, in the order of its rows.

    The classifier reads the columns path, label, split; severity reads path, score, split.

    Args:
        folder: the data folder; paths in the file are relative to it.
        task: decides which column is the answer.
        labels: the file; None means `labels.csv` in the folder.

    Raises:
        DatasetError: no such file, a missing column, an unknown label or split, an unreadable
            score, a duplicate or missing scan, or a path that leads out of the folder.
    """
    source = folder / LABEL_FILE if labels is None else labels
    column = "label" if task is CLASSIFIER else "score"
    samples: list[Sample] = []
    seen: dict[Path, int] = {}
    for line, row in _rows(source, ("path", column, "split")):
        where = f"{source}, line {line}"
        path = _scan_path(folder, row["path"], where)
        if path in seen:
            raise DatasetError(
                f"{where}: the scan is listed twice",
                found=f"{row['path']}, already on line {seen[path]}",
                fix="keep one of the two rows",
            )
        seen[path] = line
        if row["split"] not in SPLITS:
            raise DatasetError(
                f"{where}: unknown split",
                found=repr(row["split"]),
                expected=", ".join(SPLITS),
                fix="correct the split",
            )
        answer = (
            _label(row["label"], task, where) if task is CLASSIFIER else _score(row["score"], where)
        )
        samples.append(Sample(name=row["path"], path=path, answer=answer, split=row["split"]))
    return samples


def check_trainable(samples: Sequence[Sample], source: Path) -> None:
    """Refuse what no training can start from: an empty split, or nothing to tell apart.

    Raises:
        DatasetError: train or validation is empty, or all its answers are the same.
    """
    for split in ("train", "validation"):
        answers = Counter(sample.answer for sample in samples if sample.split == split)
        if not answers:
            raise DatasetError(
                f"{source}: the split {split!r} is empty",
                found=dict(Counter(sample.split for sample in samples)),
                expected="scans in train and in validation",
                fix="mark some rows with split train and some with split validation",
            )
        if len(answers) == 1:
            raise DatasetError(
                f"{source}: one class only in the split {split!r}",
                found=f"{answers.total()} scans with the same answer",
                expected="at least two different answers",
                fix="add scans of another class to this split",
            )


def _rows(source: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The rows with their line numbers, the named columns present in each."""
    if not source.is_file():
        raise DatasetError(
            "no label file",
            found=f"nothing at {source}",
            expected="a CSV file with the columns path, label, score, split",
            fix="write it, or name it with --labels",
        )
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            missing = [column for column in columns if column not in header]
            if len(set(header)) != len(header):
                raise DatasetError(
                    f"{source}: a column stands twice",
                    found=", ".join(header),
                    fix="keep one of them",
                )
            if missing:
                raise DatasetError(
                    f"{source}: missing column {', '.join(missing)}",
                    found=", ".join(header) or "an empty file",
                    expected=", ".join(columns),
                    fix="add the column to the first line, and a value to every row",
                )
            rows = []
            for row in reader:
                if None in row or any(row[column] is None for column in columns):
                    raise DatasetError(
                        f"{source}, line {reader.line_num}: wrong number of fields",
                        expected=f"{len(header)}: {', '.join(header)}",
                        fix="give every row one value a column; quote values that hold commas",
                    )
                rows.append((reader.line_num, {column: row[column].strip() for column in columns}))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{source}: the label file cannot be read",
            found=error,
            expected="UTF-8 text with comma-separated values",
            fix="save the table as CSV in UTF-8",
        ) from error


def _scan_path(folder: Path, name: str, where: str) -> Path:
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        raise DatasetError(
            f"{where}: no usable path", found=repr(name), fix="correct the path"
        ) from error
    if not name or path == root or not path.is_relative_to(root):
        raise DatasetError(
            f"{where}: the path leads out of the data folder",
            found=repr(name),
            expected=f"a scan inside {root}",
            fix="write paths relative to the data folder, and keep the scans inside it",
        )
    if not there:
        raise DatasetError(f"{where}: no such scan", found=str(path), fix="correct the path")
    return path


def _label(text: str, task: Task, where: str) -> float:
    if text not in task.labels:
        raise DatasetError(
            f"{where}: unknown label",
            found=repr(text),
            expected=" or ".join(task.labels),
            fix="correct the label",
        )
    return float(task.labels.index(text))


def _score(text: str, where: str) -> float:
    score = float(text) if _PLAIN_NUMBER.fullmatch(text) else math.nan
    if not 0.0 <= score <= 100.0:
        raise DatasetError(
            f"{where}: unreadable score",
            found=repr(text),
            expected="a number from 0 to 100",
            fix="correct the score",
        )
    return score
