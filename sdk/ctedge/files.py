"""Writing without ever leaving half a file: temporary name, fsync, rename.

A process that is killed cannot clear up. Its temporary files say whose they are, and the next
process that writes in their folder removes them: those of a process of this very system that is no
more, and no others. Those of another machine on a shared disk, or from before a restart, stay.
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

_CHUNK_BYTES = 1 << 20

#: Before a temporary name. What else lies beside it is nobody's to remove.
_PARTIAL = ".partial"
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
        temporary = target.with_name(f"{_own_name()}{''.join(target.suffixes[-2:])}")
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _as_output_error(target):
            yield temporary
            _sync(temporary)
            os.replace(temporary, target)
            _sync(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
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
        temporary = target.with_name(f"{_own_name()}-{target.name}")
        temporary.mkdir()
    try:
        with _as_output_error(target):
            yield temporary
            for entry in (*temporary.rglob("*"), temporary):
                _sync(entry)
            _swap_in(temporary, target)
            _sync(target.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap_in(temporary: Path, target: Path) -> None:
    """Rename a folder onto another: the old one is set aside first and deleted last."""
    if not target.exists():
        os.rename(temporary, target)
        return
    aside = target.with_name(f".replaced-{_random()}-{target.name}")
    aside.mkdir()
    try:
        os.rename(target, aside / target.name)
        try:
            os.rename(temporary, target)
        except BaseException:
            os.rename(aside / target.name, target)
            raise
    finally:
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _as_output_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {target}",
            found=f"{error.strerror or error}",
            fix="free space or choose another output folder; nothing half-written was left",
        ) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own_name() -> str:
    """A name that nobody else has, and that says who has it: `.partial-SYSTEM-PID-RANDOM`."""
    return f"{_PARTIAL}-{_this_system() or 'unknown'}-{os.getpid()}-{_random()}"


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
    """Remove what processes that were killed left half-written in a folder."""
    system = _this_system()
    if system is None:
        return
    beginning = f"{_PARTIAL}-{system}-"
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            number, _, rest = entry.name.removeprefix(beginning).partition("-")
            if not entry.name.startswith(beginning) or not rest or not _is_gone(number):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()


def _is_gone(number: str) -> bool:
    """Whether no process has this number. A new one that has got it counts as the old one."""
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, OverflowError):  # another user's; no number
        return False
    return False


def _random() -> str:
    return secrets.token_hex(6)
