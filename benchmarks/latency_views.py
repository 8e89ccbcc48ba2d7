"""Rows of `results/latency.json`, found by peer and scan, and the ratios between them."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


class View:
    """A result as the tables look at it."""

    def __init__(self, document: Row) -> None:
        self.document = document
        self.published: str = document["published"]
        self.peers: list[str] = [fact["peer"] for fact in document["peers"]]
        self.scans: list[str] = [scan["scan"] for scan in document["scans"]]

    def warm(self, peer: str, scan: str) -> Row | None:
        return self._found("warm", peer, scan)

    def cold(self, peer: str, scan: str) -> Row | None:
        return self._found("cold", peer, scan)

    def network(self, peer: str) -> Row | None:
        return self._found("network", peer)

    def ratio(
        self, published: Row | None, row: Row | None, stage: str, *, by: str = "p50_ms"
    ) -> float | None:
        """How many times faster a row's median (or `by`: its least time) is than the published."""
        if published is None or row is None:
            return None
        slow, quick = (one["stages"].get(stage) for one in (published, row))
        return slow[by] / quick[by] if slow and quick and by in slow else None

    def network_ratio(self, peer: str) -> float | None:
        return self.ratio(self.network(self.published), self.network(peer), "network")

    def _found(self, kind: str, peer: str, scan: str | None = None) -> Row | None:
        rows: list[Row] = self.document[kind]
        fitting = (r for r in rows if r["peer"] == peer and scan in (None, r["scan"]))
        return next(fitting, None)
