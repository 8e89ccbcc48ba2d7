"""How many CPUs this process may use: its affinity, and what a container gives it of their time."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path

#: Where Linux says which control groups a process is in, and what each of them may use.
_MEMBERSHIPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Number of CPUs this process may use.

    Its affinity, not the machine's count; and where a container or a service has less time than
    that (`docker run --cpus`, CPUQuota of systemd), no more than it has time for, rounded up.
    """
    quota = cpu_quota()
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cpus if quota is None else max(min(cpus, math.ceil(quota)), 1)


@functools.cache
def cpu_quota() -> float | None:
    """CPUs' worth of time that this process and those beside it may use; None: no limit is told.

    Of control groups, versions 1 and 2; where one is inside another, the least. Looked up once.
    """
    return min(_quotas(), default=None)


def _quotas() -> Iterator[float]:
    for line in _text(_MEMBERSHIPS).splitlines():
        _, controllers, place = line.split(":", 2)
        if not controllers:
            for group in _and_around(_GROUPS, place):
                yield from _share(_text(group / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for group in _and_around(_GROUPS / "cpu", place):
                allowed, period = "cpu.cfs_quota_us", "cpu.cfs_period_us"
                yield from _share(f"{_text(group / allowed)} {_text(group / period)}")


def _and_around(root: Path, place: str) -> Iterator[Path]:
    """A group and those it is in; seen from inside a container, some are not there."""
    inner = Path(place.lstrip("/"))
    return (root / one for one in (inner, *inner.parents))


def _share(text: str) -> Iterator[float]:
    """Microseconds allowed, of how many; "max" or -1 is no limit."""
    words = text.split()
    if len(words) == 2 and all(map(str.isdecimal, words)) and int(words[1]):
        yield int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
