"""Where a command may write: a place that can be written, and none of what it reads."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import typer

Places = Mapping[str, str | Path | None]


def require_places(outputs: Places, scan: str | None, bundles: Iterable[str]) -> None:
    """Refuse, before minutes of work, what could not or must not be written after them.

    Args:
        outputs: by the options that name them; None where one is not given.
        scan: what is read; None where nothing is.
        bundles: the models that answer, as they are named.

    Raises:
        OutputError: a place cannot be written, or lies inside of a bundle; or two names lead to one
            file.
    """
    require_outside(outputs, bundles)
    for option, path in outputs.items():
        if path is not None:
            _require_place(option, path)
    _require_apart({**outputs, "SCAN": scan})
    if scan is not None:
        _require_no_slice(outputs, Path(scan))


def require_outside(outputs: Places, bundles: Iterable[str]) -> None:
    """Refuse a place inside of a bundle, which is none any more with one file too many.

    Args:
        outputs, bundles: as of `require_places`.

    Raises:
        OutputError: a place lies inside of a bundle.
    """
    from ctedge.bundle.files import find_bundle
    from ctedge.errors import BundleError

    for bundle in bundles:
        try:
            folder = find_bundle(bundle)
        except BundleError:
            continue  # what is none is refused where it is loaded
        for option, path in _inside(folder, outputs):
            _refuse(
                f"{option} names a file inside of the bundle {bundle}", f"{path}", option=option
            )


def _require_place(option: str, path: str | Path) -> None:
    from ctedge.errors import OutputError
    from ctedge.files import atomic_file

    if str(path) in ("", "."):
        raise typer.BadParameter("the name of a file is missing", param_hint=f"'{option}'")
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(Path(path).stat().st_mode):
                raise IsADirectoryError("it is a folder")
        with atomic_file(path):
            raise _ItCanBeWritten
    except _ItCanBeWritten:
        return
    except OSError as error:
        raise OutputError(
            f"cannot write {os.fspath(path)}",
            found=error.strerror or error,
            fix=f"name another file for {option}; nothing was done yet",
        ) from error


def _require_apart(places: Places) -> None:
    """Refuse two names of one file: what is written last would take the place of the other."""
    named = [(name, Path(path)) for name, path in places.items() if path is not None]
    for (one, path), (other, same) in itertools.combinations(named, 2):
        if _is_same(path, same):
            found = f"{path}" if path == same else f"{path}, {same}"
            _refuse(f"{one} and {other} name one file", found, option=one)


def _require_no_slice(outputs: Places, scan: Path) -> None:
    """Refuse to take the place of a DICOM file of the folder that is read."""
    from ctedge.readers.dicom.gather import is_dicom

    if not scan.is_dir():
        return
    for option, path in _inside(scan, outputs):
        if is_dicom(path):
            _refuse(f"{option} names a file of SCAN", f"{path}, a DICOM file", option=option)


def _inside(folder: Path, outputs: Places) -> Iterator[tuple[str, Path]]:
    """The outputs that lie in a folder, by whatever way they are named; none need stand yet."""
    root = Path(os.path.realpath(folder))
    for option, path in outputs.items():
        if path is not None and root in Path(os.path.realpath(path)).parents:
            yield option, Path(path)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to one place, where nothing need stand yet."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    with contextlib.suppress(OSError, RuntimeError):  # links in a circle
        return one.resolve() == other.resolve()
    return False


def _refuse(what: str, found: str, *, option: str) -> NoReturn:
    from ctedge.errors import misnamed_output

    fix = f"name another file for {option}; nothing was done yet"
    raise misnamed_output(what, found=found, fix=fix)


class _ItCanBeWritten(Exception):
    """Ends the writing before anything takes the place of what stands there."""
