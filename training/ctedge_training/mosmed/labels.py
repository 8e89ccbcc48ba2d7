"""MosMedData, labelled: the 200 scans of the Keras example, and the whole set of 1110 studies.

Morozov et al. 2020, "MosMedData: Chest CT Scans with COVID-19 Related Findings Dataset"
(medRxiv 10.1101/2020.05.20.20100362), CC BY-NC-ND 3.0.
"""

from __future__ import annotations

import csv
import io
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctedge.errors import DatasetError, counted
from ctedge.files import write_atomic
from ctedge.phantom.dataset import LABEL_FILE
from ctedge.progress import Reporter
from ctedge_training.datasets.split import stratified
from ctedge_training.mosmed.archive import SCAN_SUFFIXES
from ctedge_training.tasks import CLASSIFIER

LICENCE = (
    "MosMedData (Morozov et al. 2020) is licensed CC BY-NC-ND 3.0: name the source, no commercial "
    "use, and do not pass on changed scans"
)
SHARES = {"train": 0.7, "validation": 0.3}

Row = dict[str, str]

#: The first and last study of every category: the numbers run through them in order.
_STUDIES = {
    "CT-0": (1, 254),
    "CT-1": (255, 938),
    "CT-2": (939, 1063),
    "CT-3": (1064, 1108),
    "CT-4": (1109, 1110),
}
_STUDY_COUNT = 1110
_ARCHIVE_SCANS = 100
_STUDY = re.compile(r"study_([0-9]{1,9})\.nii(\.gz)?", re.ASCII)
_CATEGORY = re.compile(r"CT-[0-9]+", re.ASCII)
_NORMAL, _ABNORMAL = CLASSIFIER.labels


@dataclass(frozen=True, kw_only=True)
class ScanClass:
    """One of the two folders of the Keras example.

    Attributes:
        folder: where its scans lie.
        label: of all of them.
        categories: of MosMedData that they were taken from (the notes of the release).
    """

    folder: str
    label: str
    categories: tuple[str, ...]


CLASSES = (
    ScanClass(folder="CT-0", label=_NORMAL, categories=("CT-0",)),
    ScanClass(folder="CT-23", label=_ABNORMAL, categories=("CT-2", "CT-3")),
)


def study_category(number: int) -> str:
    """The category of a study, CT-0 (nothing found) to CT-4 (more than 75 % of the lungs).

    Raises:
        DatasetError: not one of the numbers 1 to 1110.
    """
    for category, (first, last) in _STUDIES.items():
        if first <= number <= last:
            return category
    raise DatasetError(
        "no study of MosMedData has this number",
        found=number,
        expected=f"1 to {_STUDY_COUNT}",
        fix="remove the scan, or give it the name that it had in MosMedData",
    )


def subset_rows(folder: Path, *, seed: int = 0, reporter: Reporter) -> list[Row]:
    """Label the scans in `CT-0` and `CT-23`: path, label, patient, split (70/30 in each class).

    Raises:
        DatasetError: a class is missing or too small to split, or one study lies there twice.
    """
    rows = []
    for scan_class in CLASSES:
        names = _scans_in(folder / scan_class.folder)
        _say_strange(scan_class, names, reporter)
        rows += [
            {
                "path": f"{scan_class.folder}/{name}",
                "label": scan_class.label,
                "patient": _patient(scan_class.folder, name),
            }
            for name in names
        ]
    return _dealt(rows, [row["label"] for row in rows], seed)


def full_set_rows(folder: Path, *, seed: int = 0) -> list[Row]:
    """Label MosMedData as its own site hands it out: path, label, category, patient, split.

    The studies lie in `studies/CT-*/`, `CT-*/`, `studies/` or the folder itself. They are split
    70/30 in each category; the two studies of CT-4 are dealt out with those of CT-3.

    Raises:
        DatasetError: no study; a number that MosMedData does not have; a study in the folder of
            another category, or there twice; or a category too small to split.
    """
    rows, strata = [], []
    for path in _studies_in(folder):
        found = _STUDY.fullmatch(path.name)
        if found is None:
            continue
        number = int(found[1])
        category = study_category(number)
        if _CATEGORY.fullmatch(path.parent.name) and path.parent.name != category:
            raise DatasetError(
                "a study lies in the folder of another category",
                found=str(path),
                expected=f"study {number} in {category}",
                fix="move it to the folder of its category",
            )
        rows.append(
            {
                "path": path.relative_to(folder).as_posix(),
                "label": _NORMAL if category == "CT-0" else _ABNORMAL,
                "category": category,
                "patient": f"study_{number:04d}",
            }
        )
        strata.append("CT-3" if category == "CT-4" else category)
    if not rows:
        raise DatasetError(
            "no study of MosMedData",
            found=f"no study_*.nii.gz in {folder} or its folders studies and CT-*",
            expected=f"{folder}/studies/CT-0/study_0001.nii.gz and so on",
            fix="name the folder that MosMedData was unpacked in; mosmed.ai hands it out",
        )
    return _dealt(rows, strata, seed)


