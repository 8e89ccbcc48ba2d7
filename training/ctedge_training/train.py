"""One training from label file to run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctedge.errors import DatasetError, OutputError, counted
from ctedge.extras import require
from ctedge.progress import Reporter
from ctedge.run_folder import DOCUMENT_FILE
from ctedge_training.backend import distribute, forget_networks, make_deterministic, require_keras
from ctedge_training.datasets.source import Source
from ctedge_training.learning.job import Job
from ctedge_training.learning.settings import Settings
from ctedge_training.recipes import turned_to
from ctedge_training.run import Run, entries
from ctedge_training.tasks import Task

if TYPE_CHECKING:
    import keras

    from ctedge_training.learning.checkpoint import Progress


def train(  # noqa: PLR0913
    task: Task,
    source: Source,
    out: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    start_from: Path | None = None,
    imagenet: Path | None = None,
    resume: bool = False,
    feeders: int = 0,
    command: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> Run:
    """Train a network and write the run folder.

    Args:
        task: CLASSIFIER, SEVERITY or SLICES.
        source: the scans and their answers.
        out: the run folder; must not exist unless `resume`.
        settings: the hyper-parameters; None means the defaults.
        start_from: another run folder whose weights are the start.
        imagenet: a file of ImageNet weights that are the start, for slices.
        resume: go on with the interrupted training in `out`; same settings, same data.
        feeders: processes that make batches ahead; 0 makes them in this one.
        command: the command line, for the record.
        reporter: shows progress; None is silent.

    Returns:
        The finished run, evaluated on the test split (on validation where there is none).

    Raises:
        DatasetError: see `ctedge_training.datasets`.
        InputError: a scan cannot be read.
        OutputError: `out` exists, cannot be written, or holds nothing that can be resumed.
        BundleError: `start_from` is no sound run, or `imagenet` another file.
        InferenceFailed: the training diverged.
        MissingExtra: keras or its backend is absent.
    """
    folder = Path(out)
    settings = Settings() if settings is None else settings
    reporter = Reporter.silent() if reporter is None else reporter
    require_keras("training")
    require("matplotlib", extra="training", purpose="drawing the curves of a training")
    check_folder(folder, resume=resume)
    check_imagenet(imagenet)
    if resume and folder.is_dir() and not entries(folder):
        reporter.say(f"{folder}: interrupted before its first checkpoint; starting anew")
        resume = False
    start = None if start_from is None else Run.open(start_from)
    data = source.open(task, settings, reporter).trainable(source.folder)
    job = Job(
        task=task,
        spec=data.spec,
        settings=turned_to(settings, data.spec),
        volumes=data.volumes,
        labels=data.labels,
        source=start,
        imagenet=imagenet,
        folder=folder,
        feeders=feeders,
        command=tuple(command),
        reporter=reporter,
    )
    if resume and (finished := finished_run(job)) is not None:
        reporter.say(f"{folder}: this training is finished already")
        return finished
    return run_job(job, resume=resume)


def run_job(job: Job, *, resume: bool = False) -> Run:
    """Train on data that is prepared: from the first epoch, or from the checkpoint.

    Raises:
        DatasetError: the settings need a start, and there is none.
        OutputError, InferenceFailed, BundleError: as `train` does.
    """
    from ctedge_training.learning.finish import finish
    from ctedge_training.learning.networks import build_network, freeze_statistics

    if job.settings.keep_statistics and job.source is None:
        raise DatasetError(
            f"the preset {job.settings.preset!r} goes on from a network that was trained",
            found="no start",
            fix="name its run folder with --start-from",
        )
    forget_networks()  # of an earlier run of this process: cross-validation, an ablation
    if job.settings.data_parallel:
        distribute()
    deterministic = make_deterministic(job.settings.seed)
    network = build_network(job.task, job.spec.shape, mixed_precision=job.settings.mixed_precision)
    if job.settings.keep_statistics:
        freeze_statistics(network)
    progress = _fit(network, job, resume=resume)
    return finish(job, progress, deterministic=deterministic)


def finished_run(job: Job) -> Run | None:
    """The finished run in the job's folder; None where there is none.

    Raises:
        BundleError: it is damaged.
        OutputError: it was trained on other data or with other settings.
    """
    if not (job.folder / DOCUMENT_FILE).is_file():
        return None
    found = Run.open(job.folder)
    _check_identity(_identity_of(found), job)
    return found


def _identity_of(found: Run) -> dict[str, Any]:
    """`Job.identity` as a finished run recorded it."""
    document, training = found.document, found.document["training"]
    start = training.get("start_from")
    settings = {**training, "shuffle_labels": training.get("shuffled_labels")}
    return {
        "task": found.task.name,
        "spec": document["spec"],
        "settings": {key: settings.get(key, usual) for key, usual in Settings().to_json().items()},
        "data": document["data"].get("digest"),
        "labels": document["labels"],
        "start_from": start.get("model_sha256") if isinstance(start, dict) else start,
        "imagenet": training.get("imagenet"),
    }


def _fit(network: keras.Model, job: Job, *, resume: bool) -> Progress:
    """Bring the network to where it starts or was interrupted, and run the epochs."""
    from ctedge_training.learning import checkpoint, fit

    training = job.training
    steps = len(training.epoch(job.settings, 1))
    fit.compile_network(network, job.task, job.settings, steps)
    if resume:
        progress = checkpoint.load_progress(job.checkpoint)
        _check_identity(progress.identity, job)
        checkpoint.restore(job.checkpoint, network)
        job.reporter.say(f"resuming after epoch {progress.epoch}")
    else:
        progress = checkpoint.Progress(identity=job.identity())
        _start(network, job)
        checkpoint.save_checkpoint(job.checkpoint, network, progress)
    job.reporter.say(
        f"{job.task.name} at {'x'.join(map(str, job.spec.shape))}:"
        f" {counted(len(training.volumes), 'scan')} to train,"
        f" {len(job.validation.volumes)} to validate, {counted(steps, 'step')} an epoch"
    )
    fit.run_epochs(network, job, progress)
    return progress


def _start(network: keras.Model, job: Job) -> None:
    """The weights before the first epoch."""
    from ctedge_training.learning import fit, networks, weights

    if job.settings.prior:
        fit.set_prior(network, job.task, job.training.targets)
    if job.source is not None:
        weights.start_from(network, job.task, job.spec, job.source)
    if job.imagenet is not None:
        networks.start_from_imagenet(network, job.imagenet)
        job.reporter.say(f"start: ImageNet weights of {job.imagenet.name}")


def check_folder(folder: Path, *, resume: bool) -> None:
    """Refuse to write over something.

    Raises:
        OutputError: the folder holds something, and nothing is to be resumed.
    """
    if not resume and folder.exists() and (not folder.is_dir() or entries(folder)):
        raise OutputError(
            f"{folder} already exists",
            fix="name another folder, or continue an interrupted training with --resume",
        )


def check_imagenet(weights: Path | None) -> None:
    """Refuse a file that cannot be the start, before hours of preparation.

    Raises:
        InvalidBundle: not there, or not the file that Keras hands out.
    """
    if weights is not None:
        from ctedge_training.legacy.densenet import read_published

        read_published(weights)


def _check_identity(found: dict[str, Any], job: Job) -> None:
    expected = job.identity()
    changed = [key for key in expected if found.get(key) != expected[key]]
    if changed:
        raise OutputError(
            f"{job.folder}: the training there was another one ({', '.join(changed)} differ)",
            found={key: _changed(expected[key], found.get(key)) for key in changed},
            expected={key: _changed(found.get(key), expected[key]) for key in changed},
            fix="resume with the options and data it was started with, or start anew elsewhere",
        )


def _changed(mine: Any, other: Any) -> Any:
    """Of two groups of settings, what this one has that the other has not."""
    if not isinstance(mine, dict) or not isinstance(other, dict):
        return mine
    return {key: value for key, value in mine.items() if other.get(key) != value}
