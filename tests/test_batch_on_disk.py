"""A finished scan is on disk before it counts: written, flushed, synced, in this order."""

from __future__ import annotations

import errno
import json
import os

import pytest

pytest.importorskip("pyarrow.parquet")

from batch_here import FAILED, journal_of
from ctedge.batch.journal import folder_of
from ctedge.errors import OutputError


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results.parquet"


def test_a_scan_is_on_disk_before_the_next_one_is_taken(output, monkeypatch):
    path = folder_of(output) / "journal.jsonl"
    synced, sync = [], os.fsync

    def watched(stream):
        """What the system was given of the journal by then, and what counted as finished."""
        if os.path.samestat(os.fstat(stream), path.stat()):
            lines = [json.loads(line)["index"] for line in path.read_bytes().splitlines() if line]
            synced.append((lines, list(journal.done)))
        sync(stream)

    with journal_of(output) as journal:
        monkeypatch.setattr(os, "fsync", watched)
        journal.add(2, {"answer": {}})
        assert synced == [([2], [])]
        journal.add(0, {"answer": {}})
        assert synced == [([2], []), ([2, 0], [2])]
        monkeypatch.undo()


def test_a_scan_that_the_disk_did_not_take_does_not_count(output, monkeypatch):
    def broken(stream):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with journal_of(output) as journal:
        journal.add(0, FAILED)
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(OutputError, match="Input/output error"):
            journal.add(1, FAILED)
        assert journal.done == {0: FAILED}
        monkeypatch.undo()
