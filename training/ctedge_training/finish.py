"""After the last epoch: the best network in its final form, judged and described."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctedge.files import atomic_file
from ctedge.run_folder import DOCUMENT_FILE, MODEL_FILE, SCHEMA_VERSION
from ctedge_training import curves, evaluate, run, store, weights
from ctedge_training.backend import versions
from ctedge_training.job import Job
from ctedge_training.networks import build_network
from ctedge_training.run import Run

if TYPE_CHECKING:
    import keras

    from ctedge_training.checkpoint import Progress

#: File names of phantoms start with this. A network is recorded as synthetic when it, and the run
#: that it started from, saw nothing else.
SYNTHETIC_PREFIX = "synthetic_"


def finish(job: Job, progress: Progress, *, deterministic: bool) -> Run:
    """Save the best network in float32 and full units, evaluate the saved file, describe it.

    `model.json` comes last: a run folder that has it is whole.

    Args:
        job: the training.
        progress: its history and best weights.
        deterministic: recorded; whether the same run gives the same bits.
    """
    network = build_network(job.task, job.spec.shape)
    network.set_weights(progress.best_weights)
    _settle_statistics(network, job)
    weights.fold_unit(network, job.task)
    path = job.folder / MODEL_FILE
    with atomic_file(path) as temporary:
        network.save(temporary)
    keras_bytes = path.read_bytes()
    curves.save_curves(job.folder / run.CURVES_FILE, progress.history, job.task)
    run.write_history(job.folder / run.HISTORY_FILE, progress.history)
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "task": job.task.name,
        "spec": job.spec.to_json(),
        "labels": list(job.task.labels),
        "input_shape": [*job.spec.shape, 1],
        "model_sha256": hashlib.sha256(keras_bytes).hexdigest(),
        "data": _describe_data(job),
        "training": {
            **_describe_training(job, progress),
            "deterministic": deterministic,
        },
        "versions": versions(),
    }
    trained = Run(
        folder=job.folder,
        task=job.task,
        spec=job.spec,
        document=document,
        keras_bytes=keras_bytes,
    )
    splits = {volume.sample.split for volume in job.volumes}
    document["metrics"] = evaluate.evaluate_volumes(
        trained,
        job.volumes,
        "test" if "test" in splits else "validation",
        batch_size=job.settings.batch_size,
    )
    run.write_json(job.folder / DOCUMENT_FILE, document)
    job.checkpoint.unlink(missing_ok=True)
    job.reporter.say(evaluate.as_text(document["metrics"]))
    job.reporter.say(f"{path} written")
    return trained


def _settle_statistics(network: keras.Model, job: Job) -> None:
    """Take the BatchNorm statistics over all training scans, unless validation likes them less."""
    from ctedge_training import fit

    def loss() -> float:
        said = fit.predict(network, job.validation, job.settings.batch_size)
        return fit.loss_of(job.task, job.validation.targets, said)

    before, kept = loss(), network.get_weights()
    weights.recalibrate(network, fit.at_rest(job.training, job.settings))
    after = loss()
    job.reporter.say(f"statistics over all training scans: val_loss {before:.4f} -> {after:.4f}")
    if not after <= before:
        network.set_weights(kept)


def _describe_training(job: Job, progress: Progress) -> dict[str, Any]:
    settings = job.settings.to_json()
    return {
        **{key: value for key, value in settings.items() if key != "shuffle_labels"},
        "shuffled_labels": job.settings.shuffle_labels,
        "start_from": None
        if job.source is None
        else {"run": job.source.folder.name, "model_sha256": job.source.model_sha256},
        "epochs_run": progress.epoch,
        "best_epoch": progress.best_epoch,
        "best_val_loss": progress.best_loss,
    }


def _describe_data(job: Job) -> dict[str, Any]:
    names = [Path(volume.sample.name).name for volume in job.volumes]
    synthetic = [name.startswith(SYNTHETIC_PREFIX) for name in names]
    return {
        "digest": store.data_digest(job.volumes),
        "count": len(job.volumes),
        "splits": dict(sorted(Counter(v.sample.split for v in job.volumes).items())),
        "synthetic": all(synthetic)
        and (job.source is None or job.source.document["data"].get("synthetic") is True),
        "synthetic_scans": sum(synthetic),
    }
