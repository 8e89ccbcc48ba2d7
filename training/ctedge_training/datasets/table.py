"""Tables of scans as CSV: rows with their line numbers, paths that stay inside, scores."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctedge.errors import DatasetError

_PLAIN_NUMBER = re.compile(r"[0-9]{1,3}(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?", re.ASCII)


def read_rows(
    source: Path, columns: Sequence[str], *, optional: Sequence[str] | None = ()
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line numbers; values without surrounding spaces.

    Args:
        source: the file, UTF-8 with or without a byte order mark.
        columns: present in every row of the answer.
        optional: present in the answer where the file has them; None means every other column.

    Raises:
        DatasetError: not to be read, not UTF-8, not CSV, a column missing or twice, or a row with
            more or fewer fields than the first line.
    """
    try:
        with source.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            missing = [column for column in columns if column not in header]
            if len(set(header)) != len(header):
                raise DatasetError(
                    f"{source}: a column stands twice",
                    found=", ".join(header),
                    fix="keep one of them",
                )
            if missing:
                raise DatasetError(
                    f"{source}: missing column {', '.join(missing)}",
                    found=", ".join(header) or "an empty file",
                    expected=", ".join(columns),
                    fix="add the column to the first line, and a value to every row",
                )
            others = header if optional is None else optional
            wanted = [
                *columns,
                *(name for name in others if name in header and name not in columns),
            ]
            rows = []
            for row in reader:
                if None in row or any(row[column] is None for column in wanted):
                    raise DatasetError(
                        f"{source}, line {reader.line_num}: wrong number of fields",
                        expected=f"{len(header)}: {', '.join(header)}",
                        fix="give every row one value a column; quote values that hold commas",
                    )
                rows.append((reader.line_num, {column: row[column].strip() for column in wanted}))
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(
            f"{source}: the table cannot be read",
            found=error,
            expected="UTF-8 text with comma-separated values",
            fix="save the table as CSV in UTF-8",
        ) from error


def scan_path(folder: Path, name: str, where: str) -> Path:
    """The resolved path of a scan inside `folder`.

    Raises:
        DatasetError: no usable path, outside of the folder (through a link too), or not there.
    """
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, a loop of links
        raise DatasetError(
            f"{where}: no usable path", found=repr(name), fix="correct the path"
        ) from error
    if not name or path == root or not path.is_relative_to(root):
        raise DatasetError(
            f"{where}: the path leads out of the data folder",
            found=repr(name),
            expected=f"a scan inside {root}",
            fix="write paths relative to the data folder, and keep the scans inside it",
        )
    if not there:
        raise DatasetError(f"{where}: no such scan", found=str(path), fix="correct the path")
    return path


def has_control(text: str) -> bool:
    """Whether a name could steer a terminal, or cannot be written as UTF-8."""
    return any(unicodedata.category(mark) in {"Cc", "Cs"} for mark in text)


def refuse_control(row: Mapping[str, str], columns: Sequence[str], where: str) -> None:
    """Refuse names with control characters: they are printed, and written into other files.

    Raises:
        DatasetError: one of the columns has some.
    """
    for column in columns:
        if has_control(row.get(column, "")):
            raise DatasetError(
                f"{where}: a control character in the column {column}",
                found=ascii(row[column])[:200],
                expected="a plain name",
                fix="take it out of the table, and out of the file's name",
            )


def listed_twice(where: str, name: str, first_line: int) -> DatasetError:
    """What to raise for a scan that an earlier line names already."""
    return DatasetError(
        f"{where}: the scan is listed twice",
        found=f"{name}, already on line {first_line}",
        fix="keep one of the two rows",
    )


def read_score(text: str, where: str) -> float:
    """A score of 0-100 points.

    Raises:
        DatasetError: no plain number, or outside 0-100.
    """
    score = float(text) if _PLAIN_NUMBER.fullmatch(text) else math.nan
    if not 0.0 <= score <= 100.0:
        raise DatasetError(
            f"{where}: unreadable score",
            found=repr(text),
            expected="a number from 0 to 100",
            fix="correct the score",
        )
    return score
