"""A first reading in a process of its own, which may hang, crash or run out of memory.

HDF5's C library was not written for hostile files: a single changed byte can send it into an
endless loop that no exception and no Ctrl-C ends. So the child reads first, and only what it has
read to the end is read here.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from ctedge import errors
from ctedge.errors import CTEdgeError, InvalidBundle
from ctedge_training.legacy.checkpoint import parse_checkpoint
from ctedge_training.tasks import TASKS, Task

#: An honest file takes less than a second.
_SECONDS = 30.0
_MEMORY_BYTES = 8 << 30


def rehearse(
    data: bytes, path: Path, *, task: Task | None = None, seconds: float = _SECONDS
) -> None:
    """Read a checkpoint in a child process, and forget what it said.

    Args:
        data: the whole file.
        path: where it came from, for messages.
        task: as for `parse_checkpoint`.
        seconds: how long the child may take.

    Raises:
        CTEdgeError: the one that `parse_checkpoint` raised in the child.
        InvalidBundle: HDF5 hangs or crashes on the file, or wants too much memory.
    """
    command = [sys.executable, "-m", __name__, os.fspath(path), "" if task is None else task.name]
    try:
        child = subprocess.run(  # noqa: S603 - our own module
            command,
            input=data,
            capture_output=True,
            timeout=seconds,
            check=False,
            # The folder of the package: modules that lie in the user's own must not be found first.
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        _refuse(path, f"no end after {seconds:g} seconds", error)
    if child.returncode:
        _refuse(path, f"the reading process ended with code {child.returncode}", None)
    if child.stdout:
        said = json.loads(child.stdout)
        raise getattr(errors, said.pop("type"))(said.pop("what"), **said)


def main() -> None:
    """The child: the file on standard input, an error as JSON on standard output."""
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_AS)
        limit = _MEMORY_BYTES if most < 0 else min(_MEMORY_BYTES, most)
        resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    path, task = sys.argv[1:]
    try:
        parse_checkpoint(sys.stdin.buffer.read(), Path(path), task=TASKS.get(task))
    except CTEdgeError as error:
        sys.stdout.write(json.dumps(error.as_dict()))


def _refuse(path: Path, found: str, error: Exception | None) -> NoReturn:
    raise InvalidBundle(
        f"HDF5's own library cannot read {path}",
        found=found,
        expected="a file that Keras wrote",
        fix="copy the checkpoint again; do not open this one with other programs",
    ) from error


if __name__ == "__main__":
    main()
