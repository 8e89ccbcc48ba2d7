"""The turns of `benchmarks/latency.py`: which samples count. No peer is run here."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import REPOSITORY


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    import latency_turns

    return latency_turns


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch, turns: Any) -> list[Any]:
    """Two, whose processes take 1 ms, 2 ms, 3 ms, ... each."""
    from latency_peers import Peer

    started: Counter[str] = Counter()

    def run_cold(peer: Any, place: Any, path: Path) -> tuple[float, float, float]:
        del place, path
        started[peer.name] += 1
        return float(started[peer.name]), 1.0, 0.5

    monkeypatch.setattr(turns, "run_cold", run_cold)
    return [Peer(name=name, script="none", model="none") for name in ("one", "other")]


def scan(turns: Any, name: str, cold: int) -> Any:
    return turns.Scan(name=name, path=Path(name), turns=1, cold=cold)


def test_the_first_process_of_a_peer_only_loads_its_files(turns, peers):
    scans = [scan(turns, "warm only", 0), scan(turns, "first", 3), scan(turns, "second", 2)]
    rows = turns.cold(peers, None, scans)
    assert [(row.scan, row.peer) for row in rows] == [
        ("first", "one"),
        ("first", "other"),
        ("second", "one"),
        ("second", "other"),
    ]
    assert [row.ms["cold"] for row in rows] == [[2, 3, 4], [2, 3, 4], [5, 6], [5, 6]]


def test_a_trial_counts_its_only_process(turns, peers):
    assert [row.ms["cold"] for row in turns.cold(peers, None, [scan(turns, "tiny", 1)])] == [
        [1],
        [1],
    ]


def test_every_other_turn_goes_the_other_way_about(turns):
    assert list(turns.in_turns(3, 3)) == [0, 1, 2, 2, 1, 0, 0, 1, 2]
