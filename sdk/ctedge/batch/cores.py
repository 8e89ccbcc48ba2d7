"""Which cores a worker runs on: its own, beside other workers of the same machine.

Ray counts cores and binds nobody to them, and the runtimes take as many threads as the process may
use cores: unbound, two workers on two cores would run two threads each.
"""

from __future__ import annotations

import os
import socket


def claim_cores(count: int) -> int:
    """Bind this thread, and those that it starts later, to `count` cores that no worker has.

    Where fewer are free, others make up the number: they are shared then, but no more threads run
    than were asked for.

    Args:
        count: cores, and so threads of the runtime.

    Returns:
        How many cores it is: fewer than asked for where this process may use fewer, and all of
        them where the system binds no process (macOS).
    """
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0))
    own: list[int] = []
    for core in allowed:
        if len(own) == count:
            break
        if _take(core):
            own.append(core)
    own += [core for core in allowed if core not in own][: count - len(own)]
    os.sched_setaffinity(0, own)
    return len(own)


def _take(core: int) -> bool:
    """Whether no other worker on this machine has the core; it is this process's then.

    The name is one of Linux's abstract sockets: one process binds it at a time, no file stays.
    It is held for as long as this process lives; the kernel frees it, however it ends.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0ctedge-batch-core-{core}")
    except OSError:
        claim.close()
        return False
    claim.detach()  # a socket that nobody closes would warn of it when the process ends
    return True
