"""A file to be downloaded from a server of this machine, and what its user would see of it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ctedge.progress import Reporter
from ctedge_training.mosmed.download import download
from loopback_site import Site, serve

BODY = np.random.default_rng(3).bytes((5 << 20) + 12_345)


@contextlib.contextmanager
def serve_body() -> Iterator[Site]:
    with serve() as site:
        site.files["/a.zip"] = BODY
        yield site


class Line:
    """What a user would see, and how long they would have waited."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.paused: list[float] = []

    def fetch(self, site: Site, target: Path, size_bytes: int | None = None) -> None:
        download(
            f"{site.url}/a.zip",
            target,
            size_bytes=size_bytes,
            reporter=Reporter(say=self.said.append, bars=False),
            pause=self.paused.append,
        )


def names(target: Path) -> list[str]:
    """All that lies beside the target, itself included."""
    return sorted(path.name for path in target.parent.iterdir())


def ranges(site: Site) -> list[tuple[str | None, int]]:
    """The Range header and the status of every answer."""
    return [(asked, status) for _, asked, status in site.log]


def leave_part(site: Site, target: Path, arrived: int) -> None:
    """What a killed download leaves behind."""
    target.parent.mkdir(exist_ok=True)
    part = target.with_name("a.zip.part")
    part.write_bytes(BODY[:arrived])
    note = {
        "schema_version": 1,
        "url": f"{site.url}/a.zip",
        "validator": site.tag("/a.zip"),
        "total_bytes": len(BODY),
    }
    part.with_name("a.zip.part.json").write_text(json.dumps(note))
