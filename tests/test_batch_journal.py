"""The journal of a batch: what is finished is kept, by one process, for one batch."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path

import pytest

pytest.importorskip("pyarrow.parquet")

from batch_here import ASKED, FAILED, journal_of
from ctedge.batch.journal import folder_of
from ctedge.errors import OutputError


def disk_full(*_args, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def output(tmp_path):
    return tmp_path / "results.parquet"


def test_what_is_finished_is_there_when_the_batch_goes_on(output):
    with journal_of(output) as journal:
        journal.add(2, FAILED)
        on_disk = (folder_of(output) / "journal.jsonl").read_text()
    assert json.loads(on_disk.strip()) == {"index": 2, **FAILED}
    with journal_of(output, resume=True) as journal:
        assert journal.done == {2: FAILED}


def test_a_stopped_batch_is_neither_overwritten_nor_mixed_with_another(output):
    with journal_of(output) as journal:
        journal.add(0, FAILED)
    with pytest.raises(OutputError, match="a batch that was stopped") as caught:
        journal_of(output).__enter__()
    assert "--resume" in caught.value.fix
    with pytest.raises(OutputError, match="begun with something else") as caught:
        journal_of(output, resume=True, asked=ASKED | {"model": "other"}).__enter__()
    assert caught.value.found == "model 'tiny'"


@pytest.mark.parametrize("resume", [False, True])
def test_two_processes_do_not_work_on_one_batch(output, resume):
    """Nor is the one that runs called stopped, whose journal the user would then remove."""
    with journal_of(output) as journal:
        with (
            pytest.raises(OutputError, match="another process works on") as caught,
            journal_of(output, resume=resume),
        ):
            pass
        assert "remove" not in str(caught.value)
        journal.add(0, FAILED)
    with journal_of(output, resume=True) as journal:
        assert journal.done == {0: FAILED}


def test_a_batch_that_never_began_leaves_nothing(output):
    with pytest.raises(KeyboardInterrupt), journal_of(output):
        raise KeyboardInterrupt
    assert not folder_of(output).exists()


def test_a_batch_that_could_not_begin_is_none_that_was_stopped(output):
    """The disk is full, space is made, and the same command works."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        with pytest.raises(OutputError, match=r"job\.json"):
            journal_of(output).__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not folder_of(output).exists()
    with journal_of(output):
        pass


def test_a_folder_without_room_for_the_lock_is_not_left(output, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", disk_full)
        with pytest.raises(OutputError, match="No space left"):
            journal_of(output).__enter__()
    assert not folder_of(output).exists()


def test_what_another_process_began_meanwhile_is_not_removed(output, monkeypatch):
    """It was stopped between the look at the folder and the lock."""
    real = Path.mkdir

    def begin_before(path, *arguments, **options):
        monkeypatch.setattr(Path, "mkdir", real)
        with journal_of(output, asked=ASKED | {"model": "other"}) as journal:
            journal.add(0, FAILED)

    monkeypatch.setattr(Path, "mkdir", begin_before)
    with pytest.raises(OutputError, match="begun with something else"):
        journal_of(output).__enter__()
    assert (folder_of(output) / "journal.jsonl").exists()


def test_a_link_in_the_place_of_the_journal_is_refused(output, tmp_path):
    folder_of(output).symlink_to(tmp_path)
    with pytest.raises(OutputError, match="is a link"), journal_of(output, resume=True):
        pass


def test_a_full_disk_is_told_and_what_was_finished_stays(output):
    """The kernel refuses a longer file, as it refuses any byte more on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        with journal_of(output) as journal:
            journal.add(0, FAILED)
            resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
            journal.add(1, {"error": {"type": "A", "message": "b" * 1000}})

    try:
        with pytest.raises(OutputError, match="cannot write") as caught:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "--resume" in caught.value.fix
    with journal_of(output, resume=True) as journal:
        assert journal.done == {0: FAILED}
