"""The job on a folder: every file once, in parallel, and on from where it was stopped.

Beside the output folder OUT stand `OUT.record.json`, which may be handed on with it, and the folder
`OUT.private` with the key and the journal, which may not: with them, patients can be found again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ctedge.deidentify.actions import EDITION, Options, action_table
from ctedge.deidentify.clean import Rules
from ctedge.deidentify.each import LOST, each_file
from ctedge.deidentify.instance import deidentify
from ctedge.deidentify.places import check_holds_dicom, files_below, is_link, separate, walk
from ctedge.deidentify.reading import NotForUs, Refused, passing
from ctedge.deidentify.record import (
    Outcome,
    journal_line,
    nested,
    read_journal,
    write_record,
)
from ctedge.deidentify.uids import Keyed, make_key, read_key
from ctedge.errors import InputError, OutputError, UnreadableScan
from ctedge.files import write_atomic

_KEY, _JOB, _JOURNAL, _LOCK = "key", "job.json", "journal.jsonl", "lock"
_PARTIAL = ".partial-*"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A de-identification as it was asked for; paths are absolute, links in them resolved."""

    source: Path
    output: Path
    rules: Rules

    @property
    def private(self) -> Path:
        """The folder with key and journal."""
        return self.output.with_name(f"{self.output.name}.private")

    @property
    def record(self) -> Path:
        """The file that says what was done."""
        return self.output.with_name(f"{self.output.name}.record.json")


@dataclass(frozen=True, kw_only=True)
class Summary:
    """How a job ended: the outcome of every file, and where the record is."""

    outcomes: tuple[Outcome, ...]
    record: Path
    private: Path

    def of(self, state: str) -> list[Outcome]:
        """The outcomes of one state."""
        return [outcome for outcome in self.outcomes if outcome.state == state]


def deidentify_folder(  # noqa: PLR0913 - one keyword an independent choice
    source: Path,
    output: Path,
    *,
    key_file: Path | None = None,
    options: Options | None = None,
    workers: int = 1,
    begin: Callable[[int], Callable[[], None]] = lambda _total: lambda: None,
) -> Summary:
    """De-identify every file below `source` into `output`, one folder a series.

    The same call goes on with a job that was stopped; what is done and unchanged stays.

    Args:
        source: a folder; links in it are passed over.
        output: a folder that is empty, not there, or of the same job.
        key_file: 32 bytes or more; None makes a key in `OUT.private`, or takes the one there.
        options: of the profile; None takes all three.
        workers: processes.
        begin: told how many files there are to do; what it returns is called once for each.

    Raises:
        ScanNotFound: no such folder, or no DICOM file in it.
        InputError: the folders lie in each other, or the key file holds no key.
        UnreadableScan: a folder in it cannot be listed.
        OutputError: `output` holds something else, or cannot be written or listed.
        MissingExtra: the packages for it are not installed.
    """
    job_options = options or Options()
    action_table(job_options)  # a missing package is said before anything is written
    source, output = separate(source, output)
    private = output.with_name(f"{output.name}.private")
    _check_empty_or_ours(output, private)
    key = _known_key(private, key_file, source, output)
    check_holds_dicom(source)
    try:
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot write {output}",
            found=error.strerror,
            fix="choose an output folder in one that this user may write to",
        ) from error
    with _alone(private):
        rules = Rules(options=job_options, keyed=Keyed(key or _made_key(private)))
        job = Job(source=source, output=output, rules=rules)
        _settle(job)
        outcomes = _run(job, workers, begin)
        write_record(
            job.record,
            options=job_options,
            key_fingerprint=rules.keyed.fingerprint(),
            outcomes=outcomes,
        )
    return Summary(outcomes=outcomes, record=job.record, private=job.private)


def _check_empty_or_ours(output: Path, private: Path) -> None:
    if (private / _JOB).exists():
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(
            f"{output} is not empty, and no job of this command stands beside it",
            expected=f"an empty folder, or the job's {private.name}",
            fix="choose another output folder",
        )


@contextmanager
def _alone(private: Path) -> Iterator[None]:
    with (private / _LOCK).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                f"another process works on the job in {private}",
                fix="wait for it to end, then run the command again",
            ) from error
        yield


def _made_key(private: Path) -> bytes:
    """A new key, unless another process has made one meanwhile."""
    own = private / _KEY
    return read_key(own) if own.exists() else make_key(own)


def _known_key(private: Path, key_file: Path | None, source: Path, output: Path) -> bytes | None:
    """The key that was named, or that of the job; None where one is still to be made."""
    if key_file is None:
        own = private / _KEY
        return read_key(own) if own.exists() else None
    resolved = key_file.resolve()
    if output in resolved.parents or source in resolved.parents:
        raise InputError(
            "the key lies among the data",
            found=str(key_file),
            fix="keep it where neither the input nor the output is handed on",
        )
    return read_key(key_file)


