"""What is finished of a batch, kept beside its output until the output is written.

`OUT.unfinished/` holds `job.json`, which says what was asked for, and `journal.jsonl`, one line a
finished scan, on disk before the next one is taken: a kill loses what was being judged, no more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn, TextIO

from ctedge.batch.results import Outcome, fits
from ctedge.errors import OutputError
from ctedge.files import remove_folder, write_atomic

SCHEMA_VERSION = 1

_JOB, _JOURNAL, _LOCK = "job.json", "journal.jsonl", "lock"


def folder_of(output: Path) -> Path:
    """Where the journal of an output lies."""
    return output.with_name(f"{output.name}.unfinished")


class Journal:
    """The outcomes of the scans that are finished, by their place in the table.

    Attributes:
        done: them.
    """

    def __init__(self, folder: Path, count: int, task: str) -> None:
        self._folder, path = folder, folder / _JOURNAL
        self.done = _read(path, count, task)
        self._stream: BinaryIO = path.open("ab")
        self._stream.write(b"\n")  # ends a line that was torn off

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # bytes that `add` could not write, and said so
            self._stream.close()
        if not self.done:
            self.remove()  # there is nothing to go on from

    def add(self, index: int, outcome: Outcome) -> None:
        """Keep what came of a scan; it is on disk when this returns.

        Raises:
            OutputError: it cannot be written.
        """
        try:
            self._stream.write(json.dumps({"index": index, **outcome}).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise OutputError(
                f"cannot write {self._folder}",
                found=error.strerror,
                fix="free space, then go on with the same command and --resume",
            ) from error
        self.done[index] = outcome

    def forget_failures(self) -> None:
        """Scans that failed are not finished any more."""
        self.done = answers_of(self.done)

    def remove(self) -> None:
        """The output stands: nothing of this is needed any more."""
        remove_folder(self._folder)


def answers_of(outcomes: Mapping[int, Outcome]) -> dict[int, Outcome]:
    """Those that are no failures."""
    return {index: outcome for index, outcome in outcomes.items() if "answer" in outcome}


@contextlib.contextmanager
def open_journal(
    output: Path, asked: dict[str, Any], *, count: int, task: str, resume: bool
) -> Iterator[Journal]:
    """Begin a batch, or go on with one.

    Args:
        output: the file that is to be written.
        asked: all that the answers depend on, as plain JSON values; kept, and compared.
        count: scans in the table.
        task: of the model.
        resume: whether a batch that was stopped may be there. Where there is none, one begins.

    Raises:
        OutputError: another process works on it; a batch was stopped there, and `resume` is false;
            it was asked for something else, or does not say for what; or nothing can be written
            there.
    """
    folder = folder_of(output)
    asked = {"schema_version": SCHEMA_VERSION, **asked}
    if folder.is_symlink():
        raise OutputError(f"{folder} is a link", fix="remove it, or choose another output")
    stopped = folder.exists()  # or it runs, which the lock will tell
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        if not stopped:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise OutputError(
            f"cannot write {folder}", found=error.strerror, fix="choose another output"
        ) from error
    with lock, contextlib.ExitStack() as undo:
        _be_alone(folder, lock)
        if stopped and not resume:
            raise OutputError(
                f"{folder} holds a batch that was stopped",
                fix="go on with --resume, remove that folder, or choose another output",
            )
        if not stopped and not (folder / _JOB).exists():  # another process may just have begun it
            undo.callback(remove_folder, folder)  # else it would be taken for one that was stopped
        _settle(folder, asked)
        with Journal(folder, count, task) as journal:
            undo.pop_all()
            yield journal


def refuse_others(where: Path, begun: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise OutputError where what was begun is not what is asked for now."""
    unlike = [name for name in asked if name not in begun or begun[name] != asked[name]]
    if unlike:
        _refuse(where, unlike, begun, asked)


def _refuse(
    where: Path, unlike: list[str], begun: dict[str, Any], asked: dict[str, Any]
) -> NoReturn:
    raise OutputError(
        f"{where} was begun with something else",
        found=", ".join(f"{name} {begun.get(name)!r}" for name in unlike),
        expected=", ".join(f"{name} {asked[name]!r}" for name in unlike),
        fix="repeat the first command as it was, with the same table, or choose another output",
    )


def _be_alone(folder: Path, lock: TextIO) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"another process works on the batch in {folder}",
            fix="wait for it to end, then run the command again",
        ) from error


def _settle(folder: Path, asked: dict[str, Any]) -> None:
    """Begin the batch, or make sure that this is the same one."""
    path = folder / _JOB
    try:
        begun = json.loads(path.read_bytes())
    except FileNotFoundError:
        write_atomic(path, json.dumps(asked, indent=2) + "\n")
        return
    except (ValueError, RecursionError):
        begun = None
    if not isinstance(begun, dict):
        raise OutputError(
            f"{path} is damaged, and says no more for what the batch was begun",
            fix=f"remove {folder} and begin anew, or choose another output",
        )
    refuse_others(folder, begun, asked)


def _read(path: Path, count: int, task: str) -> dict[int, Outcome]:
    """The journal's outcomes; a damaged line is passed over, and its scan judged anew."""
    outcomes: dict[int, Outcome] = {}
    if not path.exists():
        return outcomes
    for line in path.read_bytes().splitlines():
        try:
            outcome = json.loads(line)
        except (ValueError, RecursionError):
            continue
        index = outcome.pop("index", None) if isinstance(outcome, dict) else None
        if type(index) is int and 0 <= index < count and fits(outcome, task):
            outcomes[index] = outcome
    return outcomes
