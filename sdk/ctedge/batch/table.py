"""The table of scans: a CSV with a column `scan`, read with suspicion."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import stat
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctedge.errors import CTEdgeError, InputError
from ctedge.readers import OPTIONS, wanted_of

SCAN, ID = "scan", "id"

#: A million rows of long paths; more is no table of scans.
MAX_BYTES = 1 << 28

#: Control characters, lone surrogates, line and paragraph separators: no name has them, and they
#: spoil terminals and whatever reads the results line by line.
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})

#: Of some programs the first sign of a file; twice, where one wrote before another.
_BYTE_ORDER_MARK = "\ufeff"

#: AcquisitionNumber as DICOM writes it: an integer string, PS3.5 6.2 (IS).
_NUMBER = re.compile(r"[+-]?[0-9]{1,11}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scan.

    Attributes:
        id: unique in the table; where it has no column `id`, the scan as it is written there.
        scan: as it is written in the table.
        path: the same, relative to the table's folder, made absolute.
        reading: the options of `read_scan` that the row names.
        others: the values of the further columns, those of these options among them.
    """

    id: str
    scan: str
    path: str
    reading: Mapping[str, object]
    others: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """The scans in their order.

    Attributes:
        folder: absolute; paths in the table are relative to it.
        digest: SHA-256 of the file.
        columns: names of the further columns, which go into the results as they are.
        rows: at least one.
    """

    folder: Path
    digest: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path, *, reserved: Collection[str] = ()) -> Table:
    """Read the table: UTF-8, with or without a byte order mark; spaces around values do not count.

    Args:
        path: the CSV file.
        reserved: names that the results use, and that no further column may have.

    Raises:
        InputError: not there, not UTF-8, no CSV, without scans, a column missing, reserved or
            twice, a row of another length, an empty scan or id, an id twice, an option of
            `read_scan` of no such value, or a character that belongs into no name.
    """
    data = _read(path)
    try:
        lines = list(_rows(data.decode("utf-8").lstrip(_BYTE_ORDER_MARK)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error
    if not lines:
        raise _unreadable(path, "an empty file")
    (_, header), *body = lines
    _check_header(path, header, reserved)
    folder = path.resolve().parent
    columns = tuple(name for name in header if name not in (SCAN, ID))
    rows: list[Row] = []
    seen: dict[str, int] = {}
    for number, values in body:
        where = f"{path}, line {number}"
        row = _row(where, dict(zip(header, values, strict=False)), values, header, folder)
        if row.id in seen:
            raise InputError(
                f"{where}: the {ID if ID in header else SCAN} {row.id!r} stands twice",
                found=f"also on line {seen[row.id]}",
                fix="keep one of the rows, or give each its own id in a column `id`",
            )
        seen[row.id] = number
        rows.append(row)
    if not rows:
        raise InputError(f"{path} names no scan", fix="add a line for each scan")
    digest = hashlib.sha256(data).hexdigest()
    return Table(folder=folder, digest=digest, columns=columns, rows=tuple(rows))


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _unreadable(path, "no regular file")
        if status.st_size > MAX_BYTES:
            raise _unreadable(path, f"{status.st_size} bytes, of {MAX_BYTES} at most")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a null byte in the name is a ValueError
        raise _unreadable(path, getattr(error, "strerror", None) or error) from error


def _rows(text: str) -> list[tuple[int, list[str]]]:
    """(line number, values) of each line that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    return [(reader.line_num, [one.strip() for one in values]) for values in reader if values]


def _check_header(path: Path, header: list[str], reserved: Collection[str]) -> None:
    found = ", ".join(header)
    if SCAN not in header:
        raise InputError(
            f"{path} has no column `{SCAN}`",
            found=found,
            expected=f"`{SCAN}`, perhaps `{ID}`, and any others, separated by commas",
            fix=f"name the column of the paths `{SCAN}` in the first line",
        )
    if "" in header or len(set(header)) != len(header):
        raise InputError(
            f"{path}: each column needs a name of its own",
            found=found,
            fix="correct the first line",
        )
    _refuse_marks(f"{path}, line 1", header)
    taken = [name for name in header if name in reserved and name not in (SCAN, ID)]
    if taken:
        raise InputError(
            f"{path}: the results have columns of the same name",
            found=", ".join(taken),
            fix=f"rename in the first line, as in `given_{taken[0]}`",
        )


def _row(
    where: str, named: dict[str, str], values: list[str], header: list[str], folder: Path
) -> Row:
    if len(values) != len(header):
        raise InputError(
            f"{where}: wrong number of values",
            found=len(values),
            expected=f"{len(header)}: {', '.join(header)}",
            fix="give every row one value a column; quote values that hold commas",
        )
    _refuse_marks(where, values)
    for name in (SCAN, ID):
        if not named.get(name, "any"):
            raise InputError(f"{where}: empty `{name}`", fix="fill it, or remove the row")
    return Row(
        id=named.get(ID, named[SCAN]),
        scan=named[SCAN],
        path=str(folder / named[SCAN]),
        reading=_reading(where, named),
        others=tuple(named[name] for name in header if name not in (SCAN, ID)),
    )


def _reading(where: str, named: Mapping[str, str]) -> dict[str, object]:
    """The options of `read_scan` that have a column, and a value in it."""
    reading: dict[str, object] = {}
    for name in OPTIONS:
        text = named.get(name)
        if not text:
            continue
        number = name == "acquisition" and _NUMBER.fullmatch(text)
        reading[name] = int(text) if number else text
        wanted = wanted_of(name, reading[name])
        if wanted is not None:
            raise InputError(
                f"{where}: `{name}` has no such value",
                found=ascii(text[:200]),
                expected=wanted,
                fix="correct it, or leave it empty",
            )
    return reading


def _refuse_marks(where: str, values: list[str]) -> None:
    for value in values:
        if any(unicodedata.category(mark) in _REFUSED for mark in value):
            raise InputError(
                f"{where}: a control character",
                found=ascii(value[:200]),
                fix="remove it; one value stands on one line",
            )


def _unreadable(path: Path, found: object) -> CTEdgeError:
    return InputError(
        f"{path} cannot be read as a table of scans",
        found=found,
        expected=f"UTF-8 text with comma-separated values and a column `{SCAN}`",
        fix="check the path; save the table as CSV in UTF-8",
    )
