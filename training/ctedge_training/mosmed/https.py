"""Which addresses may be downloaded from, and how: https only, also after every redirect."""

from __future__ import annotations

import urllib.request
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import urlsplit

from ctedge.errors import DatasetError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_url(url: str, *, loopback: bool = True) -> None:
    """Refuse what another could change on the way; nothing leaves this machine over loopback.

    Raises:
        DatasetError: no https, or no usable address.
    """
    try:
        parts = urlsplit(url)
        usable = parts.hostname is not None and parts.port != 0 and url.isascii()
    except ValueError:
        usable = False
    safe = usable and (parts.scheme == "https" or (loopback and _is_loopback(url)))
    if not safe or " " in url or not url.isprintable():
        raise DatasetError(
            "only https addresses are downloaded from",
            found=ascii(url)[1:-1][:200],
            expected="https://...",
            fix="name the https address of the server; a redirect away from https is refused too",
        )


def opener(url: str) -> urllib.request.OpenerDirector:
    """What opens this address: proxies of the environment, certificates checked.

    A redirect to what `check_url` refuses raises DatasetError. Plain http, and no proxy, is for
    servers on this machine.
    """
    handlers: list[Any] = [_Redirects(url)]
    if _is_loopback(url):
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects within what `check_url` allows."""

    def __init__(self, url: str) -> None:
        self._loopback = _is_loopback(url)

    def redirect_request(  # noqa: PLR0913, PLR0917 - urllib's signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            check_url(newurl, loopback=self._loopback)
        except DatasetError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in {"http", "https"} and parts.hostname in _LOOPBACK
