"""Only https is asked, or this machine itself: addresses, redirects, proxies, certificates."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training.mosmed.download import download
from ctedge_training.mosmed.https import check_url
from download_factory import BODY, Line, leave_part, names, ranges, serve_body
from loopback_site import Site, serve
from patience import PATIENCE_S


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