def _settle(job: Job) -> None:
    """Begin the job, or make sure that this is the same one; clear what a kill left behind."""
    asked = {
        "schema_version": 1,
        "source": os.fsencode(job.source).hex(),
        "edition": EDITION,
        "methods": [code for code, _ in job.rules.options.codes()],
        "key_fingerprint": job.rules.keyed.fingerprint(),
    }
    path = job.private / _JOB
    if path.exists():
        try:
            begun = json.loads(path.read_bytes())
        except ValueError:
            begun = None
        if begun != asked:
            known = begun if isinstance(begun, dict) else {}
            unlike = [name for name in asked if known.get(name) != asked[name]]
            raise OutputError(
                f"{job.output} holds a job of other settings",
                found=f"unlike: {', '.join(unlike)}",
                expected="the same input folder, options and key",
                fix="choose another output folder, or repeat the first command as it was",
            )
    else:
        write_atomic(path, json.dumps(asked, indent=2) + "\n")
    for _, others in walk(job.output, OutputError):
        for path in filter(is_link, others):
            raise OutputError(f"{path.parent} holds links", fix="choose another output folder")
    _clear(job.output)


def _clear(output: Path) -> None:
    """Remove what a process that was killed has written half."""
    for leftover in output.rglob(_PARTIAL):
        leftover.unlink()


def _run(job: Job, workers: int, begin: Callable[[int], Callable[[], None]]) -> tuple[Outcome, ...]:
    journal = job.private / _JOURNAL
    outcomes = read_journal(journal)
    todo = [path for path in files_below(job.source) if not _is_done(job, path, outcomes)]
    advance = begin(len(todo))
    with journal.open("ab") as stream:
        stream.write(b"\n")  # ends a line that was torn off
        for path, answer in each_file(partial(_one, job), todo, workers=workers):
            if isinstance(answer, Outcome):
                outcome = answer
                stream.write(journal_line(outcome).encode())
                stream.flush()
            else:  # not in the journal: it is tried again when the job goes on
                outcome = _not_now(job, path, answer or LOST)
            before = outcomes.get(outcome.source)
            if before is not None and before.output not in (None, outcome.output):
                (job.output / str(before.output)).unlink(missing_ok=True)  # of an older input
            outcomes[outcome.source] = outcome
            advance()
    _clear(job.output)  # of a worker that was lost
    return tuple(outcomes.values())


def _is_done(job: Job, path: Path, outcomes: dict[str, Outcome]) -> bool:
    before = outcomes.get(path.as_posix())
    if before is None:
        return False
    try:
        status = (job.source / path).lstat()
    except OSError:
        return False  # it is named when its turn comes
    if (before.size_bytes, before.changed_ns) != (status.st_size, status.st_mtime_ns):
        return False
    if before.output is None:
        return True
    written = job.output / before.output
    return written.is_file() and written.stat().st_size == before.output_bytes


def _outcome(job: Job, path: Path) -> Callable[..., Outcome]:
    """An outcome of this file, but for what became of it."""
    status = (job.source / path).lstat()
    return partial(
        Outcome,
        source=path.as_posix(),
        name=job.rules.keyed.file_name(path),
        size_bytes=status.st_size,
        changed_ns=status.st_mtime_ns,
    )


def _not_now(job: Job, path: Path, why: str) -> Outcome:
    """The outcome of a file that the machine failed at; for this run's summary and record only."""
    return Outcome(
        source=path.as_posix(),
        name=job.rules.keyed.file_name(path),
        size_bytes=0,
        changed_ns=0,
        state="damaged",
        reasons=[why],
    )


def _one(job: Job, path: Path) -> Outcome | str | None:
    """De-identify one file, or say why that cannot be done now; runs in a worker process."""
    try:
        made = _outcome(job, path)
        clean = deidentify(job.source / path, job.rules)
    except NotForUs as why:
        return made(state="passed over", reasons=[str(why)])
    except Refused as why:
        return made(state="refused", reasons=list(why.args[0]))
    except (OSError, MemoryError) as error:
        return passing(error)
    except UnreadableScan as error:
        parts = (error.what, error.found)
        return made(state="damaged", reasons=[str(part) for part in parts if part])
    target = Path(clean.reference) / f"{job.rules.keyed.file_name(path)}.dcm"
    write_atomic(job.output / target, clean.data)
    return made(
        state="written",
        output=target.as_posix(),
        output_bytes=len(clean.data),
        sha256=hashlib.sha256(clean.data).hexdigest(),
        counts=nested(clean.counts),
    )
