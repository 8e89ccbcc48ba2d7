"""The label file: which scan, which label, which score, which split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctedge.errors import DatasetError, counted
from ctedge.phantom.dataset import LABEL_FILE, SPLITS
from ctedge_training.datasets.table import (
    listed_twice,
    read_rows,
    read_score,
    refuse_control,
    scan_path,
)
from ctedge_training.tasks import CLASSIFIER, SLICES, Task

#: Columns with a meaning of their own; all others are facts.
_READ = ("path", "label", "score", "split", "patient", "slice")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of the label file.

    Attributes:
        name: the path as written in the file, relative to the data folder.
        path: where the scan lies.
        answer: what the network should say: 0 or 1 (classifiers), score 0-100 (severity).
        split: "train", "validation" or "test".
        patient: whose scan it is; "" where that is not known.
        slice_index: the slice of the scan that is meant, 0 the most inferior; None is all of it.
        facts: further columns of the file, for subgroups.
        truth: all answers that are known, by column: "label" (0 or 1), "score" (0-100).
    """

    name: str
    path: Path
    answer: float
    split: str
    patient: str = ""
    slice_index: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    truth: Mapping[str, float] = field(default_factory=dict)


def read_labels(folder: Path, task: Task, *, labels: Path | None = None) -> list[Sample]:
    """Read the label file, in the order of its rows.

    The classifiers read the columns path, label, split; severity reads path, score, split. Two
    columns may be absent: patient (all scans of a patient belong in one split), and slice, the
    index of one slice of a volume. Every other column is a fact about the scan.

    Args:
        folder: the data folder; paths in the file are relative to it.
        task: decides which column is the answer.
        labels: the file; None means `labels.csv` in the folder.

    Raises:
        DatasetError: no such file, a missing column, an unknown label or split, an unreadable
            score, a control character in a name, a duplicate or missing scan, a patient in two
            splits, a path that leads out of the folder, or no scan at all.
    """
    source = folder / LABEL_FILE if labels is None else labels
    if not source.is_file():
        raise DatasetError(
            "no label file",
            found=f"nothing at {source}",
            expected="a CSV file with the columns path, label, score, split",
            fix="write it, or name it with --labels",
        )
    samples: list[Sample] = []
    seen: dict[tuple[Path, int | None], int] = {}
    for line, row in read_rows(source, ("path", task.column, "split"), optional=None):
        where = f"{source}, line {line}"
        refuse_control(row, ("path", "patient"), where)
        path, index = scan_path(folder, row["path"], where), _slice(row, task, where)
        if (path, index) in seen:
            raise listed_twice(where, row["path"], seen[path, index])
        seen[path, index] = line
        truth = _truth(row, task, where)
        samples.append(
            Sample(
                name=row["path"],
                path=path,
                answer=truth[task.column],
                split=_split(row["split"], where),
                patient=row.get("patient", ""),
                slice_index=index,
                facts={key: value for key, value in row.items() if key not in _READ},
                truth=truth,
            )
        )
    if not samples:
        raise DatasetError(f"{source}: no scan in the table", fix="add one row a scan")
    refuse_patient_leaks(samples)
    return samples


def refuse_patient_leaks(samples: Iterable[Sample]) -> None:
    """Refuse a patient whose scans stand in two splits.

    Raises:
        DatasetError: there is one; the message names the patient and the splits.
    """
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        splits[sample.patient].add(sample.split)
    leaks = {name: found for name, found in splits.items() if name and len(found) > 1}
    if leaks:
        patient, found = min(leaks.items())
        raise DatasetError(
            f"the patient {patient!r} stands in two splits",
            found=f"{' and '.join(sorted(found))}; {counted(len(leaks), 'such patient')}",
            expected="all scans of a patient in one split, or the evaluation tests what was learnt",
            fix="move the patient's scans to one split",
        )


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
                found=f"{counted(answers.total(), 'scan')} with the same answer",
                expected="at least two different answers",
                fix="add scans of another class to this split",
            )


def _truth(row: Mapping[str, str], task: Task, where: str) -> dict[str, float]:
    """The task's own answer, and the other one where it is given."""
    truth = {}
    if task.column == "label" or row.get("label"):
        truth["label"] = _label(row["label"], task if task.binary else CLASSIFIER, where)
    if task.column == "score" or row.get("score"):
        truth["score"] = read_score(row["score"], where)
    return truth


def _split(text: str, where: str) -> str:
    if text not in SPLITS:
        raise DatasetError(
            f"{where}: unknown split",
            found=repr(text),
            expected=", ".join(SPLITS),
            fix="correct the split",
        )
    return text


def _slice(row: Mapping[str, str], task: Task, where: str) -> int | None:
    text = row.get("slice", "")
    if not text:
        return None
    if not (task is SLICES and text.isascii() and text.isdecimal() and len(text) <= 4):
        raise DatasetError(
            f"{where}: unusable slice",
            found=repr(text),
            expected="the index of a slice, 0 the most inferior, and the task slices",
            fix="correct the column slice, or leave it empty",
        )
    return int(text)


def _label(text: str, task: Task, where: str) -> float:
    if text not in task.labels:
        raise DatasetError(
            f"{where}: unknown label",
            found=repr(text),
            expected=" or ".join(task.labels),
            fix="correct the label",
        )
    return float(task.labels.index(text))
