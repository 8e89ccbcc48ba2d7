"""Downloading from a real server that breaks, forgets, changes and lies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ctedge.errors import DatasetError, OutputError
from ctedge.progress import Reporter
from ctedge_training.mosmed import download as module
from ctedge_training.mosmed.download import PAUSES_S, download
from ctedge_training.mosmed.https import check_url
from ctedge_training.mosmed.part import Part, open_part
from loopback_site import Site, serve
from patience import PATIENCE_S

BODY = np.random.default_rng(3).bytes((5 << 20) + 12_345)
CHUNK = 1 << 16


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as site:
        site.files["/a.zip"] = BODY
        yield site


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.zip"


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


@pytest.fixture
def line() -> Line:
    return Line()


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def ranges(site: Site) -> list[tuple[str | None, int]]:
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


@pytest.mark.parametrize("size_bytes", [None, len(BODY)])
def test_a_file_arrives_whole_and_alone(site, target, line, size_bytes):
    line.fetch(site, target, size_bytes)
    assert target.read_bytes() == BODY
    assert names(target) == ["a.zip"]
    assert line.paused == line.said == []


def test_the_bar_moves_once_a_mib(site, target):
    bars: list[list[object]] = []

    class Counting(Reporter):
        @contextlib.contextmanager
        def bar(self, description, total):
            steps: list[None] = []
            yield lambda: steps.append(None)
            bars.append([description, total, len(steps)])

    site.cuts = [2 << 20]
    reporter = Counting(say=lambda _line: None, bars=False)
    download(f"{site.url}/a.zip", target, reporter=reporter, pause=lambda _seconds: None)
    assert bars == [["a.zip, MiB", 6, 2], ["a.zip, MiB", 6, 5]]


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


def test_a_connection_that_keeps_breaking_gives_up_and_keeps_the_part(site, target, line):
    site.cuts = [1000] * 5
    with pytest.raises(DatasetError, match="cannot be downloaded") as caught:
        line.fetch(site, target)
    assert line.paused == list(PAUSES_S)
    assert "5000 bytes arrived" in str(caught.value)
    assert names(target) == ["a.zip.part", "a.zip.part.json"]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert site.log[-1][1:] == ("bytes=5000-", 206)


def test_progress_gives_the_line_new_patience(site, target, line):
    site.cuts = [100, 100, 100, 100, 2 << 20, 100, 100]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert line.paused == [*PAUSES_S, *PAUSES_S[:3]]


def test_a_server_that_never_gets_further_is_left(site, target, line):
    site.ranges = False
    site.cuts = [3 << 20] * 50
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        line.fetch(site, target)
    assert len(site.log) < 10


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_asked_again(site, target, line, status):
    site.statuses = [status, status]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert str(status) in line.said[0]


@pytest.mark.parametrize("status", [204, 206, 401, 403, 404, 410])
def test_a_refusal_ends_it_and_leaves_nothing(site, target, line, status):
    site.statuses = [status]
    with pytest.raises(DatasetError, match="cannot be downloaded") as caught:
        line.fetch(site, target)
    assert str(status) in str(caught.value.found)
    assert line.paused == []
    assert names(target) == []


def test_a_refusal_does_not_cost_the_part(site, target, line):
    leave_part(site, target, 4000)
    site.statuses = [404]
    with pytest.raises(DatasetError):
        line.fetch(site, target)
    assert target.with_name("a.zip.part").read_bytes() == BODY[:4000]


def test_compressed_answers_are_refused(site, target, line):
    site.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        line.fetch(site, target)


def test_an_answer_of_unknown_length_needs_a_published_one(site, target, line):
    site.lengths = False
    with pytest.raises(DatasetError, match="cannot be downloaded") as caught:
        line.fetch(site, target)
    assert "Content-Length" in str(caught.value)
    line.fetch(site, target, size_bytes=len(BODY))
    assert target.read_bytes() == BODY


def test_more_bytes_than_published_are_not_written(site, target, line):
    site.lengths = False
    with pytest.raises(DatasetError, match="another file"):
        line.fetch(site, target, size_bytes=len(BODY) - 1)
    assert names(target) == []


def test_no_server_at_all(target, line):
    with serve() as site:
        pass
    with pytest.raises(DatasetError, match="cannot be downloaded") as caught:
        line.fetch(site, target)
    assert "no connection" in str(caught.value)
    assert line.paused == list(PAUSES_S)


def test_a_silent_server_is_not_waited_for(site, target, line, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.2)
    site.hold, site.cuts = threading.Event(), [100_000]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert "timed out" in line.said[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.zip",
        "ftp://127.0.0.1/a.zip",
        "file:///etc/passwd",
        "http://127.0.0.1.example.org/a.zip",
        "http://127.0.0.1@example.org/a.zip",
        "https:///a.zip",
        "https://example.org/a b.zip",
        "https://example.org/a\n.zip",
        "https://[::1/a.zip",
        "https://ex\u00e4mple.org/a.zip",
        "a.zip",
    ],
)
def test_only_https_is_asked(tmp_path, url):
    with pytest.raises(DatasetError, match="https"):
        download(url, tmp_path / "a.zip", reporter=Reporter.silent())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "url", ["https://example.org/a.zip", "http://localhost:8/a", "http://[::1]/a"]
)
def test_https_and_this_machine_are_allowed(url):
    check_url(url)


@pytest.mark.parametrize("to", ["http://example.org/a.zip", "ftp://127.0.0.1/a.zip", "file:///a"])
def test_a_redirect_away_from_https_is_refused(site, target, line, to):
    site.redirect = to
    with pytest.raises(DatasetError):
        line.fetch(site, target)
    assert len(site.log) == 1
    assert line.paused == []
    assert names(target) == []


def test_a_redirect_that_stays_safe_is_followed(site, target, line):
    with serve() as front:
        front.redirect = f"{site.url}/a.zip"
        front.files["/a.zip"] = b""
        leave_part(site, target, 50)
        note = target.with_name("a.zip.part.json")
        note.write_text(note.read_text().replace(site.url, front.url))
        line.fetch(front, target)
    assert target.read_bytes() == BODY
    assert ranges(site) == [("bytes=50-", 206)]


def test_a_redirect_in_circles_ends(site, target, line):
    site.redirect = f"{site.url}/a.zip"
    with pytest.raises(DatasetError, match="cannot be downloaded"):
        line.fetch(site, target)


def test_no_proxy_stands_before_this_machine(site, target, line, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    line.fetch(site, target)
    assert target.read_bytes() == BODY


def test_a_certificate_that_nobody_vouches_for_ends_it(tmp_path, target, line):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files]
    subprocess.run(made, check=True, capture_output=True, timeout=PATIENCE_S)
    with serve(certificate=certificate, key=key) as site:
        site.files["/a.zip"] = BODY
        with pytest.raises(DatasetError, match="cannot be downloaded") as caught:
            line.fetch(site, target)
    assert re.search("self.signed", str(caught.value.found))
    assert line.paused == site.log == []


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


def test_two_downloads_of_one_file_do_not_mix(site, target, line):
    leave_part(site, target, 4000)
    with open_part(target), pytest.raises(OutputError, match="another process"):
        line.fetch(site, target)
    line.fetch(site, target)
    assert target.read_bytes() == BODY


def test_a_folder_that_cannot_be_made(site, tmp_path, line):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        line.fetch(site, tmp_path / "file" / "a.zip")


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
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= 4 * CHUNK):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait(PATIENCE_S)
    site.hold.set()
    assert not target.exists()
    assert part.read_bytes() == BODY[: 4 * CHUNK]
    line.fetch(site, target)
    assert target.read_bytes() == BODY
    assert site.log[-1][1:] == (f"bytes={4 * CHUNK}-", 206)
    assert names(target) == ["a.zip"]
