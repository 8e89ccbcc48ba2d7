"""The HRCT study's file layout: `training.h5`, `validation.h5`, and `test.h5` where there is one.

What a store prepares can be handed on in these files, and trainings start from them too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ctedge.errors import DatasetError, OutputError
from ctedge.spec import PreprocessSpec, Spec
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.leaks import refuse_leaks
from ctedge_training.datasets.store import store_array
from ctedge_training.datasets.volume import Volume
from ctedge_training.hrct.hdf5 import read_hdf5, write_hdf5
from ctedge_training.tasks import Task

FILES = {"train": "training.h5", "validation": "validation.h5", "test": "test.h5"}


def are_there(folder: Path) -> bool:
    """Whether a folder holds the two files that a training needs."""
    return all((folder / FILES[split]).is_file() for split in ("train", "validation"))


def write_splits(folder: Path, spec: Spec, volumes: Sequence[Volume]) -> list[Path]:
    """Write one file per split that has volumes; one that holds the same already is left alone.

    Returns:
        The files of all splits that have volumes.

    Raises:
        DatasetError: slices, or a volume without its label or score: the layout has both.
        OutputError: a file cannot be written, or there is one of a split without volumes.
        MissingExtra: h5py is absent.
    """
    without = [v.sample.name for v in volumes if not {"label", "score"} <= set(v.sample.truth)]
    if without or not isinstance(spec, PreprocessSpec):
        raise DatasetError(
            "the HDF5 files hold a volume, a label and a score for each study",
            found=f"{without[0]} without both" if without else "slices",
            fix="add the missing column to the label file, or leave out --hdf5",
        )
    parts = {
        folder / name: [volume for volume in volumes if volume.sample.split == split]
        for split, name in FILES.items()
    }
    for path, mine in parts.items():
        if not mine and path.exists():
            raise OutputError(
                f"{path} is of another preparation",
                found="a file of a split that has no scans now",
                fix="remove the file, or name another folder with --out",
            )
    for path, mine in parts.items():
        if mine and not _holds(path, spec, mine):
            write_hdf5(
                path,
                (volume.load() for volume in mine),
                [int(volume.sample.truth["label"]) for volume in mine],
                [volume.sample.truth["score"] for volume in mine],
                spec=spec,
                names=[volume.sample.name for volume in mine],
            )
    return [path for path, mine in parts.items() if mine]


def read_splits(folder: Path, task: Task, cache: Path) -> tuple[PreprocessSpec, list[Volume]]:
    """Check the files, and store their volumes where a training reads them by memory map.

    Args:
        folder: holds the files.
        task: decides which answers are read.
        cache: folder of the stored volumes; created.

    Raises:
        DatasetError: slices are wanted, a file is unsound, two of them do not belong together,
            or a study stands in two of them.
        OutputError: the cache cannot be written.
        MissingExtra: h5py is absent.
    """
    if not isinstance(task.spec, PreprocessSpec):
        raise DatasetError(
            f"{folder}: the HDF5 files hold volumes",
            expected=f"what {task.name} are trained on",
            fix="train the classifier or the severity network, or name a folder of slices",
        )
    files = {
        split: read_hdf5(folder / name)
        for split, name in FILES.items()
        if (folder / name).is_file()
    }
    specs = {split: file.spec for split, file in files.items()}
    spec = specs["train"]
    if any(other != spec for other in specs.values()):
        raise DatasetError(
            f"{folder}: the files were preprocessed in different ways",
            found={FILES[split]: f"{its.name} {its.shape}" for split, its in specs.items()},
            fix="prepare them again, all in one go",
        )
    volumes = []
    for split, file in files.items():
        for row, name in enumerate(file.names):
            truth = {"label": float(file.labels[row]), "score": float(file.scores[row])}
            sample = Sample(
                name=name,
                path=Path(name),
                answer=truth[task.column],
                split=split,
                patient=name,
                truth=truth,
            )
            volumes.append(store_array(sample, file.load(row), cache))
    refuse_leaks(volumes)
    return spec, volumes


def _holds(path: Path, spec: PreprocessSpec, volumes: Sequence[Volume]) -> bool:
    """Whether a file holds these very volumes and answers."""
    if not path.is_file():
        return False
    try:
        found = read_hdf5(path, spec=spec)
    except DatasetError:
        return False
    digest = hashlib.sha256()
    for volume in volumes:
        digest.update(np.ascontiguousarray(volume.load(), "<f2").data)
    return (
        found.names == tuple(volume.sample.name for volume in volumes)
        and found.labels.tolist() == [volume.sample.truth["label"] for volume in volumes]
        and np.array_equal(
            found.scores,
            np.array([volume.sample.truth["score"] for volume in volumes], np.float32),
        )
        and found.images_sha256 == digest.hexdigest()
    )
