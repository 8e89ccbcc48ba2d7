"""A worker beside the scanner: a DICOM export lands in INBOX, a JSON result appears in RESULTS.

    python examples/watch_folder.py INBOX RESULTS [--once] [--settle SECONDS]

Every folder in INBOX is a study, but hidden ones. Both shipped models judge it once its files have
kept their names, sizes and times for SECONDS. RESULTS then holds

    STUDY.json          both answers, the error and what to do about it, or whose copy it is
    changed/STUDY.json  files came after the answers, or another patient's under the same name: a
                        person decides, and a line says so (remove both: judged again)
    .state/             what is remembered of each study, and the lock of who is at it

What was judged is never judged again, also where the same files come under another name; one byte
more, and it is another study. What failed is tried again when its files change. A result that
cannot be read any more counts as none. Names of over 200 bytes are replaced by their SHA-256.
Several workers may share one INBOX; copies that arrive in the same moment may both be judged.

A fault of a study is its result; a fault of the machine (disk full, a package missing, a GPU lost)
ends the worker with exit code 1: let systemd or Docker start it again. Where one study lacked
memory, open files, a codec or a drive that answers, the others have their turn before. A study at
which two workers were killed, or lost the GPU, is given up. SIGTERM and Ctrl-C end the worker after
the study at hand. `--once` takes one look and ends, for cron.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ctedge
from ctedge.files import sha256_of, write_atomic


def look_at(study: Path, results: Path, settle: float, models: list[Any]) -> None:
    """One look at one study: leave it alone, wait, or judge it. Nobody else is at it."""
    result_file = results / f"{key(study)}.json"
    memory_file = results / ".state" / f"{key(study)}.json"
    changed_file = results / "changed" / f"{key(study)}.json"
    result, memory, mark = read_json(result_file), read_json(memory_file), fingerprint(study)
    if mark is None or mark == result.get("fingerprint"):
        return
    if "results" in result or "copy_of" in result:
        if not changed_file.exists():
            known = result.get("fingerprint")
            write_atomic(changed_file, json.dumps({"judged": known, "found": mark}))
            print(f"{study.name!r} changed after it was judged: see {changed_file}", flush=True)
        return
    if mark != memory.get("fingerprint") or memory.get("since", time.time() + 1) > time.time():
        memory = {"fingerprint": mark, "since": time.time(), "tries": 0}
        write_atomic(memory_file, json.dumps(memory))
    if time.time() - memory["since"] < settle:
        return
    # Written before the work: a worker that dies over a study (memory, a GPU) leaves a trace.
    write_atomic(memory_file, json.dumps(memory | {"tries": memory["tries"] + 1}))
    try:
        answer = answer_of(study, results, models, tries=memory["tries"])
        settled = fingerprint(study) == mark  # else it was still being written after all
        if settled:
            found = {"study": study.name, "fingerprint": mark} | answer
            write_atomic(result_file, json.dumps(found))
    except ctedge.DeviceLost:  # the machine's fault, but a study that does it twice is given up
        raise
    except (ctedge.CTEdgeError, OSError):  # the machine's fault: the study keeps its tries
        put_back(memory_file, memory)
        raise
    if settled:
        memory_file.unlink()
        said = {"results": "judged", "error": "failed", "copy_of": "known by another name"}
        print(f"{study.name!r} {said[next(iter(answer))]}", flush=True)


def put_back(memory_file: Path, memory: dict[str, Any]) -> None:
    """As if it had not been tried; on a full disk, as if it had not been seen."""
    try:
        write_atomic(memory_file, json.dumps(memory))
    except ctedge.OutputError:
        memory_file.unlink()


def answer_of(study: Path, results: Path, models: list[Any], *, tries: int) -> dict[str, Any]:
    """Answers, or what is wrong with the study. What is wrong with the machine is raised."""
    try:
        if tries >= 2:
            raise ctedge.WorkerLost("two workers ended at this study", fix="see their logs")
        return judge_once(study, results, models)
    except MemoryError as error:
        raise ctedge.InputError(f"{study}: not enough memory", fix="free some") from error
    except ctedge.CTEdgeError as error:
        if error.of_shortage or not error.of_one_scan:
            raise
        return {"error": error.as_dict()}


def judge_once(study: Path, results: Path, models: list[Any]) -> dict[str, Any]:
    """What both models answer, or the name under which these very files have their answers."""
    try:
        digests = sorted(sha256_of(path) for path in files_of(study))
    except OSError as error:
        raise unreadable(study, error) from error
    content = hashlib.sha256("".join(digests).encode()).hexdigest()
    twin_file = results / ".state" / f"{content}.twin"
    twin = read_json(twin_file).get("study", study.name)
    if twin != study.name and "results" in read_json(results / f"{key(Path(twin))}.json"):
        return {"copy_of": twin}
    answers = judge(study, models)
    write_atomic(twin_file, json.dumps({"study": study.name}))
    return {"results": answers}


def judge(study: Path, models: list[Any]) -> list[dict[str, Any]]:
    """What each model answers. `strict`: half a chest is an error, since nobody sees flags here."""
    scan = ctedge.read_scan(study, select="chest")
    return [model.predict(scan, strict=True).to_json() for model in models]


def fingerprint(study: Path) -> str | None:
    """Names, sizes and times of all files; None while there are none, or while they vanish."""
    try:
        stats = [(str(path.relative_to(study)), path.stat()) for path in files_of(study)]
    except FileNotFoundError:
        return None
    except OSError as error:  # not to be looked at: so says its result, until that changes
        refused = unreadable(study, error)
        if refused.of_shortage:
            raise refused from error
        return f"unreadable: {error}"
    seen = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest() if seen else None


def files_of(study: Path) -> list[Path]:
    """All its files in order; OSError where a folder cannot be listed (`rglob` skips it)."""

    def refuse(error: OSError) -> None:
        raise error

    walked = os.walk(study, onerror=refuse)
    found = (Path(folder, name) for folder, _, names in walked for name in names)
    return sorted(path for path in found if path.is_file())


def unreadable(study: Path, error: OSError) -> ctedge.UnreadableScan:
    refused = ctedge.UnreadableScan(f"{study}: {error.strerror}", fix="let this user read it")
    refused.__cause__ = error  # which says whether it is the machine's fault
    return refused


def key(study: Path) -> str:
    """What its files are called: file systems take no more than 255 bytes, suffixes included."""
    name = os.fsencode(study.name)
    return study.name if len(name) <= 200 else hashlib.sha256(name).hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    return {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("inbox", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--settle", type=float, default=30.0, metavar="SECONDS")
    options = parser.parse_args()
    if not options.inbox.is_dir():
        sys.exit(f"{options.inbox} is no folder; make it, or mount it")
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    state = options.results / ".state"
    state.mkdir(parents=True, exist_ok=True)
    first, second = ctedge.Classifier.load("pneumonia"), ctedge.SeverityRegressor.load("severity")
    with first, second:
        while not stop:
            lacking: list[str] = []
            for study in sorted(options.inbox.iterdir()):
                if stop or study.name.startswith(".") or not study.is_dir():
                    continue
                # The lock ends with its process, however that ends. On a network drive, try it.
                lock_file = state / f"{key(study)}.lock"
                with lock_file.open("w") as lock, contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    try:
                        look_at(study, options.results, options.settle, [first, second])
                    except ctedge.InputError as error:  # what it lacked, others may not need
                        lacking.append(str(error))
            if lacking:
                sys.exit("\n".join(lacking))
            if options.once:
                return
            time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except (ctedge.CTEdgeError, OSError) as error:
        sys.exit(str(error))
