"""Ray's processes speak to each other on this machine, and to nobody outside of it.

Its dashboard process, which runs with its statistics and its dashboard switched off, too, asks
Azure's, Google's and Amazon's addresses for virtual machines whether this is one of theirs: at
169.254.169.254, and of the network's name server for metadata.google.internal.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from ctedge.errors import RuntimeUnavailable

#: The port "discard" of this machine, which nobody serves, and which only root may: a proxy that
#: refuses at once, and that is asked instead of a name server.
_NOBODY = "http://127.0.0.1:9"

#: Source: the documentation of `urllib.request.getproxies`; the lower-case names go first.
_PROXIES = {
    "http_proxy": _NOBODY,
    "https_proxy": _NOBODY,
    "all_proxy": _NOBODY,
    "no_proxy": "localhost,127.0.0.1,::1",
}

#: What is on this very machine answers at once.
_TIMEOUT_S = 5.0


@contextlib.contextmanager
def nobody_outside_asked() -> Iterator[None]:
    """Give the processes that start meanwhile a proxy that refuses, this machine excepted."""
    before = {name: os.environ.get(name) for name in _PROXIES}
    os.environ.update(_PROXIES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def require_loopback() -> None:
    """Refuse a machine whose processes cannot reach each other: Ray would wait for ever.

    Raises:
        RuntimeUnavailable: nothing can be reached at 127.0.0.1.
    """
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as here,
            socket.create_connection(here.getsockname(), timeout=_TIMEOUT_S),
        ):
            return
    except OSError as error:
        raise RuntimeUnavailable(
            "processes on this machine cannot reach each other",
            found=f"127.0.0.1: {error.strerror or error}",
            expected="a loopback interface that is up",
            fix="bring it up (`ip link set lo up`), and let the firewall pass what stays on it",
        ) from error
