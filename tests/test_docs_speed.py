"""The tables of docs/speed.md say what is missing, not reached, or taken on a busy machine."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from conftest import REPOSITORY
from ctedge.runtimes.candidate import ORDER

PAGE = (REPOSITORY / "docs" / "speed.md").read_text()

TIMES = {"p50_ms": 20.0, "p95_ms": 25.0, "p99_ms": 26.0, "mean_ms": 21.0, "cv": 0.02, "n": 5}


def took(ms: float) -> dict[str, float]:
    return TIMES | {"p50_ms": ms}


def row(peer: str, scan: str, missing: str | None = None, **stages: float) -> dict[str, Any]:
    return {
        "peer": peer,
        "scan": scan,
        "missing": missing,
        "stages": {name: took(ms) for name, ms in stages.items()},
        "probability": 0.25,
        "difference": 0.0,
        "peak_mib": 300.0,
    }


PUBLISHED, BF16, INT8, TORCH = (
    "published: nibabel, scipy, Keras",
    "ctedge, openvino-cpu-bf16",
    "ctedge, openvino-cpu-int8",
    "MONAI and torch",
)
SCAN = "512 x 512 x 300"


@pytest.fixture
def document() -> dict[str, Any]:
    """Of a machine where every target is reached, and one peer is missing."""
    slow = {"input": 10000, "inference": 200, "total": 10200, "in memory": 8200}
    quick = {"input": 420, "inference": 50, "total": 470, "in memory": 70}
    swept = {
        "candidate": "auto",
        "ran": INT8.removeprefix("ctedge, "),
        "missing": None,
        "network": took(50),
        "network_per_scan_ms": 50.0,
        "peak_mib": None,
    }
    return {
        "quick": False,
        "started": "2026-01-01T00:00:00+00:00",
        "minutes": 14.0,
        "machine": {
            "cpu": "a processor",
            "flags": ["avx2"],
            "cores_usable": 2,
            "cores": 2,
            "governors": None,
            "mhz": None,
            "mhz_most": None,
            "boost": None,
            "cpu_quota": None,
            "load": 0.1,
            "gpu": None,
            "system": "Linux x86_64",
            "python": "3.11",
            "versions": {"ctedge": "0"},
        },
        "published": PUBLISHED,
        "peers": [
            {
                "peer": peer,
                "missing": "no torch" if peer is TORCH else None,
                "ran": None,
                "versions": {},
                "import_ms": 1.0,
                "load_ms": 1.0,
            }
            for peer in (PUBLISHED, TORCH, BF16, INT8)
        ],
        "scans": [{"scan": SCAN, "bytes": 1}],
        "warm": [
            row(PUBLISHED, SCAN, **slow),
            row(TORCH, SCAN, missing="no torch"),
            row(BF16, SCAN, **quick),
            row(INT8, SCAN, **quick),
        ],
        "network": [
            row(PUBLISHED, SCAN, network=200),
            row(TORCH, SCAN, missing="no torch"),
            row(BF16, SCAN, network=80),
            row(INT8, SCAN, network=50),
        ],
        "cold": [row(PUBLISHED, SCAN, cold=14000), row(INT8, SCAN, cold=900)],
        "budget": [
            {"scan": SCAN, "candidate": "auto", "ran": "x", "missing": None, "stages": {}},
            {"scan": SCAN, "candidate": "auto", "missing": "why", "stages": {}},
        ],
        "cold_start": {
            "scan": "512 x 512 x 41",
            "candidate": "onnxruntime-cpu-fp32",
            "parts": {"interpreter": took(20), "first answer": took(600)},
            "command": took(700),
        },
        "batches": [swept | {"batch": 1}, {"candidate": "auto", "batch": 2, "missing": "why"}],
        "threads": [swept | {"cpus": 1}],
    }


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import latency_tables

    return latency_tables


def test_a_target_that_is_not_reached_says_so(tables, document):
    def verdicts(changed: dict[str, Any]) -> list[str]:
        rows = list(tables.target_rows(tables.View(changed)))[2:]
        return [line.strip("| ").split(" | ")[-1] for line in rows]

    assert verdicts(document) == ["reached"] * 6
    worse = copy.deepcopy(document)
    worse["cold_start"]["parts"]["first answer"] = took(810)
    worse["network"] = [one for one in worse["network"] if one["peer"] != BF16]
    worse["warm"][0]["stages"]["in memory"] = took(79 * 70)
    expected = ["reached"] * 6
    expected[2], expected[3], expected[5] = "**not reached**", "**not measured**", "**not reached**"
    assert verdicts(worse) == expected


def test_medians_and_least_times_that_disagree_are_unsteady(tables, document):
    """One slow run of the published pipeline must not carry a promise."""
    steady = copy.deepcopy(document)
    for row in steady["cold"]:
        row["stages"]["cold"]["least_ms"] = row["stages"]["cold"]["p50_ms"]
    assert "unsteady" not in "".join(tables.target_rows(tables.View(steady)))
    published = next(row for row in steady["cold"] if row["peer"] == steady["published"])
    published["stages"]["cold"]["least_ms"] /= 10
    (line,) = (one for one in tables.target_rows(tables.View(steady)) if "cold" in one)
    assert line.endswith("| **unsteady** |")


def test_tables_are_whole_and_a_missing_peer_stands_in_them(tables, document):
    page = tables.page(PAGE, document)
    assert f"| {TORCH} | missing: no torch |" in page
    took_part = [line.split("|")[1].strip() for line in tables.peer_rows(tables.View(document))]
    assert took_part[2:] == [PUBLISHED, TORCH, BF16, INT8]
    assert f"| {TORCH} | | | missing: no torch |" in page
    assert "(117x)" in page  # 8.2 s in memory against 70 ms
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        widths = {len(re.findall(r"\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_what_auto_tries_first_on_a_cpu_was_measured_to_be_the_fastest(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import result_file

    measured = {
        row["peer"].removeprefix("ctedge, "): row["stages"]["network"]["p50_ms"]
        for row in result_file.read("latency")["network"]
    }
    tried = [candidate.name for candidate in ORDER if candidate.device == "cpu"]
    assert sorted(tried, key=measured.__getitem__) == tried


def test_what_speaks_against_the_figures_stands_first(tables, document):
    document |= {"quick": True, "machine": document["machine"] | {"load": 3.0}}
    page = tables.page(PAGE, document)
    assert page.index("**busy") < page.index("## Promised")
    assert page.index("these figures say nothing") < page.index("## Promised")
