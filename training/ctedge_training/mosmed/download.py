"""Downloading one large file over a line that may break: it goes on where it stopped.

The method is that of RFC 9110: Range and If-Range (13.1.5, 14.2), Content-Range (14.4).
"""

from __future__ import annotations

import contextlib
import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

from ctedge import __version__
from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training.mosmed.https import check_url, opener
from ctedge_training.mosmed.part import Part, Version, open_part

#: Waits between attempts. An attempt that brought the file further starts them anew.
PAUSES_S = (1.0, 3.0, 10.0, 30.0)

_TIMEOUT_S = 30.0
_CHUNK_BYTES = 1 << 16
_MIB = 1 << 20
_TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", re.ASCII)


def download(
    url: str,
    target: Path,
    *,
    size_bytes: int | None = None,
    reporter: Reporter,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Download a file, going on with `TARGET.part` where that is there.

    Args:
        url: https; http for this machine only.
        target: what to write. It appears when it is whole, and replaces what stood there.
        size_bytes: what the file must be long; None takes what the server says.
        reporter: shows a bar in MiB, and a line for every break.
        pause: waits so many seconds.

    Raises:
        DatasetError: no https, the server refuses or has another file, or the line kept breaking
            (the part stays, and the next call goes on with it).
        OutputError: the part cannot be written, or another process writes it.
    """
    check_url(url)
    with open_part(target) as part:
        transfer = _Transfer(
            url=url, name=target.name, part=part, size_bytes=size_bytes, reporter=reporter
        )
        _until_whole(transfer, pause)
        part.finish(target)


class _Broken(Exception):
    """An attempt failed in a way that another one may mend."""


@dataclass(frozen=True, kw_only=True)
class _Transfer:
    """One file on its way."""

    url: str
    name: str
    part: Part
    size_bytes: int | None
    reporter: Reporter


def _until_whole(transfer: _Transfer, pause: Callable[[float], object]) -> None:
    furthest, failures = transfer.part.arrived_bytes(), 0
    while True:
        try:
            return _attempt(transfer)
        except _Broken as broken:
            arrived = transfer.part.arrived_bytes()
            if arrived >= furthest + _MIB:
                furthest, failures = arrived, 0
            if failures == len(PAUSES_S):
                raise DatasetError(
                    f"{transfer.name} cannot be downloaded",
                    found=f"{broken}; {arrived} bytes arrived",
                    expected=f"the whole file from {urlsplit(transfer.url).hostname}",
                    fix="check the connection and run the same command again: it goes on from "
                    f"there; or bring {transfer.name} here by other means",
                ) from broken
            wait = PAUSES_S[failures]
            transfer.reporter.say(f"{transfer.name}: {broken}; trying again in {wait:g} s")
            pause(wait)
            failures += 1


def _attempt(transfer: _Transfer) -> None:
    part = transfer.part
    version, offset = part.version(transfer.url), part.arrived_bytes()
    if version is not None and transfer.size_bytes not in {None, version.total_bytes}:
        version = None
    if version is not None and offset == version.total_bytes:
        return
    with _opened(transfer, version, offset) as response:
        if response.status == 206 and version is not None:
            _check_range(transfer, response.headers, version, offset)
            total = version.total_bytes
        else:
            if offset:
                transfer.reporter.say(f"{transfer.name}: cannot go on with the part; starting anew")
            offset, total = 0, _total(transfer, response.headers)
            tag = _strong_tag(response.headers)
            part.restart(
                Version(url=transfer.url, validator=tag, total_bytes=total) if tag else None
            )
        _receive(transfer, response, offset, total)


def _receive(
    transfer: _Transfer, response: http.client.HTTPResponse, offset: int, total: int
) -> None:
    stream = transfer.part.stream
    stream.seek(offset)
    with transfer.reporter.bar(f"{transfer.name}, MiB", -(-total // _MIB)) as advance:
        for _ in range(offset // _MIB):
            advance()
        while chunk := _read(response):
            if offset + len(chunk) > total:
                transfer.part.restart(None)
                raise _other_file(transfer, f"more than {total} bytes", total)
            stream.write(chunk)
            for _ in range((offset + len(chunk)) // _MIB - offset // _MIB):
                advance()
            offset += len(chunk)
    if offset != total:
        raise _Broken(f"the connection ended after {offset} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(f"the connection broke ({_reason(error)})") from error


@contextlib.contextmanager
def _opened(
    transfer: _Transfer, version: Version | None, offset: int
) -> Iterator[http.client.HTTPResponse]:
    headers = {"User-Agent": f"ctedge/{__version__}", "Accept-Encoding": "identity"}
    if version is not None:
        headers |= {"Range": f"bytes={offset}-", "If-Range": version.validator}
    request = urllib.request.Request(transfer.url, headers=headers)  # noqa: S310 - checked
    try:
        response = opener(transfer.url).open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and version is not None:
            transfer.part.restart(None)
            raise _Broken("the server has nothing beyond this part") from error
        if error.code in _TRY_AGAIN:
            raise _Broken(f"the server answered {error.code}") from error
        raise _refused(transfer, f"the server answered {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _refused(transfer, reason.verify_message) from error
        raise _Broken(f"no connection ({_reason(error)})") from error
    with response:
        encoding = response.headers.get("Content-Encoding", "identity")
        if response.status not in {200, 206 if version else 200} or encoding != "identity":
            raise _refused(transfer, f"status {response.status}, content encoding {encoding!a}")
        yield response


def _check_range(transfer: _Transfer, headers: Message, version: Version, offset: int) -> None:
    """The rest must begin where the part ends, and be of the same file."""
    sent = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    expected = (offset, version.total_bytes - 1, version.total_bytes)
    same = headers.get("ETag", version.validator) == version.validator
    if sent is None or tuple(map(int, sent.groups())) != expected or not same:
        transfer.part.restart(None)
        raise _Broken("the server sent another part than it was asked for")


def _total(transfer: _Transfer, headers: Message) -> int:
    text = headers.get("Content-Length", "")
    said = int(text) if text.isascii() and text.isdecimal() else transfer.size_bytes
    if said is None:
        raise _refused(transfer, "an answer without Content-Length")
    if transfer.size_bytes is not None and said != transfer.size_bytes:
        raise _other_file(transfer, f"{said} bytes", transfer.size_bytes)
    return said


def _strong_tag(headers: Message) -> str | None:
    """A strong ETag; nothing weaker says that two parts are of the same bytes."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') and tag.isascii() and tag.isprintable() else None


def _other_file(transfer: _Transfer, found: str, expected_bytes: int) -> DatasetError:
    return DatasetError(
        f"{transfer.url} is another file than expected",
        found=found,
        expected=f"{expected_bytes} bytes",
        fix="check that nothing (a proxy, a login page) answers in place of the server; or the "
        "file was published anew",
    )


def _refused(transfer: _Transfer, found: str) -> DatasetError:
    return DatasetError(
        f"{transfer.url} cannot be downloaded",
        found=found,
        expected="the file",
        fix="open the address in a browser to see whether it is still there; a file brought here "
        "by other means is taken too",
    )


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
