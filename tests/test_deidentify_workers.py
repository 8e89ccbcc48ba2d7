"""Which file a worker is lost over, and which it is not."""

from __future__ import annotations

import ctypes

import pytest

from ctedge import WorkerLost, pool
from ctedge.deidentify.each import each_file
from patience import wait_for


def test_the_file_that_a_worker_is_lost_over_is_named():
    work, harmless, deadly = ctypes.string_at, b"some bytes", 0  # a null pointer is read
    answers = dict(each_file(work, [harmless, deadly, b"more"], workers=2))
    assert answers == {harmless: harmless, deadly: None, b"more": b"more"}
    with pytest.raises(WorkerLost, match="whatever it worked on") as caught:
        list(each_file(work, [deadly, deadly], workers=2))
    assert caught.value.found == "0, among others"


def test_a_worker_that_is_lost_between_two_files_is_lost_over_neither(monkeypatch):
    """Each dies when it has given its first answer, and before it is given more work."""

    def lost(*_args, **_named):
        raise WorkerLost("a worker process ended before its work was done")

    def dying(workers):
        made = executor(workers)
        submit, futures = made.submit, []

        def submit_to_the_dead(work, item):
            for process in list(made._processes.values()) if futures else ():
                process.kill()
                wait_for(lambda: made._broken)
            futures.append(submit(work, item))
            return futures[-1]

        made.submit = submit_to_the_dead
        return made

    executor = pool.executor
    monkeypatch.setattr(pool, "each", lost)
    monkeypatch.setattr(pool, "executor", dying)
    files = [b"one", b"two", b"three"]
    assert list(each_file(ctypes.string_at, files, workers=2)) == [(one, one) for one in files]
