"""A local Ray cluster whose workers meet deadly scans, and what of it the system shows."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from command_line import CTEDGE
from patience import PATIENCE_S, first_line

#: Started under another name, so that it is found in whatever Ray starts.
MARK = "CTEDGE_TEST_MARK"

#: The cluster's, and its drivers'.
_TOKEN = secrets.token_hex(32)

#: Run by every Python that starts in the environment below: opening certain files kills the
#: process, always or the first time, or finds the GPU lost, or a package missing until it is
#: `installed`; who comes to a `gate-` file leaves a mark, and waits until `open` stands beside it.
_DANGERS = """
import os, signal, sys, time

def watch(event, arguments):
    if event != "open" or not isinstance(arguments[0], str):
        return
    folder, name = os.path.split(arguments[0])
    if name == "deadly.nii.gz" or (name == "deadly-once.nii.gz" and first(folder, "died")):
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "lost-once.nii.gz" and first(folder, "lost"):
        from ctedge import DeviceLost
        raise DeviceLost("the GPU failed")
    if name == "lacking.nii.gz" and not os.path.exists(os.path.join(folder, "installed")):
        from ctedge import MissingExtra
        raise MissingExtra("a package is missing", fix="install it")
    if name.startswith("gate-"):
        first(folder, f"{os.getpid()}-at-{name}")
    while name.startswith("gate-") and not os.path.exists(os.path.join(folder, "open")):
        time.sleep(0.01)

def first(folder, mark):
    try:
        os.close(os.open(os.path.join(folder, mark), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

sys.addaudithook(watch)
"""

#: Ends when its standard input does, and whatever Ray started with it.
_HOLD = """
import sys
from ctedge.batch.cluster import crew_of
out = sys.stdout
with crew_of(None, workers=2, threads=1, device="cpu") as crew:
    print(crew.ray.get_runtime_context().gcs_address, file=out, flush=True)
    sys.stdin.read()
"""


def environment(folder: Path) -> dict[str, str]:
    """Of processes that meet the dangers, and that carry the folder's name as their mark."""
    (folder / "dangers").mkdir(exist_ok=True)
    (folder / "dangers" / "sitecustomize.py").write_text(_DANGERS)
    return os.environ | {
        "PYTHONPATH": str(folder / "dangers"),
        MARK: str(folder),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the driver, too, is at home on 127.0.0.1
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _TOKEN,
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


@contextlib.contextmanager
def local_cluster(folder: Path) -> Iterator[str]:
    """The address of a cluster of two cores, in processes of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(folder),
        text=True,
    ) as process:
        try:
            address = first_line(process)
            assert address, "the cluster does not start"
            yield address
            process.communicate("", timeout=PATIENCE_S)
        finally:
            process.kill()


def driver(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """`ctedge batch` as a process that hears of Ctrl-C, and of that meant for it alone."""
    return subprocess.Popen(
        [*CTEDGE, "batch", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(folder),
        text=True,
        start_new_session=True,
        # A shell's background job hands on an ignored SIGINT, and so might whatever runs the tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def marked(folder: Path) -> list[int]:
    """The processes that were started in the folder's environment, and live."""
    found = []
    mark = f"{MARK}={folder}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


def listening(processes: list[int]) -> set[str]:
    """The addresses on which processes listen."""
    sockets = set()
    for process in processes:
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(str(entry.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.add(_address(words[1].partition(":")[0]))
    return found


def _address(text: str) -> str:
    """An address of the kernel's tables: words of four bytes, each in this machine's order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    return socket.inet_ntop(family, packed).removeprefix("::ffff:")
