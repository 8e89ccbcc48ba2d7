"""What native code writes to standard error: held back, shown where the block fails, or dropped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from patience import PATIENCE_S

FAILS = """
import os
from ctedge.quiet import native_stderr_held_back
try:
    with native_stderr_held_back():
        os.write(2, b"chatter")
        raise LookupError
except Exception as error:
    print(type(error).__name__)
"""

#: Its file has got descriptor 2, as the first that was free.
CLOSED = """
import os, sys
import ctedge.quiet
with open(sys.argv[1], "wb") as file, getattr(ctedge.quiet, sys.argv[2])():
    assert file.fileno() == 2
    file.write(b"data")
    file.flush()
print("done")
"""

#: Ctrl-C is heard when the first call of the system returns that redirects.
INTERRUPTED = """
import os
import ctedge.quiet, sys
real, before = os.dup2, os.fstat(2)
def dup2(*descriptors):
    os.dup2 = real
    real(*descriptors)
    raise KeyboardInterrupt
os.dup2 = dup2
try:
    with getattr(ctedge.quiet, sys.argv[1])():
        pass
except KeyboardInterrupt:
    print(os.path.samestat(before, os.fstat(2)))
"""

BOTH = ["native_stderr_held_back", "native_stderr_dropped"]


def ran(script, *arguments, **options):
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S, **options
    )


@contextmanager
def nobody_reads() -> Iterator[int]:
    """A pipe without a reader."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        yield writing
    finally:
        os.close(writing)


def test_it_is_shown_where_the_block_fails_only():
    answer = ran(FAILS, stderr=subprocess.PIPE)
    assert (answer.stdout, answer.stderr) == ("LookupError\n", "chatter")
    answer = ran(FAILS.replace("raise LookupError", "print('well')"), stderr=subprocess.PIPE)
    assert (answer.stdout, answer.stderr) == ("well\n", "")


def test_the_error_comes_through_where_nobody_reads_the_chatter():
    with nobody_reads() as pipe:
        assert ran(FAILS, stderr=pipe).stdout == "LookupError\n"


@pytest.mark.skipif(sys.platform == "win32", reason="closes standard error by a POSIX shell")
@pytest.mark.parametrize("name", BOTH)
def test_without_standard_error_nothing_is_redirected(tmp_path, name):
    path = tmp_path / "data"
    command = ["sh", "-c", 'exec "$0" "$@" 2>&-', sys.executable, "-c", CLOSED, str(path), name]
    answer = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.stdout == "done\n"
    assert path.read_bytes() == b"data"


@pytest.mark.parametrize("name", BOTH)
def test_ctrl_c_does_not_leave_standard_error_redirected(name):
    assert ran(INTERRUPTED, name).stdout == "True\n"
