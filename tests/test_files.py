from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ctedge import OutputError
from ctedge.files import atomic_file, atomic_folder, sha256_of, write_atomic
from patience import PATIENCE_S, first_line


def disk_full(*_args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.json"]


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with atomic_file(tmp_path / "scan.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    monkeypatch.setattr(os, step, disk_full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_ctrl_c_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def interrupted():
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_appears_whole_and_is_not_overwritten(tmp_path):
    target = tmp_path / "x.ctedge"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    with pytest.raises(OutputError, match="already exists"), atomic_folder(target):
        pass
    with atomic_folder(target, replace=True) as temporary:
        (temporary / "b").write_text("2")
    assert [entry.name for entry in target.iterdir()] == ["b"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.ctedge"]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_folder_and_nothing_else(tmp_path, monkeypatch, step):
    target = tmp_path / "x.ctedge"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("1")
    monkeypatch.setattr(os, step, disk_full)
    with (
        pytest.raises(OutputError, match="No space left"),
        atomic_folder(target, replace=True) as temporary,
    ):
        (temporary / "b").write_text("2")
    assert [entry.name for entry in target.iterdir()] == ["a"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.ctedge"]


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_atomic(tmp_path / "file" / "a", "x")


#: Begins to write the file or the folder that is named, and is killed when half of it is there.
WRITING = """
import os, signal, sys
from ctedge.files import atomic_file, atomic_folder
path, kind, end = sys.argv[1:]
with (atomic_file if kind == "file" else atomic_folder)(path) as temporary:
    (temporary if kind == "file" else temporary / "model.onnx").write_text("half")
    if end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print(temporary, flush=True)
    sys.stdin.read()
"""


def writing(path, kind, end):
    command = [sys.executable, "-c", WRITING, str(path), kind, end]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, kind):
    with writing(tmp_path / "x.engine", kind, "killed") as killed:
        assert killed.wait(PATIENCE_S) == -signal.SIGKILL
    (left,) = names_in(tmp_path)
    assert left.startswith(".partial-")
    write_atomic(tmp_path / "other.json", "new")
    assert names_in(tmp_path) == ["other.json"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_one_that_still_writes_is_left_to_end(tmp_path, kind):
    with writing(tmp_path / "x.engine", kind, "well") as alive:
        temporary = Path(first_line(alive))
        write_atomic(tmp_path / "other.json", "new")
        assert temporary.exists()
        alive.communicate("", timeout=PATIENCE_S)
    assert alive.returncode == 0
    assert names_in(tmp_path) == ["other.json", "x.engine"]


def test_nothing_else_is_removed(tmp_path):
    """Of another machine or container, from before a restart, or no temporary file of ours."""
    with writing(tmp_path / "x.engine", "file", "killed") as killed:
        killed.wait(PATIENCE_S)
    left = tmp_path / names_in(tmp_path)[0]
    _, system, number, rest = left.name.split("-")
    others = [
        f".partial-{system[::-1]}-{number}-{rest}",
        f".partial-unknown-{number}-{rest}",
        f".partial-{system}-{number}",
        f".partial-{system}--{rest}",
        f".partial-{system}-{'9' * 40}-{rest}",
        ".partial-0123456789ab.engine",
        f"partial-{system}-{number}-{rest}",
        f".replaced-{system}-{number}-{rest}",
    ]
    for name in others:
        (tmp_path / name).write_text("somebody's")
    target = tmp_path / "folder"
    target.mkdir()
    (target / "kept").touch()
    link = tmp_path / f".partial-{system}-{number}-link"
    link.symlink_to(target)
    write_atomic(tmp_path / "new.json", "new")
    assert names_in(tmp_path) == sorted([*others, "folder", "new.json"])
    assert names_in(target) == ["kept"]


def denied(*_args, **_options):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_clean_up_that_fails_does_not_hide_the_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", disk_full)
    monkeypatch.setattr(Path, "unlink", denied)
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(tmp_path / "a.json", "new")


def test_a_folder_that_cannot_be_listed_is_written_all_the_same(tmp_path, monkeypatch):
    """As with mode 0333: there is nothing to synchronise its names by."""
    real = os.open

    def open_if_listed(path, *arguments, **options):
        return denied() if path == tmp_path else real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_if_listed)
    write_atomic(tmp_path / "a.json", "new")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert names_in(tmp_path) == ["a.json", "folder"]


def test_a_broken_pipe_is_no_disk_that_is_full(tmp_path):
    """The block tells of its progress to a program that has ended."""
    with pytest.raises(BrokenPipeError), atomic_file(tmp_path / "a.json"):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    assert names_in(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX")
def test_a_pipe_or_device_is_not_replaced_by_a_file(tmp_path):
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (pipe, link, tmp_path):
        with pytest.raises(OutputError, match="is no file"):
            write_atomic(path, "data")
    assert pipe.is_fifo()
    assert names_in(tmp_path) == ["link", "pipe"]


def test_sha256(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256_of(path).startswith("ba7816bf8f01cfea")
