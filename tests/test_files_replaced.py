"""A folder in whose place another is put: whatever comes between, one of the two stands there."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys

import pytest

from ctedge.files import atomic_folder, write_atomic
from patience import PATIENCE_S
from step_interrupted import comes_through

#: Replaces a folder, and is killed before a renaming, or has Ctrl-C pressed when it is done.
REPLACING = """
import os, signal, sys
from ctedge.files import atomic_folder
path, at, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
real, done = os.rename, 0
def rename(*places):
    global done
    if how == "killed" and done == at:
        os.kill(os.getpid(), signal.SIGKILL)
    real(*places)
    done += 1
    if how == "interrupted" and done == at:
        signal.raise_signal(signal.SIGINT)
os.rename = rename
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with atomic_folder(path, replace=True) as temporary:
        (temporary / "new").touch()
        if how == "killed" and at == 2:
            import shutil
            shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
except KeyboardInterrupt:
    print("interrupted")
"""


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def replaced(tmp_path):
    target = tmp_path / "x.ctedge"
    target.mkdir()
    (target / "old").touch()
    return target


def replace(target):
    with atomic_folder(target, replace=True) as temporary:
        (temporary / "new").touch()


def replacing(target, at, how):
    command = [sys.executable, "-c", REPLACING, str(target), str(at), how]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)


@pytest.mark.parametrize("at", [1, 2])
def test_ctrl_c_while_a_folder_is_replaced_waits_for_its_end(replaced, at):
    assert replacing(replaced, at, "interrupted").stdout == "interrupted\n"
    assert names_in(replaced) == ["new"]
    assert names_in(replaced.parent) == ["x.ctedge"]


def test_a_folder_that_is_replaced_never_vanishes(replaced):
    """Also where no handler of signals is what interrupts, which could be held back."""
    for steps in itertools.count(1):
        ended = comes_through(lambda: replace(replaced), steps, "ctedge/files.py")
        assert names_in(replaced) in (["old"], ["new"])
        if ended:
            break
    assert steps > 20


def test_ctrl_c_while_the_old_folder_is_removed_is_no_broken_disk(replaced, monkeypatch):
    real_close, real_rmtree = os.close, shutil.rmtree

    def close_and_press(descriptor):
        os.close = real_close
        real_close(descriptor)
        raise KeyboardInterrupt

    def rmtree(*arguments, **options):
        os.close = close_and_press
        real_rmtree(*arguments, **options)

    monkeypatch.setattr(os, "close", real_close)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    with pytest.raises(KeyboardInterrupt):
        replace(replaced)
    assert names_in(replaced) == ["new"]


@pytest.mark.parametrize("at", [0, 2])
def test_the_next_writer_removes_what_a_killed_one_has_replaced(replaced, at):
    assert replacing(replaced, at, "killed").returncode == -signal.SIGKILL
    assert any(name.startswith(".replaced-") for name in names_in(replaced.parent))
    write_atomic(replaced.with_name("other.json"), "new")
    assert names_in(replaced.parent) == ["other.json", "x.ctedge"]
    assert names_in(replaced) == (["new"] if at else ["old"])


def test_the_only_folder_is_not_removed_where_it_was_set_aside(replaced):
    assert replacing(replaced, 1, "killed").returncode == -signal.SIGKILL
    write_atomic(replaced.with_name("other.json"), "new")
    aside, other = names_in(replaced.parent)
    assert (aside.startswith(".replaced-"), other) == (True, "other.json")
    assert names_in(replaced.with_name(aside) / "x.ctedge") == ["old"]
