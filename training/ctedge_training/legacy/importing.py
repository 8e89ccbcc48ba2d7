"""From a checkpoint of an earlier Keras to a run folder that can be exported."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from ctedge.errors import BundleNotFound, InvalidBundle, OutputError
from ctedge.files import atomic_folder
from ctedge.run_folder import DOCUMENT_FILE, MODEL_FILE, SCHEMA_VERSION
from ctedge.strict_json import shorten
from ctedge_training import run
from ctedge_training.backend import require_keras, versions
from ctedge_training.learning.settings import spec_on_grid
from ctedge_training.legacy.checkpoint import SPECS, Checkpoint, parse_checkpoint, plain_text
from ctedge_training.legacy.rehearsal import rehearse
from ctedge_training.run import Run
from ctedge_training.tasks import CLASSIFIER, SEVERITY, Task

#: Eight times the published network with both moments of its optimizer, in float32.
MAX_FILE_BYTES = 1 << 27

_ASSUMED = {
    CLASSIFIER.name: "preprocessing, threshold",
    SEVERITY.name: "preprocessing, score of 0-100",
}


def import_checkpoint(  # noqa: PLR0913
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: Task | None = None,
    labels: tuple[str, str] | None = None,
    note: str | None = None,
    say: Callable[[str], object] | None = None,
) -> Run:
    """Write a run folder for a network that an earlier Keras saved.

    The file is never unpickled and runs no code: h5py reads it, and the network is built anew
    from layers that ctedge knows. What no such file records is assumed and named in `model.json`:
    the preprocessing is that of the task, at the network's input size; a classifier's threshold is
    0.5; a severity network answers in 0-100.

    Args:
        file: of `model.save("....h5")`, or of `save_weights` for the published network.
        out: the run folder; must not exist.
        task: None means what the network ends in: sigmoid is a classifier, linear severity. A
            file of weights alone does not say, so there it must be given.
        labels: names of a classifier's answers, the positive one last; None means the task's.
        note: kept with the network, and shown on its model card.
        say: told of each step, one line at a time.

    Raises:
        BundleNotFound: no such file.
        InvalidBundle: no such checkpoint, or a network that cannot be imported.
        WrongTask: the network ends in another activation than the task's.
        OutputError: `out` exists or cannot be written; nothing is left.
        MissingExtra: keras, its backend or h5py is absent.
    """
    path, folder = Path(file), Path(out)
    say = say or (lambda line: None)
    if folder.exists():
        raise OutputError(
            f"{folder} already exists", fix="name another folder, or remove this one first"
        )
    found = _checkpoint(path, task)
    task = CLASSIFIER if found.architecture.activation == CLASSIFIER.activation else SEVERITY
    names = list(task.labels if labels is None else _checked_labels(task, labels))
    spec = spec_on_grid(SPECS[task.name], found.architecture.shape)
    count = sum(array.size for arrays in found.weights for array in arrays.values())
    say(f"{path.name}: {task.name}, {count:,} weights in {found.facts['stored_as']}")
    say(f"not in the file, assumed: {_ASSUMED[task.name]} ({spec.name})")
    require_keras("importing a checkpoint")
    from ctedge_training.legacy.rebuild import rebuild

    network = rebuild(found.architecture, found.weights)
    with atomic_folder(folder) as temporary:
        network.save(temporary / MODEL_FILE)
        document = {
            "schema_version": SCHEMA_VERSION,
            "task": task.name,
            "spec": spec.to_json(),
            "labels": names,
            "threshold": None if task is SEVERITY else 0.5,
            "input_shape": [*spec.shape, 1],
            "model_sha256": hashlib.sha256((temporary / MODEL_FILE).read_bytes()).hexdigest(),
            # What it has learnt from is not known; "synthetic" null puts that on the model card.
            "data": {"digest": None, "count": 0, "splits": {}, "synthetic": None},
            "training": {
                "imported_from": found.facts,
                "assumed": _ASSUMED[task.name],
                "note": None if note is None else plain_text(note),
            },
            "metrics": {},
            "versions": versions(),
        }
        run.write_json(temporary / DOCUMENT_FILE, document)
    say(f"{folder} written")
    return Run.open(folder)


def _checkpoint(path: Path, task: Task | None) -> Checkpoint:
    data = _read(path)
    rehearse(data, path, task=task)
    return parse_checkpoint(data, path, task=task)


def _read(path: Path) -> bytes:
    """All of the file, so that what is hashed is what is read."""
    if not path.is_file():
        raise BundleNotFound(f"there is no file {path}", fix="name the .h5 file to import")
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidBundle(
            f"{path} cannot be read", found=error.strerror, fix="check its permissions"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidBundle(
            f"{path} is larger than any checkpoint that can be imported",
            found=f"more than {MAX_FILE_BYTES} bytes",
            expected=f"at most {MAX_FILE_BYTES} bytes",
            fix="save it without its optimizer: model.save(..., include_optimizer=False)",
        )
    return data


def _checked_labels(task: Task, labels: tuple[str, ...]) -> tuple[str, ...]:
    sound = all(1 <= len(label) <= 128 and label.isprintable() for label in labels)
    if task is not CLASSIFIER or len(set(labels)) != 2 or len(labels) != 2 or not sound:
        raise InvalidBundle(
            f"the labels do not fit the task {task.name}",
            found=shorten(list(labels)),
            expected="none" if task is SEVERITY else "two different names, the positive one last",
            fix="leave them out" if task is SEVERITY else "give --labels normal,abnormal",
        )
    return labels
