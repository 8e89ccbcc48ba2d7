"""A small batch without a cluster: its table, its journal, and a worker's judge in a thread."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ctedge.batch import Plan
from ctedge.batch.journal import Journal, open_journal
from ctedge.batch.table import Table
from ctedge.batch.workers import Judge
from ctedge.bundle.model_bundle import ModelBundle
from scan_factory import write_scan

ASKED: dict[str, Any] = {"table": "abc", "model": "tiny"}
FAILED = {"error": {"type": "ScanNotFound", "message": "a.nii.gz: no such file"}}
FP32 = {"device": "cpu", "runtime": "onnxruntime", "precision": "fp32"}


def write_table(folder: Path) -> Path:
    """A table of a scan and of one that is not there."""
    write_scan(folder / "a.nii.gz", 1)
    path = folder / "scans.csv"
    path.write_text("scan,site\na.nii.gz,north\ngone.nii.gz,\n")
    return path


def asked_of(bundle: ModelBundle, table: Table, **choice: Any) -> dict[str, Any]:
    """What a batch writes down of itself; `choice` as of `Plan`."""
    plan = Plan(bundle="", model=bundle.name, model_digest=bundle.digest, **choice)
    return {"table": table.digest, "folder": str(table.folder), **plan.record()}


def journal_of(
    output: Path, *, resume: bool = False, asked: dict[str, Any] = ASKED, count: int = 3
) -> AbstractContextManager[Journal]:
    return open_journal(output, asked, count=count, task="classifier", resume=resume)


def judge_of(bundle: ModelBundle, changes: Mapping[str, Any]) -> Judge:
    known = {"bundle": str(bundle.path), "model": bundle.name, "model_digest": bundle.digest}
    return Judge({**known, **FP32, **changes}, 1, None)


def judged(judge: Judge, path: Path | str) -> dict[str, Any]:
    """In a thread of its own, which is what `claim_cores` binds."""
    found: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: found.append(judge.judge(str(path), {})))
    thread.start()
    thread.join()
    return found[0]
