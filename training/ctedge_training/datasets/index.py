"""`index.json` of a prepared store: which inputs it holds, from which scans, with which answers.

Every stored file is named with its digest and checked when the store is opened; the index has a
digest of its own. `splits.csv` beside it says which patient is in which split, for people and for
other tools.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctedge.errors import DatasetError, InvalidBundle, counted
from ctedge.files import write_atomic
from ctedge.phantom.dataset import SPLITS
from ctedge.spec import PreprocessSpec, SliceSpec, Spec
from ctedge.strict_json import parse_json
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.leaks import refuse_leaks
from ctedge_training.datasets.split_file import SPLIT_FILE, split_table
from ctedge_training.datasets.stored import check_input
from ctedge_training.datasets.table import has_control
from ctedge_training.datasets.volume import Volume
from ctedge_training.tasks import Task

INDEX_FILE = "index.json"
SCHEMA_VERSION = 1

#: A quarter of a million scans; more is no index of ours.
MOST_BYTES = 1 << 27

#: No size in millimetres, number of voxels or other measurement of a scan comes near.
_MOST = 1e9

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_STORED = re.compile(r"[0-9a-f]{40}\.npy", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Store:
    """What an index says."""

    spec: Spec
    volumes: list[Volume]
    labels: tuple[str, ...]


def is_store(folder: Path) -> bool:
    """Whether the folder is a prepared store."""
    return (folder / INDEX_FILE).is_file()


def write_index(folder: Path, spec: Spec, volumes: Sequence[Volume], labels: Sequence[str]) -> None:
    """Write the index and the table of splits, unless they say the same already.

    Args:
        folder: holds the stored files.
        spec: the preprocessing that the volumes went through.
        volumes: all splits.
        labels: names of the two classes, the negative one first.

    Raises:
        OutputError: the folder cannot be written.
    """
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "labels": list(labels),
        "spec": spec.to_json(),
        "volumes": [
            {
                "name": volume.sample.name,
                "truth": dict(volume.sample.truth),
                "split": volume.sample.split,
                "patient": volume.sample.patient,
                "slice": volume.sample.slice_index,
                "scan_sha256": volume.scan_sha256,
                "stored": volume.stored.name,
                "stored_sha256": volume.stored_sha256,
                "facts": dict(volume.facts),
            }
            for volume in volumes
        ],
    }
    document = {"digest": _digest(document), **document}
    _write_news(folder / SPLIT_FILE, split_table(volumes))
    # Last: a store that has an index is whole.
    _write_news(folder / INDEX_FILE, json.dumps(document, indent=1, allow_nan=False) + "\n")


def read_index(folder: Path, task: Task) -> Store:
    """Open a store: every stored file is there, with its digest, and no split leaks.

    Raises:
        DatasetError: the index is broken, changed or of another schema, has no answers for this
            task, a stored file is missing or changed, or a patient or scan stands in two splits.
    """
    path = folder / INDEX_FILE
    try:
        document = _document(path)
        spec = _spec(document["spec"])
        labels = _labels(document["labels"])
        rows = [_row(number, row) for number, row in enumerate(document["volumes"], start=1)]
        if len({(row["name"], row["slice"]) for row in rows}) != len(rows):
            raise ValueError("a scan is listed twice")
    except InvalidBundle as error:
        raise _broken(path, str(error.found)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(path, f"{type(error).__name__}: {error}") from error
    answered = [row for row in rows if task.column in row["truth"]]
    if isinstance(spec, SliceSpec) != isinstance(task.spec, SliceSpec) or len(answered) < len(rows):
        raise DatasetError(
            f"{folder}: not prepared for {task.name}",
            found=f"{spec.name}, {len(answered)} of {counted(len(rows), 'scan')} with a"
            f" {task.column}",
            expected=f"a {task.column} for every scan",
            fix=f"prepare a store with --task {task.name}",
        )
    volumes = [_volume(folder, row, task) for row in rows]
    for volume in volumes:
        check_input(volume.stored, volume.stored_sha256, spec.shape)
    refuse_leaks(volumes)
    return Store(spec=spec, volumes=volumes, labels=labels if task.binary else task.labels)


def _document(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    document = parse_json(path.read_bytes())
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    if document["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {document['schema_version']}, not {SCHEMA_VERSION}")
    if document.pop("digest") != _digest(document):
        raise ValueError("it was changed after it was written")
    if not isinstance(document["volumes"], list) or not document["volumes"]:
        raise ValueError("no volumes")
    return document


def _spec(document: Any) -> Spec:
    kind = PreprocessSpec if "axes" in document else SliceSpec
    return kind.from_json(document)


def _labels(labels: Any) -> tuple[str, ...]:
    named = isinstance(labels, list) and all(isinstance(label, str) and label for label in labels)
    if not named or len(labels) != 2 or len(set(labels)) != 2:
        raise ValueError("labels are two names")
    return tuple(labels)


def _row(number: int, row: Any) -> dict[str, Any]:
    """A row whose values are of the kind that they should be."""
    truth, facts, index = row["truth"], row["facts"], row["slice"]
    sound = {
        "name": _name(row["name"]) and row["name"] != "",
        "truth": isinstance(truth, dict) and bool(truth) and all(map(_true, truth.items())),
        "split": row["split"] in SPLITS,
        "patient": _name(row["patient"]),
        "slice": index is None or (type(index) is int and index >= 0),
        "scan_sha256": bool(_SHA256.fullmatch(row["scan_sha256"])),
        "stored": bool(_STORED.fullmatch(row["stored"])),
        "stored_sha256": bool(_SHA256.fullmatch(row["stored_sha256"])),
        "facts": isinstance(facts, dict) and all(map(_plain, facts.values())),
    }
    for key, fine in sound.items():
        if not fine:
            raise ValueError(f"volume {number}: {key} is {row[key]!r:.100}")
    return dict(row)


def _name(text: Any) -> bool:
    return isinstance(text, str) and not has_control(text)


def _true(item: tuple[str, Any]) -> bool:
    key, value = item
    if type(value) not in (int, float):
        return False
    return value in (0, 1) if key == "label" else key == "score" and 0 <= value <= 100


def _plain(fact: Any) -> bool:
    """Whether a fact is a text, a number, or a few numbers."""
    if isinstance(fact, list):
        return len(fact) <= 3 and all(map(_number, fact))
    return isinstance(fact, str) or _number(fact)


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _MOST


def _volume(folder: Path, row: Mapping[str, Any], task: Task) -> Volume:
    truth = {key: float(value) for key, value in row["truth"].items()}
    return Volume(
        sample=Sample(
            name=row["name"],
            path=Path(row["name"]),
            answer=truth[task.column],
            split=row["split"],
            patient=row["patient"],
            slice_index=row["slice"],
            truth=truth,
        ),
        scan_sha256=row["scan_sha256"],
        stored=folder / row["stored"],
        stored_sha256=row["stored_sha256"],
        facts=row["facts"],
    )


def _broken(path: Path, found: str) -> DatasetError:
    return DatasetError(
        f"{path}: the index cannot be read",
        found=found,
        fix="prepare the store again; what is stored already is kept",
    )


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _write_news(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        if path.read_bytes() == text.encode():
            return
    write_atomic(path, text)
