"""A real web server on this machine that can be told to misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from patience import PATIENCE_S


@dataclass
class Site:
    """What is served, how, and what was asked for.

    Attributes:
        files: by path, as in "/CT-0.zip".
        ranges: answer Range and If-Range.
        tags: send an ETag.
        lengths: send Content-Length.
        cuts: the connection of the next answers breaks after so many bytes of the body.
        statuses: the next answers are these, without the file.
        headers: sent with every file, in place of the usual ones.
        redirect: where every request is sent on to.
        hold: answers stop after the cut, without ending, until this is set.
        log: path, Range header and status of every answer.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    tags: bool = True
    lengths: bool = True
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    redirect: str | None = None
    hold: threading.Event | None = None
    log: list[tuple[str, str | None, int]] = field(default_factory=list)

    def tag(self, path: str) -> str:
        return f'"{hashlib.sha256(self.files[path]).hexdigest()[:16]}"'


class _Handler(http.server.BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, data = self.site, self.site.files.get(self.path)
        if site.redirect is not None:
            return self._say(302, {"Location": site.redirect, "Content-Length": "0"})
        if site.statuses:
            return self._say(site.statuses.pop(0), {"Content-Length": "0"})
        if data is None:
            return self._say(404, {"Content-Length": "0"})
        start, whole = self._start(len(data)), len(data)
        if start is not None and start >= whole:
            return self._say(416, {"Content-Length": "0"})
        body = data[start or 0 :]
        headers = {"Content-Length": str(len(body))} if site.lengths else {}
        if site.tags:
            headers["ETag"] = site.tag(self.path)
        if start is not None:
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        self._say(200 if start is None else 206, headers | site.headers)
        cut = site.cuts.pop(0) if site.cuts else len(body)
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if site.hold is not None and cut < len(body):
            site.hold.wait(PATIENCE_S)
        return None

    def _start(self, size: int) -> int | None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in {None, self.site.tag(self.path)}
        return int(asked[1]) if asked and same and self.site.ranges and size else None

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.site.log.append((self.path, self.headers.get("Range"), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_args: object) -> None:
        """A client that hangs up is what some tests are about."""


@contextlib.contextmanager
def serve(*, certificate: Path | None = None, key: Path | None = None) -> Iterator[Site]:
    """A site on a free port: http, or https with this certificate."""
    site = Site()
    handler = type("Handler", (_Handler,), {"site": site})
    with _Server(("127.0.0.1", 0), handler) as server:
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        site.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            if site.hold is not None:
                site.hold.set()
            server.shutdown()
            thread.join()
