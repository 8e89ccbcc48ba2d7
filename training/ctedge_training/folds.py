"""Cross-validation: every patient is tested once, by a network that never saw him."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training import run
from ctedge_training.backend import require_keras
from ctedge_training.datasets.source import Source
from ctedge_training.datasets.volume import Volume
from ctedge_training.judging.metrics import THRESHOLD, metrics_of
from ctedge_training.judging.rows import PREDICTIONS_FILE, Judged, patients_of, write_predictions
from ctedge_training.learning.job import Job
from ctedge_training.learning.settings import Settings
from ctedge_training.recipes import turned_to
from ctedge_training.run import Run
from ctedge_training.tasks import Task
from ctedge_training.train import check_folder, check_imagenet, finished_run, run_job

SUMMARY_FILE = "folds.json"

#: Of the patients that train, one in this many validates: it picks the epoch and the threshold.
VALIDATION_SHARE = 6

#: Groups of scores; the severity classes are as many.
_MOST_GROUPS = 5

#: Patients of each class that a fold needs beside those it tests.
_TO_LEARN_FROM = 2


def cross_validate(  # noqa: PLR0913
    task: Task,
    source: Source,
    out: Path,
    *,
    folds: int,
    settings: Settings,
    start_from: Path | None = None,
    imagenet: Path | None = None,
    resume: bool = False,
    feeders: int = 0,
    command: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train `folds` networks, each tested on its own share of the patients.

    The splits of the data are not used: all its scans take part. Each fold is a run folder
    `fold-1` ... in `out`; with `resume`, those that are finished are kept, so the same command
    goes on after an interruption. `predictions.csv` and `folds.json` hold the answers of all folds
    together.

    Args:
        task, source, settings, start_from, imagenet, feeders, command, reporter: as in `train`.
        out: folder of the run folders.
        folds: how many; every class needs as many patients.
        resume: go on with an interrupted fold.

    Returns:
        What `folds.json` holds.

    Raises:
        DatasetError: a class has fewer patients than folds.
        OutputError: `out` is not empty and `resume` is false, or holds another training.
        InputError, BundleError, InferenceFailed: as `train` does.
    """
    require_keras("training")
    from ctedge_training.judging.evaluate import judge

    reporter = Reporter.silent() if reporter is None else reporter
    check_folder(out, resume=resume)
    check_imagenet(imagenet)
    data = source.open(task, settings, reporter)
    dealt = deal(data.volumes, task, folds, settings.seed)
    start = None if start_from is None else Run.open(start_from)
    rows: list[Judged] = []
    each: list[dict[str, Any]] = []
    for number, volumes in enumerate(dealt, start=1):
        folder = out / f"fold-{number}"
        reporter.say(f"fold {number} of {folds}")
        job = Job(
            task=task,
            spec=data.spec,
            settings=turned_to(settings, data.spec),
            volumes=volumes,
            labels=data.labels,
            source=start,
            imagenet=imagenet,
            folder=folder,
            feeders=feeders,
            command=tuple(command),
            reporter=reporter,
        )
        trained = finished_run(job) if resume else None
        if trained is None:
            again = resume and job.checkpoint.is_file()
            trained = run_job(job, resume=again)
        rows += judge(trained, volumes, "test")
        each.append(trained.document["metrics"])
    document = {
        "schema_version": 1,
        "task": task.name,
        "folds": folds,
        "threshold": THRESHOLD if task.binary else None,
        "all": metrics_of(
            task,
            [row.answer for row in rows],
            [row.predicted for row in rows],
            groups=patients_of(rows),
            seed=settings.seed,
        ),
        "each": each,
    }
    write_predictions(out / PREDICTIONS_FILE, rows, task=task)
    run.write_json(out / SUMMARY_FILE, document)
    reporter.say(f"{out / SUMMARY_FILE} written")
    return document


def deal(volumes: Sequence[Volume], task: Task, folds: int, seed: int) -> list[list[Volume]]:
    """All volumes, `folds` times, each time with other patients to test.

    Classes keep their proportions; scores do in up to five groups of like size, from the lowest to
    the highest, so that a severity that few patients have stands in nobody's way.

    Raises:
        DatasetError: a class has fewer patients than folds, or too few to validate as well.
    """
    answers: dict[str, float] = {}
    for place, volume in enumerate(volumes):
        patient = _patient(volume, place)
        answers[patient] = max(answers.get(patient, 0.0), volume.sample.answer)
    names = sorted(answers)
    values = np.array([answers[name] for name in names])
    classes = values.astype(int) if task.binary else _groups(values, folds)
    called = [f" of class {label!r}" for label in task.labels] if task.binary else [""] * len(names)
    fold_of: dict[str, int] = {}
    for kind in np.unique(classes):
        members = [name for name, found in zip(names, classes, strict=True) if found == kind]
        if len(members) < folds:
            raise DatasetError(
                f"too few patients{called[kind]} for {folds} folds",
                found=len(members),
                expected=f"at least {folds}",
                fix="use fewer --folds, or add patients",
            )
        order = np.random.default_rng((seed, int(kind))).permutation(len(members))
        for place, row in enumerate(order):
            fold_of[members[row]] = place % folds
    dealt = []
    for fold in range(folds):
        validation: set[str] = set()
        for kind in np.unique(classes):
            left = [
                name
                for name, found in zip(names, classes, strict=True)
                if found == kind and fold_of[name] != fold
            ]
            if len(left) < _TO_LEARN_FROM:
                raise DatasetError(
                    f"too few patients{called[kind]} for {folds} folds",
                    found=f"{len(left)} left when fold {fold + 1} is tested",
                    expected=f"{_TO_LEARN_FROM}: one to train with and one to validate",
                    fix="add patients like these, or train once on splits",
                )
            order = np.random.default_rng((seed, folds, fold, int(kind))).permutation(len(left))
            validation |= {left[row] for row in order[::VALIDATION_SHARE]}
        dealt.append(
            [
                replace(
                    volume,
                    sample=replace(
                        volume.sample,
                        split=_split(_patient(volume, place), fold, fold_of, validation),
                    ),
                )
                for place, volume in enumerate(volumes)
            ]
        )
    return dealt


def _groups(scores: npt.NDArray[np.float64], folds: int) -> npt.NDArray[np.intp]:
    """The group of each score: as many as leave two patients a fold in each, five at most."""
    count = min(max(len(scores) // (2 * folds), 1), _MOST_GROUPS)
    ranks = np.argsort(np.argsort(scores, kind="stable"))
    return np.asarray(ranks * count // len(scores))


def _split(patient: str, fold: int, fold_of: dict[str, int], validation: set[str]) -> str:
    if fold_of[patient] == fold:
        return "test"
    return "validation" if patient in validation else "train"


def _patient(volume: Volume, place: int) -> str:
    """The patient, or the scan itself where nobody knows whose it is."""
    return volume.sample.patient or f"{volume.scan_sha256} {place}"
