"""How many CPUs are taken: by affinity, and by what a container may use of their time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctedge import cpus
from patience import PATIENCE_S

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no affinity to look at here"
)

ASK = "from ctedge.cpus import usable_cpus; print(usable_cpus())"

#: A group of this name is made where the system lets us, and removed.
GROUP = Path("/sys/fs/cgroup/cpu") / f"ctedge-test-{os.getpid()}"


@pytest.fixture(autouse=True)
def _looked_up_anew() -> Iterator[None]:
    cpus.cpu_quota.cache_clear()
    yield
    cpus.cpu_quota.cache_clear()


def stage(
    monkeypatch: pytest.MonkeyPatch, folder: Path, member: str, files: dict[str, str]
) -> None:
    """Control groups as Linux shows them, and eight CPUs."""
    (folder / "cgroup").write_text(member)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(cpus, "_MEMBERSHIPS", folder / "cgroup")
    monkeypatch.setattr(cpus, "_GROUPS", folder / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


V1 = "12:cpuset:/\n4:cpu,cpuacct:/docker/a1\n1:name=systemd:/user.slice\n0::/\n"


@pytest.mark.parametrize(
    ("member", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "100000 100000\n"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ("0::/\n", {"cpu.max": "100000 0\n"}, 8),
        ("0::/\n", {"cpu.max": ""}, 8),
        ("", {}, 8),
        ("0::/gone/since\n", {}, 8),
    ],
)
def test_a_quota_of_time_is_kept(monkeypatch, tmp_path, member, files, expected):
    stage(monkeypatch, tmp_path, member, files)
    assert cpus.usable_cpus() == expected


def test_the_affinity_is_kept():
    one = sorted(os.sched_getaffinity(0))[:1]
    said = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {one}); {ASK}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert said.stdout == "1\n"


def test_a_process_in_a_real_group_sees_its_quota():
    try:
        GROUP.mkdir()
        (GROUP / "cpu.cfs_quota_us").write_text("100000")
        (GROUP / "cpu.cfs_period_us").write_text("100000")
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        join = f"open({str(GROUP / 'tasks')!r}, 'w').write('0')"
        said = subprocess.run(
            [sys.executable, "-c", f"{join}; {ASK}"],
            capture_output=True,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )
    finally:
        GROUP.rmdir()
    assert said.stdout == "1\n"
