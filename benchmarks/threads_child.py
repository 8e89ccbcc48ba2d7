"""One step of `threads.py`, in a process of its own: what is asked comes as JSON.

    python benchmarks/threads_child.py '{"cpus": 2, "way": "threads", "callers": 2, ...}'

The process is held to its CPUs before anything is imported that starts threads.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from typing import Any


def by_threads(
    door: Any, source: Any, scans: int, *, callers: int, warm_up: int
) -> tuple[float, list[float]]:
    """Seconds for all answers, and milliseconds of each, of threads that share one model."""
    left, taken, met = iter(range(scans)), list[float](), list[BaseException]()
    ready = threading.Barrier(callers + 1)

    def call() -> None:
        try:
            for _ in range(warm_up):
                door.predict(source)
            ready.wait()
            while next(left, None) is not None:
                start = time.perf_counter()
                door.predict(source)
                taken.append((time.perf_counter() - start) * 1e3)
        except BaseException as error:  # noqa: BLE001 - of a thread, raised below
            met.append(error)
            ready.abort()

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if met:
        raise met[0]
    return seconds, taken


def one_by_one(door: Any, source: str, scans: int) -> float:
    """Seconds for all answers, each scan read when the one before it has been judged."""
    start = time.perf_counter()
    for _ in range(scans):
        door.predict(source)
    return time.perf_counter() - start


def in_step(door: Any, source: str, scans: int) -> float:
    """The same with the next scan read while this one is judged, as `predict_iter` does it."""
    start = time.perf_counter()
    door.predict_batch([source] * scans)
    return time.perf_counter() - start


#: The way that the others are compared with.
PLAIN = "predict, one by one"
STREAMS = {PLAIN: one_by_one, "predict_batch": in_step}


def main() -> None:
    asked = json.loads(sys.argv[1])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked["cpus"]])
    from ctedge import Classifier
    from ctedge.bench.machine import peak_memory_bytes

    source, scans, warm_up = asked["source"], asked["scans"], asked["warm_up"]
    with Classifier.load(asked["bundle"], **asked["named"]) as door:
        taken: list[float] = []
        if asked["way"] == "threads":
            callers = asked["callers"]
            seconds, taken = by_threads(door, source, scans, callers=callers, warm_up=warm_up)
        else:
            for _ in range(warm_up):
                door.predict(source)
            seconds = STREAMS[asked["way"]](door, source, scans)
        peak = peak_memory_bytes()
        told = {"ran": door.runtime, "seconds": seconds, "ms": taken, "peak_bytes": peak}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
