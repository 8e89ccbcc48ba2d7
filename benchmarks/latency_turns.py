"""Peers timed in turns, so that what drifts, drifts for all: warm, the network alone, and cold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latency_peers import REFERENCE, Peer, PeerLost, Place, Worker, run_cold
from times import summary

#: A turn of a quick peer: answers until this much time is used up, and no more than so many.
TURN_MS, TURN_MOST = 1000.0, 5


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One input.

    Attributes:
        name: neutral; paths may name a patient.
        path: a .nii.gz; of ctedge alone also a folder of DICOM slices.
        turns: of each peer; one alone is a trial, and counts its first answer.
        cold: whole processes of each peer; one alone is a trial, too.
    """

    name: str
    path: Path
    turns: int
    cold: int


@dataclass
class Row:
    """What one peer took for one scan, by stage in ms, and what it answered."""

    peer: str
    scan: str
    ms: dict[str, list[float]] = field(default_factory=dict)
    probability: float | None = None
    peak_mib: float | None = None
    missing: str | None = None

    def add(self, ms: dict[str, float]) -> None:
        for stage, value in ms.items():
            self.ms.setdefault(stage, []).append(value)

    def to_json(self, reference: dict[str, float]) -> dict[str, Any]:
        difference = None
        if self.probability is not None and self.scan in reference:
            difference = abs(self.probability - reference[self.scan])
        return {
            "peer": self.peer,
            "scan": self.scan,
            "missing": self.missing,
            "stages": {stage: summary(values) for stage, values in self.ms.items()},
            "probability": self.probability,
            "difference": difference,
            "peak_mib": None if self.peak_mib is None else round(self.peak_mib, 1),
        }


def in_turns(count: int, turns: int) -> Iterator[int]:
    """Places 0 to count - 1, once a turn, every other turn the other way about."""
    for turn in range(turns):
        yield from range(count)[:: -1 if turn % 2 else 1]


def warm(
    workers: Sequence[Worker], scans: Sequence[Scan], *, network_runs: int
) -> tuple[list[Row], list[Row]]:
    """Answers of processes that stay.

    Args:
        workers: the peers, loaded.
        scans: what they are shown.
        network_runs: of the network alone in each turn, on the first scan as the peer prepares it.

    Returns:
        Rows of all scans from the file, and rows of the network alone.
    """
    from_file: list[Row] = []
    alone = [_row(worker, scans[0]) for worker in workers]
    for scan in scans:
        rows = [_row(worker, scan) for worker in workers]
        # Graphs are traced and memory is fetched once: what is warm stays so.
        if scan is scans[0] and scan.turns > 1:
            for worker, row in zip(workers, rows, strict=True):
                _turn(worker, scan, row, most=1)
                row.ms.clear()
        for place in in_turns(len(workers), scan.turns):
            _turn(workers[place], scan, rows[place])
        if scan is scans[0]:
            for place in in_turns(len(workers), scan.turns):
                _network(workers[place], alone[place], network_runs)
        from_file += rows
    return from_file, alone


def cold(peers: Sequence[Peer], place: Place, scans: Sequence[Scan]) -> list[Row]:
    """Whole processes, from start to end; of several the first only loads the peer's files."""
    found: list[Row] = []
    started = [scan for scan in scans if scan.cold]
    for scan in started:
        rows = [Row(peer=peer.name, scan=scan.name) for peer in peers]
        first = range(len(peers)) if scan.cold > 1 and scan is started[0] else ()
        for which in (*first, *in_turns(len(peers), scan.cold)):
            row = rows[which]
            if row.missing is not None:
                continue
            try:
                ms, peak, row.probability = run_cold(peers[which], place, scan.path)
            except PeerLost as error:
                row.missing = str(error)
                continue
            row.add({"cold": ms})
            row.peak_mib = max(peak, row.peak_mib or 0.0)
        for row in rows if first else ():
            row.ms = {stage: values[1:] for stage, values in row.ms.items()}
        found += rows
    return found


def reference(rows: Sequence[Row]) -> dict[str, float]:
    """The answer that the others are held against, by scan."""
    return {
        row.scan: row.probability
        for row in rows
        if row.peer == REFERENCE and row.probability is not None
    }


def _row(worker: Worker, scan: Scan) -> Row:
    return Row(peer=worker.peer.name, scan=scan.name, missing=worker.missing)


def _turn(worker: Worker, scan: Scan, row: Row, most: int = TURN_MOST) -> None:
    """One answer; of a quick peer several."""
    used = 0.0
    for done in range(most):
        if row.missing is not None or (done and used >= TURN_MS):
            return
        try:
            answer = worker.ask("answer", scan=str(scan.path))
        except PeerLost as error:
            row.missing = str(error)
            return
        row.probability = answer["probability"]
        row.add(answer["ms"])
        used += answer["ms"]["total"]


def _network(worker: Worker, row: Row, runs: int) -> None:
    if worker.missing is not None:
        row.missing = worker.missing
        return
    try:
        answer = worker.ask("network", times=runs, batch=1)
    except PeerLost as error:
        row.missing = str(error)
        return
    for ms in answer["ms"]:
        row.add({"network": ms})
