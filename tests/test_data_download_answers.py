"""What a server may answer, or not answer, and how long it is given."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge.errors import DatasetError, OutputError
from ctedge.progress import Reporter
from ctedge_training.mosmed import download as module
from ctedge_training.mosmed.download import PAUSES_S, download
from download_factory import BODY, Line, leave_part, names, serve_body
from loopback_site import Site, serve


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


def test_a_folder_that_cannot_be_made(site, tmp_path, line):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        line.fetch(site, tmp_path / "file" / "a.zip")
