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

from ctedge.errors import OutputError
from ctedge.files import write_atomic
from ctedge.run_folder import read_run
from ctedge.spec import Spec
from ctedge_training.tasks import TASKS, Task

HISTORY_FILE = "history.csv"
CURVES_FILE = "curves.png"
CHECKPOINT_FILE = "checkpoint.npz"

#: What `ctedge.files` calls a file that is still being written.
_PARTIAL = ".partial-"

HistoryRow = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished training.

    Attributes:
        folder: the run folder.
        task: what the network answers.
        spec: its preprocessing, at the size it was trained on.
        document: the whole `model.json`.
        keras_bytes: the whole `model.keras`, whose digest `model.json` names.
    """

    folder: Path
    task: Task
    spec: Spec
    document: dict[str, Any]
    keras_bytes: bytes

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
        found = read_run(folder)
        return cls(
            folder=folder,
            task=TASKS[found.task],
            spec=found.spec,
            document=dict(found.document),
            keras_bytes=found.keras_bytes,
        )


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


def entries(folder: Path) -> list[str]:
    """Names in a folder for results, but for what a write leaves that was killed half-way.

    Raises:
        OutputError: it cannot be looked into.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise OutputError(
            f"cannot look into {folder}", found=error.strerror, fix="name another folder"
        ) from error
    return [name for name in names if not name.startswith(_PARTIAL)]
