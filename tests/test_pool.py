"""Worker processes: answers in any order, the first error wins, and none outlives its parent."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge import pool
from ctedge.errors import UnreadableScan, WorkerLost
from patience import PATIENCE_S, wait_for

PARENT = """
import os, sys, time
sys.path.insert(0, {folder!r})
from ctedge import pool
import pool_work

if __name__ == "__main__":
    list(pool.each(pool_work.note_and_sleep, [{folder!r}] * 4, workers=2))
"""
WORK = """
import os, pathlib, time

def note_and_sleep(folder):
    (pathlib.Path(folder) / f"{os.getpid()}.pid").touch()
    time.sleep(600)
"""


def said_by(script: str, *arguments: str) -> str:
    """What a script beside this one prints, in a process of its own."""
    answer = subprocess.run(
        [sys.executable, Path(__file__).parent / script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, (answer.returncode, answer.stderr)
    return answer.stdout


def refuse_three(number: int) -> int:
    if number == 3:
        raise UnreadableScan("three", found=number)
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_answers_come_with_their_places(workers: int) -> None:
    assert dict(pool.each(abs, [-4, 5, -6], workers=workers)) == {0: 4, 1: 5, 2: 6}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_words(workers: int) -> None:
    with pytest.raises(UnreadableScan, match="three") as caught:
        list(pool.each(refuse_three, [1, 2, 3], workers=workers))
    assert str(caught.value.found) == "3"


def blas_threads(_number: int) -> str | None:
    return os.environ.get("OPENBLAS_NUM_THREADS")


def test_a_worker_computes_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert dict(pool.each(blas_threads, [1, 2], workers=2)) == {0: "1", 1: "1"}
    assert "OPENBLAS_NUM_THREADS" not in os.environ


def die(_number: int) -> None:
    os._exit(3)


def test_a_lost_worker_is_an_error_of_ours() -> None:
    with pytest.raises(WorkerLost, match="fewer workers"):
        list(pool.each(die, [1, 2], workers=2))


class Unhurried(list[int]):
    """Items that take a moment each to be asked for."""

    def __iter__(self) -> Iterator[int]:
        for item in super().__iter__():
            time.sleep(0.01)
            yield item


def test_one_lost_while_work_is_handed_out_is_the_same_error() -> None:
    with pytest.raises(WorkerLost, match="fewer workers"):
        list(pool.each(die, Unhurried(range(3000)), workers=2))  # half a minute, if none is lost


@pytest.mark.skipif(os.name != "posix", reason="processes are started in another way")
@pytest.mark.parametrize("missing", ["manager", "feeder", "second_process"])
@pytest.mark.parametrize("who", ["pool", "feeder"])
def test_too_few_threads_or_processes_are_an_error_of_ours(missing: str, who: str) -> None:
    """In a process of its own: it hung for ever, or at its end waited for a worker."""
    if who == "feeder" and importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    said = said_by("pool_starved.py", missing, who)
    seen_by_python = missing == "feeder" and sys.version_info >= (3, 12)
    if seen_by_python and said.startswith("WorkerLost 0 "):
        assert "enough memory and threads" in said
    else:
        assert said.startswith("RuntimeUnavailable 0 "), said
        assert "ulimit -u" in said
    assert "fewer workers" in said


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals by thread are POSIX")
@pytest.mark.parametrize("press", ["press_here", "press_where_another_thread_hears"])
def test_ctrl_c_while_work_is_handed_out_drops_what_has_not_begun(
    tmp_path: Path, press: str
) -> None:
    """In a process of its own: whoever runs the tests is not to hear of it."""
    said = said_by("pool_interrupted.py", press, str(tmp_path))
    assert said.split() == ["interrupted", "handler-restored", "mask-restored"]
    # Two at work and as many as lie ready for them; 300 were handed out.
    assert len(list(tmp_path.iterdir())) < 30


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A process that ended, and whose parent has not asked for it yet, still has its number.
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "pool_work.py").write_text(WORK)
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, script])
    try:
        wait_for(lambda: len(list(tmp_path.glob("*.pid"))) >= 2)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait(PATIENCE_S)
    wait_for(lambda: not any(alive(worker) for worker in workers))
