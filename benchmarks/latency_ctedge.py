"""What `latency.py` measures of ctedge alone: budget, batches, threads, the parts of a start."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latency_peers import SCRIPTS, Peer, PeerLost, Place, Worker, timed
from latency_turns import Scan
from times import summary

#: What is swept, and whose budget is shown: what is chosen, and what runs everywhere.
SWEPT = ("auto", "onnxruntime-cpu-fp32")

#: Runs on the CPU alone without the golden cases: the quickest to its first answer.
COLD_CANDIDATE = "onnxruntime-cpu-fp32"


def named(candidate: str) -> list[str]:
    """The options of a command that ask for a candidate; none for "auto"."""
    if candidate == "auto":
        return []
    options = ("--runtime", "--device", "--precision")
    pairs = zip(options, candidate.rsplit("-", 2), strict=True)
    return [word for pair in pairs for word in pair]


def budget(bundle: str, scan: Scan, candidate: str, repeats: int) -> dict[str, Any]:
    """Stages of many answers in one process, by `ctedge bench`."""
    words = [sys.executable, "-m", "ctedge", "bench", bundle, str(scan.path), "--json", "-"]
    words += ["--repeats", f"{repeats}", "--seconds", "600"]
    words += named(candidate)
    row: dict[str, Any] = {"scan": scan.name, "candidate": candidate}
    try:
        _, _, said = timed(words)
    except PeerLost as error:
        return row | {"missing": str(error), "stages": {}}
    (run,) = json.loads(said)["runs"]
    for stage in run["stages"].values():
        del stage["samples_ns"]
    return row | {
        "missing": None,
        "ran": run["candidate"],
        "stages": run["stages"],
        "load_ms": run["load_ms"],
        "first_ms": run["first_ms"]["total"],
        "peak_mib": _mib(run["peak_memory_bytes"]),
    }


def batch_sweep(
    peer: Peer, place: Place, scan: Scan, batches: Sequence[int], runs: int
) -> list[dict[str, Any]]:
    """The network alone, several scans at once: each batch in a process of its own, for memory."""
    return [_swept(peer, place, scan, {"batch": batch}, runs) for batch in batches]


def thread_sweep(
    peer: Peer, place: Place, scan: Scan, threads: Sequence[int], runs: int
) -> list[dict[str, Any]]:
    """One scan, on one CPU, two, and so on: ctedge starts as many threads as it may use CPUs."""
    counts = [count for count in threads if count <= len(os.sched_getaffinity(0))]
    return [_swept(peer, place, scan, {"cpus": count}, runs) for count in counts]


def _swept(peer: Peer, place: Place, scan: Scan, how: dict[str, int], runs: int) -> dict[str, Any]:
    worker = Worker(peer, place, cpus=how.get("cpus"))
    row: dict[str, Any] = {"candidate": peer.candidate, **how, "missing": worker.missing}
    batch = how.get("batch", 1)
    try:
        worker.ask("answer", scan=str(scan.path))
        answer = worker.ask("answer", scan=str(scan.path))
        worker.ask("network", times=1, batch=batch)
        ms = worker.ask("network", times=runs, batch=batch)["ms"]
        peak = worker.ask("memory")["peak_mib"]
    except PeerLost as error:
        return row | {"missing": str(error)}
    finally:
        worker.close()
    return row | {
        "ran": worker.told["ran"],
        "total_ms": round(answer["ms"]["total"], 3),
        "network": summary(ms),
        "network_per_scan_ms": round(summary(ms)["p50_ms"] / batch, 3),
        "peak_mib": None if peak is None else round(peak, 1),
    }


def cold_parts(bundle: str, scan: Scan, runs: int) -> dict[str, Any]:
    """Where the time goes from process start to the first answer, and of the command itself."""
    parts: dict[str, list[float]] = {}
    for _ in range(runs):
        for name, ms in _one_cold(bundle, scan.path).items():
            parts.setdefault(name, []).append(ms)
    command = [sys.executable, "-m", "ctedge", "predict", str(scan.path), "--model", bundle]
    command += [*named(COLD_CANDIDATE), "--json"]
    whole = [timed(command)[0] for _ in range(runs)]
    return {
        "scan": scan.name,
        "candidate": COLD_CANDIDATE,
        "parts": {name: summary(values) for name, values in parts.items()},
        "command": summary(whole),
    }


def _one_cold(bundle: str, scan: Path) -> dict[str, float]:
    """Milliseconds by part, in order; "first answer" is all until the answer is there."""
    start = time.monotonic()
    script = str(SCRIPTS / "ctedge_cold.py")
    _, _, said = timed([sys.executable, script, bundle, str(scan), COLD_CANDIDATE])
    ended = time.monotonic()
    told = json.loads(said)
    parts: dict[str, float] = {}
    before = start
    for name, moment in told["done"].items():
        parts[name] = (moment - before) * 1e3
        before = moment
    predicted = parts.pop("predict")
    stages = {name: ms for name, ms in told["ms"].items() if name != "total"}
    closing = parts.pop("close")
    parts |= stages
    parts["the rest of predict"] = predicted - sum(stages.values())
    parts["first answer"] = (told["done"]["predict"] - start) * 1e3
    parts["close and end"] = closing + (ended - before) * 1e3
    return parts


def _mib(count: int | None) -> float | None:
    return None if count is None else round(count / 2**20, 1)
