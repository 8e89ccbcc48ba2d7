"""`benchmarks/compare.py` says nothing of a report that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import REPOSITORY


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import compare

    return compare


def report(**stages: list[Any]) -> dict[str, Any]:
    """A report of one run with these stages."""
    run = {name: {"samples_ns": samples} for name, samples in stages.items()}
    runs = [{"candidate": "played-cpu-fp32", "stages": run}]
    return {"schema_version": 1, "bundle": {"digest": "0"}, "runs": runs}


def test_a_whole_one_is_read(compare, tmp_path):
    whole = report(inference=[1, 2], total=[3, 4], launch=[0, 0])
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(whole))
    assert compare.read_report(path, "here") == whole


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (None, "none was written"),
        (b"", "no JSON"),
        (b"\xff\xfe{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        ({}, "schema None, not 1"),
        ([], "a list, and no object"),
        (report() | {"schema_version": 2}, "schema 2, not 1"),
        (report() | {"bundle": {}}, "digest"),
        (report() | {"runs": {}}, "no list of runs"),
        (report() | {"runs": ["one"]}, "without its candidate"),
        (report(), "lacks the stage inference and total"),
        (report(inference=[1]), "lacks the stage total"),
        (report(inference=[1], total=[]), "no samples of total"),
        (report(inference=[1], total=[2], read=[]), "no samples of read"),
        (report(inference=[1], total=[0]), "total, that is no time"),
        (report(inference=[1], total=[float("nan")]), "total, that is no time"),
        (report(inference=[float("inf")], total=[2]), "inference, that is no time"),
        (report(inference=[1], total=["2"]), "no time"),
        (report(inference=[1], total=[True]), "no time"),
        (report(inference=[1], total=[10**400]), "no time"),
        (report(inference=[1], total=[2], read=[-1]), "read, that is no time"),
        (report(inference=[1], total=[2]) | {"runs": report(total=[2])["runs"] * 2}, "lacks"),
        (report() | {"runs": report(inference=[1], total=[2])["runs"] * 2}, "twice"),
    ],
)
def test_what_is_none_is_refused(compare, tmp_path, written, said):
    path = tmp_path / "bench.json"
    if written is not None:
        path.write_bytes(written if isinstance(written, bytes) else json.dumps(written).encode())
    with pytest.raises(compare.NotComparable, match="the report of `ctedge bench` in here: ") as (
        met
    ):
        compare.read_report(path, "here")
    assert said in str(met.value)