def say_full_set_gaps(folder: Path, rows: Sequence[Row], reporter: Reporter) -> None:
    """Name the files that are no studies, and say how many studies are missing."""
    others = [path.name for path in _studies_in(folder) if not _STUDY.fullmatch(path.name)]
    if others:
        reporter.say(f"left out, being no studies: {_some(others)}")
    if len(rows) != _STUDY_COUNT:
        reporter.say(f"{len(rows)} of the {_STUDY_COUNT} studies of MosMedData are here")


def write_labels(folder: Path, rows: Sequence[Row], *, overwrite: bool) -> None:
    """Write `labels.csv`; one that says the same is left alone.

    Raises:
        DatasetError: there is another one, and `overwrite` is false.
        OutputError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path = folder / LABEL_FILE
    if path.exists() and path.read_bytes() == text.getvalue().encode():
        return
    if path.exists() and not overwrite:
        raise DatasetError(
            f"{path} says something else",
            found="labels of another seed, of other scans, or edited by hand",
            expected=f"the {counted(len(rows), 'row')} that would be written now",
            fix="keep it and train with it, or replace it with --overwrite-labels",
        )
    write_atomic(path, text.getvalue())


def summary(folder: Path, rows: Sequence[Row]) -> str:
    """One line: how many scans of each class lie where, and the next command."""
    classes = []
    for label in CLASSIFIER.labels:
        names = [row["path"] for row in rows if row["label"] == label]
        where = sorted({Path(name).parent.as_posix() for name in names})
        classes.append(f"{counted(len(names), f'{label} scan')} in {', '.join(where)}")
    splits = Counter(row["split"] for row in rows)
    dealt = ", ".join(f"{splits[split]} {split}" for split in SHARES)
    return (
        f"{folder}: {'; '.join(classes)}; {dealt} ({LABEL_FILE}); "
        f"next: ctedge train classifier {shlex.quote(str(folder))} --preset published -o RUN"
    )


def _dealt(rows: Sequence[Row], strata: Sequence[str], seed: int) -> list[Row]:
    paths: dict[str, str] = {}
    for row in rows:
        if row["patient"] in paths:
            raise DatasetError(
                "one study lies there twice",
                found=f"{paths[row['patient']]} and {row['path']}",
                fix="remove one of the two",
            )
        paths[row["patient"]] = row["path"]
    split = stratified(dict(zip(paths, strata, strict=True)), SHARES, seed)
    dealt = [{**row, "split": split[row["patient"]]} for row in rows]
    return sorted(dealt, key=lambda row: row["path"])


def _scans_in(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.glob("*") if path.is_file())
    scans = [n for n in names if n.lower().endswith(SCAN_SUFFIXES) and not n.startswith(".")]
    if not scans:
        raise DatasetError(
            f"no scans in {folder}",
            found=counted(len(names), "file"),
            expected="files *.nii.gz or *.nii",
            fix="remove the folder and run `ctedge train data mosmed` again",
        )
    return scans


def _studies_in(folder: Path) -> list[Path]:
    patterns = ("study_*", "CT-*/study_*", "studies/study_*", "studies/CT-*/study_*")
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _patient(folder: str, name: str) -> str:
    """The study, which MosMedData numbers across all folders; other names count in theirs."""
    found = _STUDY.fullmatch(name)
    if found is not None:
        return f"study_{int(found[1]):04d}"
    return f"{folder}/{name[: -len(next(s for s in SCAN_SUFFIXES if name.lower().endswith(s)))]}"


def _say_strange(scan_class: ScanClass, names: Sequence[str], reporter: Reporter) -> None:
    if len(names) != _ARCHIVE_SCANS:
        scans = counted(len(names), "scan")
        reporter.say(f"{scan_class.folder}: {scans}; the published archive has {_ARCHIVE_SCANS}")
    ranges = [_STUDIES[category] for category in scan_class.categories]
    strange = []
    for name in names:
        found = _STUDY.fullmatch(name)
        if not found or not any(first <= int(found[1]) <= last for first, last in ranges):
            strange.append(name)
    if strange:
        scans = counted(len(strange), "scan")
        reporter.say(
            f"{scan_class.folder}: {scans} that MosMedData does not number among "
            f"{' and '.join(scan_class.categories)}: {_some(strange)}"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(ascii(name)[1:-1] for name in names[:3]) + more
