"""Data folders of tiny noisy scans, as trainings are given them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ctedge.progress import Reporter
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Data, Source
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, Task

GRID = (16, 18, 20)
SETTINGS = Settings(grid=GRID)
SHAPE = (30, 28, 20)
SPACING_MM = (1.5, 1.5, 2.0)

#: Two of each class to train, one each to validate and to test.
ROWS = [
    (f"scan_{number}.nii.gz", "abnormal" if number % 2 else "normal", 12.5 * number, split)
    for number, split in enumerate(["train"] * 4 + ["validation"] * 2 + ["test"] * 2)
]


def write_scan(path: Path, seed: int) -> Path:
    """Noise of the HU of lung, and a plate of tissue: a scan of air alone is refused."""
    voxels = np.random.default_rng(seed).normal(-850, 60, SHAPE)
    voxels[:4] = 60.0
    affine = np.diag([-SPACING_MM[0], *SPACING_MM[1:], 1.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), affine), path)
    return path


def write_labels(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def labelled(folder: Path) -> Path:
    """Eight scans with a label file: label, score, split, patient and site."""
    lines = ["path,label,score,split,patient,site"]
    for number, (name, label, score, split) in enumerate(ROWS):
        write_scan(folder / name, number)
        lines.append(f"{name},{label},{score},{split},p{number},{'north' if number < 5 else ''}")
    return write_labels(folder, "\n".join(lines) + "\n")


def class_folders(folder: Path, names: tuple[str, str], count: int) -> Path:
    """As many scans in each of the two folders."""
    for answer, name in enumerate(names):
        for number in range(count):
            write_scan(folder / name / f"{number}.nii.gz", 100 * answer + number)
    return folder


def opened(
    folder: Path, task: Task, settings: Settings = SETTINGS, *, say: Any = None, **how: Any
) -> Data:
    reporter = Reporter.silent() if say is None else Reporter(say=say, bars=False)
    return Source(folder=folder, **how).open(task, settings, reporter)


def prepared(
    folder: Path,
    out: Path,
    task: Task = CLASSIFIER,
    *,
    settings: Settings = SETTINGS,
    hdf5: bool = False,
    reporter: Reporter | None = None,
    **how: Any,
) -> Data:
    """A store made of a folder; `how` as of `Source`."""
    source = Source(folder=folder, **how)
    return prepare_store(source, out, task, settings, hdf5=hdf5, reporter=reporter)


def half_written(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".partial-*")]


def told(data: Data) -> list[tuple[Any, ...]]:
    """What a training is told of each scan."""
    return [
        (v.sample.name, v.sample.answer, v.sample.split, v.sample.truth, v.load().tolist())
        for v in data.volumes
    ]
