"""Scans or pictures in one folder a class, as published collections come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ctedge.errors import DatasetError
from ctedge.readers.picture import PICTURE_SUFFIXES
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.split import stratified
from ctedge_training.datasets.store import digest_of

#: The folders of the Keras example: without findings, and with ground-glass opacifications.
MOSMED_CLASSES = ("CT-0", "CT-23")

_SCAN_SUFFIXES = (".nii", ".nii.gz", ".dcm", *PICTURE_SUFFIXES)


def read_class_folders(
    folder: Path, classes: tuple[str, str], *, shares: Mapping[str, float], seed: int
) -> list[Sample]:
    """One sample per file, labelled by the folder it lies in, split by class and at random.

    Whose scan a file is, is not known; files of the same bytes count as one patient.

    Args:
        folder: holds the two folders.
        classes: their names, the negative one (answer 0) first.
        shares: of the splits, as in {"train": 0.7, "validation": 0.3}.
        seed: of the split; the order of the folder's listing plays no part.

    Returns:
        The samples, sorted by name.

    Raises:
        DatasetError: a folder is missing or empty, holds something else, a file lies in both
            classes, or a split stays without a class.
        UnreadableScan: a file cannot be read.
    """
    answers: dict[str, float] = {}
    for answer, name in enumerate(classes):
        for path in _files(folder / name):
            answers[f"{name}/{path.name}"] = float(answer)
    patients = {name: digest_of(folder / name) for name in answers}
    by_patient: dict[str, dict[float, str]] = {}
    for name, digest in patients.items():
        by_patient.setdefault(digest, {}).setdefault(answers[name], name)
    for names in by_patient.values():
        if len(names) > 1:
            raise DatasetError(
                "the same file lies in both classes",
                found=" and ".join(sorted(names.values())),
                fix="find out which class it belongs to, and remove the other copy",
            )
    splits = stratified(
        {digest: classes[int(next(iter(names)))] for digest, names in by_patient.items()},
        shares,
        seed,
        order=classes,
    )
    return [
        Sample(
            name=name,
            path=folder / name,
            answer=answer,
            split=splits[patients[name]],
            patient=patients[name][:16],
            truth={"label": answer},
        )
        for name, answer in sorted(answers.items())
    ]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(
            "no folder of that class",
            found=f"nothing at {folder}",
            fix="name the two folders with --classes NEGATIVE,POSITIVE",
        )
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in files:
        # A name that cannot be printed cannot be written into an index either.
        plain = path.is_file() and path.name.isprintable()
        if not plain or not path.name.lower().endswith(_SCAN_SUFFIXES):
            raise DatasetError(
                f"{folder}: something that is no scan",
                found=repr(path.name),
                expected=f"files with a plain name that ends in {', '.join(_SCAN_SUFFIXES)}",
                fix="keep nothing but scans in the folders of the classes",
            )
    if not files:
        raise DatasetError(f"{folder}: the class is empty", fix="add its scans")
    return files
