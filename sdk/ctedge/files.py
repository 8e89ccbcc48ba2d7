"""Writing without ever leaving half a file: temporary name, fsync, rename.

A process that is killed cannot clear up. Its temporary files say whose they are, and the next
process that writes in their folder removes them: those of a process of this very system that is no
more, and no others. Those of another machine on a shared disk, or from before a restart, stay. So
does a folder that was set aside to be replaced, while nothing stands in its place.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from ctedge.errors import OutputError
from ctedge.interrupts import interruptions_let_through, interrupts_deferred

_CHUNK_BYTES = 1 << 20

#: Before a temporary name. What else lies beside it is nobody's to remove.
_PARTIAL = ".partial"
#: Before the name of a folder that holds what is being replaced.
_REPLACED = ".replaced"
#: So many folders' leftovers are looked for once a process, and not at each write.
_FOLDERS = 256


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 lower-case hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def temporary_folder() -> str:
    """The system's folder for temporary files, or the one that TMPDIR names.

    Raises:
        OutputError: none can be written.
    """
    import tempfile  # with random numbers: no prediction needs it

    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise OutputError(
            "there is no folder for temporary files",
            found=error.strerror,
            fix="name one in TMPDIR that this user may write, and that has space",
        ) from error


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write a file whole or not at all, replacing what stood there.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
    return Path(path)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path`, renamed onto it when the block ends well.

    The temporary name keeps the suffixes of `path` (a writer that goes by the suffix works), and
    is removed on any failure, Ctrl-C included.

    Raises:
        OutputError: an operating system error while writing, as disk full or no permission; or
            `path` is a device, a pipe or a folder.
    """
    target = Path(path)
    with _as_output_error(target):
        if target.exists() and not target.is_file():  # root could replace a device by a file
            raise OutputError(
                f"{path} is no file",
                found="a folder" if target.is_dir() else "a device, pipe or socket",
                expected="a file, or a place for one",
                fix="name another output",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent.absolute())
        temporary = target.with_name(f"{_own_name(_PARTIAL)}{''.join(target.suffixes[-2:])}")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _as_output_error(target):
            yield temporary
            _sync(temporary)
            os.replace(temporary, target)
            _sync_names(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong first is what the user needs
            temporary.unlink()
        raise


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed onto it when the block ends well.

    Raises:
        OutputError: `path` exists and `replace` is false, or the disk is full.
    """
    target = Path(path)
    if target.exists() and not replace:
        raise OutputError(
            f"{target} already exists", fix="name another output, or remove this one first"
        )
    with _as_output_error(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target.parent.absolute())
        temporary = target.with_name(f"{_own_name(_PARTIAL)}-{target.name}")
        temporary.mkdir()
    try:
        with _as_output_error(target):
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _sync(entry)
            with interrupts_deferred():  # else the old one may be left aside
                _swap_in(temporary, target)
            _sync_names(target.parent)
    except BaseException:
        remove_folder(temporary)
        raise


def remove_folder(path: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it, as far as that can be removed."""
    with interruptions_let_through():  # of Ctrl-C `rmtree` makes a "Bad file descriptor"
        shutil.rmtree(path, ignore_errors=True)


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename a folder onto another: the old one is set aside first and deleted last."""
    if not target.exists():
        os.rename(temporary, target)
        return
    aside = target.with_name(f"{_own_name(_REPLACED)}-{target.name}")
    old = aside / target.name
    try:
        aside.mkdir()
        os.rename(target, old)
        os.rename(temporary, target)
    finally:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.rename(old, target)
        if os.path.lexists(target):
            remove_folder(aside)


@contextlib.contextmanager
def _as_output_error(target: Path) -> Iterator[None]:
    with interruptions_let_through():  # also one that became an OSError in a clean-up
        try:
            yield
        except BrokenPipeError:  # of a pipe that the block wrote to as well; no file gives it
            raise
        except OSError as error:
            raise OutputError(
                f"cannot write {target}",
                found=f"{error.strerror or error}",
                fix="free space or choose another output folder; nothing half-written has its name",
            ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_names(folder: Path) -> None:
    """Have a new name survive a power cut, where the folder can be read and its disk does that."""
    with contextlib.suppress(OSError):  # the new file stands there already, whole
        _sync(folder)


def _own_name(kind: str) -> str:
    """A name that nobody else has, and that says who has it: `KIND-SYSTEM-PID-RANDOM`."""
    return f"{kind}-{_this_system() or 'unknown'}-{os.getpid()}-{secrets.token_hex(6)}"


def _this_system() -> str | None:
    """Among whose processes a number is this one's: of this machine since its start, outside of
    containers or in this one. None where that cannot be read.
    """
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")
        numbered = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path: "pid:[4026531836]")
    except OSError:
        return None
    told = "\n".join((started, numbered, os.uname().nodename))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


@functools.lru_cache(_FOLDERS)
def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left in a folder: half-written, or replaced."""
    system = _this_system()
    if system is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match entry.name.split("-", 3):
                case [kind, owner, number, rest] if owner == system and rest and _is_gone(number):
                    with contextlib.suppress(OSError):
                        _remove_leftover(kind, Path(entry.path))


def _remove_leftover(kind: str, path: Path) -> None:
    is_folder = path.is_dir() and not path.is_symlink()
    if kind == _PARTIAL and not is_folder:
        path.unlink()
    elif kind == _PARTIAL or (kind == _REPLACED and is_folder and _is_replaced(path)):
        remove_folder(path)


def _is_replaced(aside: Path) -> bool:
    """Whether what was set aside is back, or has a successor; else it may be the only one."""
    return all(os.path.lexists(aside.with_name(one.name)) for one in aside.iterdir())


def _is_gone(number: str) -> bool:
    """Whether no process has this number. A new one that has got it counts as the old one."""
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):  # another user's; no number
        return False
    return False
