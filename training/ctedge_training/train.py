"""One training from label file to run folder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctedge.errors import OutputError
from ctedge.extras import require
from ctedge.phantom.dataset import LABEL_FILE
from ctedge.run_folder import DOCUMENT_FILE
from ctedge_training import store
from ctedge_training.backend import make_deterministic, require_keras
from ctedge_training.job import Job
from ctedge_training.labels import check_trainable, read_labels
from ctedge_training.progress import Reporter
from ctedge_training.run import Run
from ctedge_training.settings import Settings, spec_on_grid
from ctedge_training.tasks import Task

if TYPE_CHECKING:
    import keras

    from ctedge_training.checkpoint import Progress


def train(  # noqa: PLR0913
    task: Task,
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    labels: Path | None = None,
    start_from: Path | None = None,
    resume: bool = False,
    cache: Path | None = None,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> Run:
    """Train a network and write the run folder.

    Args:
        task: CLASSIFIER or SEVERITY.
        data: folder with the scans and `labels.csv`.
        out: the run folder; must not exist unless `resume`.
        settings: the hyper-parameters; None means the defaults.
        labels: the label file; None means `labels.csv` in `data`.
        start_from: another run folder whose weights are the start.
        resume: go on with the interrupted training in `out`; same settings, same data.
        cache: folder for preprocessed volumes; None means `.ctedge-cache` in `data`.
        workers: processes that preprocess.
        reporter: shows progress; None is silent.

    Returns:
        The finished run, evaluated on the test split (on validation where there is none).

    Raises:
        DatasetError: see `ctedge_training.labels` and `ctedge_training.store`.
        InputError: a scan cannot be read.
        OutputError: `out` exists, cannot be written, or holds nothing that can be resumed.
        BundleError: `start_from` is no sound run.
        InferenceFailed: the training diverged.
        MissingExtra: keras or its backend is absent.
    """
    require_keras("training")
    require("matplotlib", extra="training", purpose="drawing the curves of a training")
    from ctedge_training.finish import finish
    from ctedge_training.networks import build_network

    folder, data = Path(out), Path(data)
    settings = Settings() if settings is None else settings
    reporter = Reporter.silent() if reporter is None else reporter
    if resume and (folder / DOCUMENT_FILE).is_file():
        reporter.say(f"{folder}: this training is finished already")
        return Run.open(folder)
    _check_folder(folder, resume=resume)
    source = None if start_from is None else Run.open(start_from)
    spec = spec_on_grid(task.spec, settings.grid)
    samples = read_labels(data, task, labels=labels)
    check_trainable(samples, data / LABEL_FILE if labels is None else labels)
    deterministic = make_deterministic(settings.seed)
    network = build_network(task, spec.shape, mixed_precision=settings.mixed_precision)
    volumes = store.prepare(
        samples,
        spec,
        data / store.CACHE_FOLDER if cache is None else cache,
        workers=workers,
        reporter=reporter,
    )
    job = Job(
        task=task,
        spec=spec,
        settings=settings,
        volumes=volumes,
        source=source,
        folder=folder,
        reporter=reporter,
    )
    progress = _fit(network, job, resume=resume)
    return finish(job, progress, deterministic=deterministic)


def _fit(network: keras.Model, job: Job, *, resume: bool) -> Progress:
    """Bring the network to where it starts or was interrupted, and run the epochs."""
    from ctedge_training import checkpoint, fit, weights

    training = job.training
    steps = math.ceil(len(training.volumes) / job.settings.batch_size)
    fit.compile_network(network, job.task, job.settings, steps)
    if resume:
        progress = checkpoint.load_progress(job.checkpoint)
        _check_identity(progress.identity, job)
        checkpoint.restore(job.checkpoint, network)
        job.reporter.say(f"resuming after epoch {progress.epoch}")
    else:
        progress = checkpoint.Progress(identity=job.identity())
        fit.set_prior(network, job.task, training.targets)
        if job.source is not None:
            weights.start_from(network, job.task, job.spec.axes, job.source)
        checkpoint.save_checkpoint(job.checkpoint, network, progress)
    job.reporter.say(
        f"{job.task.name} at {'x'.join(map(str, job.spec.shape))}: {len(training.volumes)} scans"
        f" to train, {len(job.validation.volumes)} to validate, {steps} steps an epoch"
    )
    fit.run_epochs(network, job, progress)
    return progress


def _check_folder(folder: Path, *, resume: bool) -> None:
    if not resume and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder} already exists",
            fix="name another folder, or continue an interrupted training with --resume",
        )


def _check_identity(found: dict[str, Any], job: Job) -> None:
    expected = job.identity()
    changed = [key for key in expected if found.get(key) != expected[key]]
    if changed:
        raise OutputError(
            f"{job.folder}: the interrupted training was another one ({', '.join(changed)} differ)",
            found={key: expected[key] for key in changed},
            expected={key: found.get(key) for key in changed},
            fix="resume with the options and data it was started with, or start anew elsewhere",
        )
