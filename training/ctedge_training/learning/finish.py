"""After the last epoch: the best network in its final form, judged and described."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctedge.files import atomic_file, sha256_of, write_atomic
from ctedge.run_folder import DOCUMENT_FILE, MODEL_FILE, SCHEMA_VERSION
from ctedge_training import run
from ctedge_training.backend import versions
from ctedge_training.datasets import store
from ctedge_training.datasets.split_file import SPLIT_FILE, split_table
from ctedge_training.datasets.volume import Volume
from ctedge_training.judging import evaluate
from ctedge_training.learning import curves, portrait, weights
from ctedge_training.learning.decision import decide
from ctedge_training.learning.job import Job
from ctedge_training.learning.networks import build_network
from ctedge_training.run import Run

if TYPE_CHECKING:
    import keras

    from ctedge_training.learning.checkpoint import Progress

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
    if job.settings.settle:
        _settle_statistics(network, job)
    weights.fold_unit(network, job.task)
    decision = decide(network, job)
    path = job.folder / MODEL_FILE
    with atomic_file(path) as temporary:
        network.save(temporary)
    keras_bytes = path.read_bytes()
    portrait.save_summary(job.folder / portrait.SUMMARY_FILE, network)
    portrait.save_drawing(job.folder / portrait.DRAWING_FILE, network)
    portrait.save_montage(job.folder / portrait.MONTAGE_FILE, job)
    curves.save_curves(job.folder / run.CURVES_FILE, progress.history, job.task)
    run.write_history(job.folder / run.HISTORY_FILE, progress.history)
    write_atomic(job.folder / SPLIT_FILE, split_table(job.volumes))
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "task": job.task.name,
        "spec": job.spec.to_json(),
        "labels": list(job.labels),
        "threshold": decision.threshold,
        "input_shape": [*network.input_shape[1:]],
        "model_sha256": hashlib.sha256(keras_bytes).hexdigest(),
        "data": _describe_data(job),
        "training": {
            **_describe_training(job, progress),
            "decision": decision.to_json(),
            "deterministic": deterministic,
            "command": shlex.join(job.command),
            "wall_seconds": round(sum(row["seconds"] for row in progress.history), 1),
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
    split = "test" if "test" in splits else "validation"
    rows = evaluate.judge(trained, job.volumes, split, batch_size=job.settings.batch_size)
    document["metrics"] = {
        **evaluate.metrics_of_rows(trained, rows),
        "data_digest": store.data_digest(v for v in job.volumes if v.sample.split == split),
    }
    run.write_json(job.folder / DOCUMENT_FILE, document)
    job.checkpoint.unlink(missing_ok=True)
    job.reporter.say(evaluate.as_text(document["metrics"]))
    if job.task.binary:
        job.reporter.say(f"{rows[0].name}:")
        for sentence in portrait.confidence_sentences(job.labels, rows[0].predicted):
            job.reporter.say(f"  {sentence}")
    job.reporter.say(f"{path} written")
    return trained


def _settle_statistics(network: keras.Model, job: Job) -> None:
    """Take the BatchNorm statistics over all training scans, unless validation likes them less."""
    from ctedge_training.learning import fit

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
        "imagenet": None if job.imagenet is None else sha256_of(job.imagenet),
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
        **_geometry(job.volumes),
    }


def _geometry(volumes: Sequence[Volume]) -> dict[str, Any]:
    """Least and most of what the scans measure; nothing where they are pictures."""
    known = [volume.facts for volume in volumes if len(volume.facts.get("shape", ())) == 3]
    if not known or not all("spacing_mm" in facts for facts in known):
        return {}
    columns = {
        "slices": [facts["shape"][2] for facts in known],
        "spacing_mm": [facts["spacing_mm"][2] for facts in known],
        "field_mm": [round(facts["shape"][0] * facts["spacing_mm"][0], 1) for facts in known],
    }
    return {"geometry": {name: [min(values), max(values)] for name, values in columns.items()}}
