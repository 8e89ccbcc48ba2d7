"""A peer kept warm in a process of its own: JSON lines in, JSON lines out.

    python benchmarks/peers/worker.py SCRIPT MODEL [CANDIDATE]

Runs in any interpreter that has what the script imports, so nothing of ctedge is imported here.
First line out: {"versions", "import_ms", "load_ms"}, or {"missing": why}. Then an answer a request:

    {"do": "answer", "scan": PATH}              all stages, once
    {"do": "network", "times": N, "batch": B}   the network alone, on what the last answer prepared
    {"do": "memory"}                            the most that the process has held

CTEDGE_PEERS_CPUS limits it to as many CPUs, before anything is imported.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    limit = os.environ.get("CTEDGE_PEERS_CPUS")
    if limit:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(limit)])
    # What a library prints must not come between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        try:
            peer, told = opened(*sys.argv[1:])
        except Exception as error:  # noqa: BLE001 - a peer may be missing in any way
            say(out, {"missing": reason(error)})
            return
        say(out, told)
        for line in sys.stdin:
            say(out, peer.answer_to(json.loads(line)))


def opened(script: str, *arguments: str) -> tuple[Peer | Ctedge, dict[str, Any]]:
    """The peer, and what is said of it."""
    start = time.perf_counter()
    module = importlib.import_module(script)
    imported = time.perf_counter()
    state = module.load(*arguments)
    loaded = time.perf_counter()
    kind = Ctedge if hasattr(module, "predict") else Peer
    peer = kind(module, state)
    return peer, {
        "versions": versions(module.PACKAGES),
        "ran": getattr(state, "runtime", None),
        "import_ms": (imported - start) * 1e3,
        "load_ms": (loaded - imported) * 1e3,
    }


class Peer:
    """A script of `load`, `read`, `prepare` and `infer`."""

    def __init__(self, module: Any, state: Any) -> None:
        self.module, self.state = module, state
        self.tensor: Any = None

    def answer_to(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "memory":
            return {"peak_mib": peak_mib()}
        if request["do"] == "network":
            return {"ms": [self.network_ms(request["batch"]) for _ in range(request["times"])]}
        return self.answer(request["scan"])

    def answer(self, scan: str) -> dict[str, Any]:
        module = self.module
        start = time.perf_counter()
        volume = module.read(scan)
        read = time.perf_counter()
        self.tensor = module.prepare(volume)
        prepared = time.perf_counter()
        probability = float(module.infer(self.state, self.tensor))
        done = time.perf_counter()
        seconds = {
            "read": read - start,
            "preprocess": prepared - read,
            "inference": done - prepared,
            "total": done - start,
            "input": prepared - start,
            "input in memory": prepared - read,
            "in memory": done - read,
        }
        return {"probability": probability, "ms": {name: s * 1e3 for name, s in seconds.items()}}

    def network_ms(self, batch: int) -> float:
        """One run of the network; peers are asked for batches of one alone."""
        if batch != 1:
            raise ValueError("a peer takes one scan at a time")
        start = time.perf_counter()
        self.module.infer(self.state, self.tensor)
        return (time.perf_counter() - start) * 1e3


class Ctedge(Peer):
    """One call does all; it times its stages itself."""

    def __init__(self, module: Any, state: Any) -> None:
        super().__init__(module, state)
        self.path = ""
        self.scan: Any = None
        self.runtime: Any = None

    def answer(self, scan: str) -> dict[str, Any]:
        start = time.perf_counter()
        prediction = self.module.predict(self.state, scan)
        total_ms = (time.perf_counter() - start) * 1e3
        self.hold(scan)
        start = time.perf_counter()
        held = self.module.predict(self.state, self.scan).timings_ms
        in_memory_ms = (time.perf_counter() - start) * 1e3
        ms = prediction.timings_ms
        ms = ms | {
            "total": total_ms,
            "input": ms["read"] + ms["preprocess"],
            "input in memory": held["preprocess"],
            "in memory": in_memory_ms,
        }
        return {"probability": prediction.probability, "ms": ms}

    def hold(self, path: str) -> None:
        """Keep the scan's voxels in memory, all of them, and the network's input of it."""
        if path == self.path:
            return
        from ctedge import preprocess, read_scan

        self.scan = read_scan(path)
        if not self.scan.voxels.size:  # asked for: until then they are in the file
            raise ValueError("no voxels")
        self.path, self.tensor = path, preprocess(self.scan, self.state.bundle.spec)

    def network_ms(self, batch: int) -> float:
        import numpy as np

        from ctedge.runtimes import open_runtime
        from ctedge.tensor import network_batch

        bundle = self.state.bundle
        if self.runtime is None:
            self.runtime = open_runtime(bundle, **self.module.named(self.state.runtime))
        volumes = network_batch(np.repeat(self.tensor[np.newaxis], batch, axis=0), bundle.spec)
        start = time.perf_counter()
        self.runtime.run(volumes)
        return (time.perf_counter() - start) * 1e3


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Of the distributions that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_mib() -> float | None:
    """The most memory that this process has held, by Linux."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else None


def reason(error: Exception) -> str:
    """The first line of an error, without what looks like a path."""
    what, *_ = str(error).splitlines() or [""]
    return re.sub(r"\(?/\S+", "", f"{type(error).__name__}: {what}").strip()


def say(out: TextIO, document: dict[str, Any]) -> None:
    print(json.dumps(document), file=out, flush=True)


if __name__ == "__main__":
    main()
