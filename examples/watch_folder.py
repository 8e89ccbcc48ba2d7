"""A worker beside the scanner: a DICOM export lands in INBOX, a JSON result appears in RESULTS.

    python examples/watch_folder.py INBOX RESULTS [--once] [--settle SECONDS]

Every folder in INBOX is a study, but hidden ones. Both shipped models judge it once its files have
kept their names, sizes and times for SECONDS. RESULTS then holds

    STUDY.json          both answers, or the error and what to do about it
    changed/STUDY.json  files came after the answers: a person decides (remove both: judged again)
    .state/             what is remembered of each study, and the lock of who is at it

What was judged is never judged again; what failed is tried again when its files change. Several
workers may share one INBOX. A fault of a study is its result; a fault of the machine (disk full, a
package missing) ends the worker with exit code 1: let systemd or Docker start it again. SIGTERM and
Ctrl-C end it after the study at hand. `--once` takes one look and ends, for cron.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ctedge
from ctedge.files import write_atomic


def look_at(study: Path, results: Path, settle: float, models: list[Any]) -> None:
    """One look at one study: leave it alone, wait, or judge it. Nobody else is at it."""
    result_file = results / f"{study.name}.json"
    memory_file = results / ".state" / f"{study.name}.json"
    changed_file = results / "changed" / f"{study.name}.json"
    result, memory, mark = read_json(result_file), read_json(memory_file), fingerprint(study)
    if mark is None or mark == result.get("fingerprint"):
        return
    if "results" in result:
        if not changed_file.exists():
            write_atomic(changed_file, json.dumps({"judged": result["fingerprint"], "found": mark}))
        return
    if mark != memory.get("fingerprint") or memory["since"] > time.time():
        memory = {"fingerprint": mark, "since": time.time(), "tries": 0}
        write_atomic(memory_file, json.dumps(memory))
    if time.time() - memory["since"] < settle:
        return
    # Written before the work: a worker that dies over a study (memory, a decoder) leaves a trace.
    write_atomic(memory_file, json.dumps(memory | {"tries": memory["tries"] + 1}))
    try:
        if memory["tries"] == 2:
            raise ctedge.WorkerLost("two workers ended at this study", fix="see their logs")
        answer: dict[str, Any] = {"results": judge(study, models)}
    except (ctedge.InputError, ctedge.InferenceFailed, ctedge.WorkerLost) as error:
        answer = {"error": error.as_dict()}
    except ctedge.CTEdgeError:  # the machine's fault: the study keeps its tries
        write_atomic(memory_file, json.dumps(memory))
        raise
    if fingerprint(study) == mark:  # else it was still being written after all
        write_atomic(result_file, json.dumps({"study": study.name, "fingerprint": mark} | answer))
        memory_file.unlink()
        print(f"{study.name!r} {'failed' if 'error' in answer else 'judged'}", flush=True)


def judge(study: Path, models: list[Any]) -> list[dict[str, Any]]:
    """What each model answers. `strict`: half a chest is an error, since nobody sees flags here."""
    scan = ctedge.read_scan(study, select="chest")
    return [model.predict(scan, strict=True).to_json() for model in models]


def fingerprint(study: Path) -> str | None:
    """Names, sizes and times of all files; None while there are none, or while they vanish."""
    with contextlib.suppress(FileNotFoundError):
        files = sorted(path for path in study.rglob("*") if path.is_file())
        stats = [(str(path.relative_to(study)), path.stat()) for path in files]
        seen = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest() if seen else None
    return None


def read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("inbox", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--once", action="store_true")
    parser.add_argument("--settle", type=float, default=30.0, metavar="SECONDS")
    options = parser.parse_args()
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.append(number))
    state = options.results / ".state"
    state.mkdir(parents=True, exist_ok=True)
    first, second = ctedge.Classifier.load("pneumonia"), ctedge.SeverityRegressor.load("severity")
    with first, second:
        while not stop:
            for study in sorted(options.inbox.iterdir()):
                if stop or study.name.startswith(".") or not study.is_dir():
                    continue
                # The lock ends with its process, however that ends. On a network drive, try it.
                lock_file = state / f"{study.name}.lock"
                with lock_file.open("w") as lock, contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    look_at(study, options.results, options.settle, [first, second])
            if options.once:
                return
            time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except (ctedge.CTEdgeError, OSError) as error:
        sys.exit(str(error))
