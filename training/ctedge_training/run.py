"""The run folder: `model.keras`, `model.json`, `history.csv`, `curves.png`.

While a training is under way it holds `checkpoint.npz` and a growing `history.csv` instead.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctedge.errors import BundleNotFound, DigestMismatch, InvalidBundle
from ctedge.files import sha256_of, write_atomic
from ctedge.spec import PreprocessSpec
from ctedge_training.tasks import TASKS, Task

SCHEMA_VERSION = 1
MODEL_FILE = "model.keras"
DOCUMENT_FILE = "model.json"
HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.png"
CHECKPOINT_FILE = "checkpoint.npz"

HistoryRow = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training.

    Attributes:
        folder: the run folder.
        task: what the network answers.
        spec: its preprocessing, at the size it was trained on.
        document: the whole `model.json`.
    """

    folder: Path
    task: Task
    spec: PreprocessSpec
    document: dict[str, Any]

    @property
    def model_path(self) -> Path:
        """The saved network."""
        return self.folder / MODEL_FILE

    @property
    def model_sha256(self) -> str:
        """Digest of the saved network."""
        return str(self.document["model_sha256"])

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read a finished run, and check that its network is the one it describes.

        Raises:
            BundleNotFound: no finished run there.
            InvalidBundle: `model.json` is broken or of another schema.
            DigestMismatch: `model.keras` is not the file that was saved.
        """
        source = folder / DOCUMENT_FILE
        if not source.is_file() or not (folder / MODEL_FILE).is_file():
            raise BundleNotFound(
                f"{folder}: no finished training",
                expected=f"{MODEL_FILE} and {DOCUMENT_FILE}",
                fix="name the folder given to `ctedge train ... -o`, or finish it with --resume",
            )
        try:
            document = json.loads(source.read_text(encoding="utf-8"))
            version = document["schema_version"]
            if version != SCHEMA_VERSION:
                raise InvalidBundle(
                    f"{source}: unknown schema",
                    found=version,
                    expected=SCHEMA_VERSION,
                    fix="update ctedge, or train again with this version",
                )
            task = TASKS[document["task"]]
            spec = PreprocessSpec.from_json(document["spec"])
            expected = document["model_sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidBundle(
                f"{source}: broken", found=f"{type(error).__name__}: {error}", fix="train again"
            ) from error
        found = sha256_of(folder / MODEL_FILE)
        if found != expected:
            raise DigestMismatch(
                f"{folder / MODEL_FILE}: not the network that was trained",
                found=found,
                expected=expected,
                fix="copy the run folder again, or train again",
            )
        return cls(folder=folder, task=task, spec=spec, document=document)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    write_atomic(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def write_history(path: Path, rows: Sequence[HistoryRow]) -> None:
    """Write one CSV row an epoch; numbers in full precision."""
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_atomic(path, text.getvalue())
