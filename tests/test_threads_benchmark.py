"""`benchmarks/threads.py`: a trial run works, its steps are whole, its tables say what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY
from patience import PATIENCE_S

BENCHMARKS = REPOSITORY / "benchmarks"

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no process can be held to CPUs here"
)


@pytest.fixture(autouse=True)
def _benchmarks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


class Door:
    """Answers at once, and remembers who asked."""

    def __init__(self, *, fails_after: int = 10**9) -> None:
        self.asked: list[int] = []
        self._fails_after = fails_after

    def predict(self, source: str) -> str:
        self.asked.append(threading.get_ident())
        if len(self.asked) > self._fails_after:
            raise OSError("the scan is gone")
        return source


@pytest.mark.parametrize("callers", [1, 3])
def test_threads_answer_so_many_scans_and_are_warmed_up_first(callers: int) -> None:
    from threads_child import by_threads

    door = Door()
    seconds, ms = by_threads(door, "scan", 20, callers=callers, warm_up=2)
    assert len(ms) == 20
    assert len(door.asked) == 20 + 2 * callers
    assert seconds > 0


@pytest.mark.parametrize("after", [1, 9])
def test_a_thread_that_fails_ends_the_step(after: int) -> None:
    from threads_child import by_threads

    with pytest.raises(OSError, match="the scan is gone"):
        by_threads(Door(fails_after=after), "scan", 20, callers=3, warm_up=2)


def test_every_step_is_taken_once_and_by_no_more_cpus_than_there_are() -> None:
    import threads

    wanted = list(threads.steps(threads.FULL))
    assert len(set(wanted)) == len(wanted)
    assert {step.callers for step in wanted} == {1, 2, 4}
    assert {step.cpus for step in wanted} <= set(range(1, len(os.sched_getaffinity(0)) + 1))
    assert {step.way for step in wanted} == {"threads", *threads.STREAMS}


def test_a_trial_fills_the_tables(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", exc_type=ImportError)
    import threads_table

    path = tmp_path / "threads.json"
    subprocess.run(
        [sys.executable, BENCHMARKS / "threads.py", "--quick", "-o", path],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    document = json.loads(path.read_text())
    assert document["command"].endswith("python benchmarks/threads.py --quick -o threads.json")
    by_threads, *streams = document["rows"]
    assert (by_threads["callers"], by_threads["cpus"]) == (2, 1)
    assert 0 < by_threads["answer"]["p50_ms"] <= by_threads["answer"]["p95_ms"]
    assert by_threads["answer"]["cv"] > 0
    assert [row["way"] for row in streams] == list(dict.fromkeys(row["way"] for row in streams))
    assert all(row["scans_per_second"][0] > 0 for row in document["rows"])
    page = threads_table.page((REPOSITORY / "docs" / "batches.md").read_text(), document)
    assert "these figures say nothing" in page


def row(way: str, rates: list[float], **changes: Any) -> dict[str, Any]:
    found = {"candidate": "auto", "ran": "openvino-cpu-int8", "way": way, "cpus": 2, "callers": 1}
    found |= {"shape": [512, 512, 41], "scans": 24, "scans_per_second": rates, "peak_mib": 400.4}
    return found | {"answer": None} | changes


def test_rates_are_medians_and_streams_are_compared_with_one_by_one() -> None:
    import threads_table

    answer = {"p50_ms": 180.4, "p95_ms": 200.0, "cv": 0.0512}
    rows = [
        row("threads", [5.0, 6.0, 5.5], callers=2, answer=answer),
        row(threads_table.PLAIN, [2.0, 4.0, 3.0]),
        row("predict_batch", [4.5], peak_mib=None),
    ]
    lines = list(threads_table.thread_rows({"rows": rows}))
    shown = (
        "| auto: openvino-cpu-int8 | 2 | 2 | 5.50 (5.00 to 6.00) | 180 ms | 200 ms | 5.1% | 400 |"
    )
    assert lines[2:] == [shown]
    first, second = list(threads_table.stream_rows({"rows": rows}))[2:]
    assert first.endswith("| `predict, one by one` | 3.00 (2.00 to 4.00) |  | 400 |")
    assert second.endswith("| `predict_batch` | 4.50 | 1.50 |  |")
