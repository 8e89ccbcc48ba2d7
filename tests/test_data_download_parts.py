"""A download that was broken off goes on from its part, or starts anew; nothing is mixed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge.errors import DatasetError, OutputError
from ctedge_training.mosmed import download as module
from ctedge_training.mosmed.download import PAUSES_S
from ctedge_training.mosmed.part import Part, open_part
from download_factory import BODY, Line, leave_part, names, ranges, serve_body
from loopback_site import Site
from patience import PATIENCE_S, wait_for

CHUNK = 1 << 16


@pytest.fixture
def site() -> Iterator[Site]:
    with serve_body() as site:
        yield site


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.zip"


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_broken_connection_goes_on_where_it_broke(site, target, line):
    site.cuts = [100_000, 200_000]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [(None, 200), ("bytes=100000-", 206), ("bytes=300000-", 206)]
    assert line.paused == list(PAUSES_S[:2])
    assert "ended after 100000 of" in line.said[0]
    assert names(target) == ["a.zip"]


def test_a_part_of_an_earlier_run_is_gone_on_with(site, target, line):
    leave_part(site, target, 777)
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [("bytes=777-", 206)]
    assert names(target) == ["a.zip"]


def test_a_part_that_is_whole_asks_nobody(site, target, line):
    leave_part(site, target, len(BODY))
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert site.log == []


def test_a_server_without_ranges_starts_anew(site, target, line):
    site.ranges = False
    site.cuts = [100_000]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [(None, 200), ("bytes=100000-", 200)]
    assert "starting anew" in line.said[-1]


def test_without_a_tag_nothing_is_stitched(site, target, line):
    site.tags = False
    site.cuts = [100_000]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [(None, 200), (None, 200)]


@pytest.mark.parametrize("tag", ['W/"weak"', "no quotes", '"\xe9"', ""])
def test_a_tag_that_is_not_strong_is_none(site, target, line, tag):
    site.headers = {"ETag": tag}
    site.cuts = [100_000]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [(None, 200), (None, 200)]


def test_a_file_that_changed_on_the_server_starts_anew(site, target, line):
    leave_part(site, target, 4000)
    site.files["/a.zip"] = BODY[::-1]
    line.fetch(site, target)
    assert target.read_bytes() == BODY[::-1]
    assert ranges(site) == [("bytes=4000-", 200)]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": "bytes 0-9/10"},
        {"Content-Range": f"bytes 4000-{len(BODY) - 1}/*"},
        {"Content-Range": "nonsense"},
        {"ETag": '"another"'},
    ],
    ids=str,
)
def test_another_range_than_asked_for_is_not_appended(site, target, line, headers):
    leave_part(site, target, 4000)
    site.headers = headers
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [("bytes=4000-", 206), (None, 200)]
    assert line.paused == [PAUSES_S[0]]


def test_a_part_that_the_server_calls_too_long_starts_anew(site, target, line):
    leave_part(site, target, 4000)
    site.statuses = [416]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [("bytes=4000-", 416), (None, 200)]


@pytest.mark.parametrize(
    "note",
    [
        "no json",
        "[]",
        "{}",
        '{"schema_version": 2}',
        '{"schema_version": 1, "url": 3, "validator": 3, "total_bytes": "x"}',
        "URL",
        "LENGTH",
        "HEADER",
    ],
)
def test_a_part_of_unknown_origin_is_not_used(site, target, line, note):
    leave_part(site, target, 4000)
    path = target.with_name("a.zip.part.json")
    good = json.loads(path.read_text())
    changed = {
        "URL": good | {"url": "https://elsewhere/a.zip"},
        "LENGTH": good | {"total_bytes": 3999},
        "HEADER": good | {"validator": '"x\r\nHost: elsewhere"'},
    }
    path.write_text(json.dumps(changed[note]) if note in changed else note)
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [(None, 200)]


def test_a_part_of_another_length_than_published_is_not_used(site, target, line):
    leave_part(site, target, 4000)
    with pytest.raises(DatasetError, match="another file") as caught:
        line.fetch(site, target, size_bytes=len(BODY) + 1)
    assert caught.value.found == f"{len(BODY)} bytes"
    assert caught.value.expected == f"{len(BODY) + 1} bytes"
    assert ranges(site) == [(None, 200)]
    assert not target.exists()


def test_two_downloads_of_one_file_do_not_mix(site, target, line):
    leave_part(site, target, 4000)
    with open_part(target), pytest.raises(OutputError, match="another process"):
        line.fetch(site, target)
    line.fetch(site, target)
    assert target.read_bytes() == BODY


def test_a_broken_pipe_is_no_disk_that_is_full(target):
    """Whoever read the progress has ended."""
    with pytest.raises(BrokenPipeError), open_part(target):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def test_a_full_disk_keeps_the_part(site, target, line, monkeypatch):
    class Full:
        """A stream whose disk holds three chunks."""

        def __init__(self, stream):
            self.stream, self.left = stream, 3

        def write(self, data):
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.stream.write(data)

        def __getattr__(self, name):
            return getattr(self.stream, name)

    @contextlib.contextmanager
    def on_a_full_disk(path):
        with open_part(path) as part:
            yield Part(path=part.path, stream=Full(part.stream))

    with monkeypatch.context() as patched:
        patched.setattr(module, "open_part", on_a_full_disk)
        with pytest.raises(OutputError, match="No space left"):
            line.fetch(site, target)
    assert target.with_name("a.zip.part").read_bytes() == BODY[: 3 * CHUNK]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert site.log[-1][1:] == (f"bytes={3 * CHUNK}-", 206)


def test_a_killed_download_goes_on(site, target, line):
    site.hold, site.cuts = threading.Event(), [4 * CHUNK + 10]
    script = (
        "import sys; from pathlib import Path\n"
        "from ctedge_training.mosmed.download import download\n"
        "from ctedge.progress import Reporter\n"
        "download(sys.argv[1], Path(sys.argv[2]), reporter=Reporter.silent())"
    )
    process = subprocess.Popen([sys.executable, "-c", script, f"{site.url}/a.zip", str(target)])
    part = target.with_name("a.zip.part")
    wait_for(lambda: part.exists() and part.stat().st_size >= 4 * CHUNK)
    process.kill()
    process.wait(PATIENCE_S)
    site.hold.set()
    assert not target.exists()
    assert part.read_bytes() == BODY[: 4 * CHUNK]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert site.log[-1][1:] == (f"bytes={4 * CHUNK}-", 206)
    assert names(target) == ["a.zip"]
