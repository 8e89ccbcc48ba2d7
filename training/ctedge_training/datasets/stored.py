"""One prepared input on disk: the float16 file, and beside it a record of its digest and facts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import DatasetError
from ctedge.files import atomic_file, sha256_of, write_atomic

_FLOAT16 = "<f2"


def write_input(
    stored: Path, volume: npt.NDArray[np.floating[Any]], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write both files, the record last: an input without one is made again.

    Args:
        stored: the .npy file.
        volume: 0..1, rounded to float16.
        facts: what is known of the scan, plain JSON values.

    Returns:
        The record: `sha256` of the .npy file, `facts`, and a `digest` of these two.

    Raises:
        OutputError: one of them cannot be written.
    """
    with atomic_file(stored) as temporary:
        np.save(temporary, volume.astype(_FLOAT16, copy=False), allow_pickle=False)
    record: dict[str, Any] = {"sha256": sha256_of(stored), "facts": dict(facts)}
    record["digest"] = _digest(record)
    write_atomic(stored.with_suffix(".json"), json.dumps(record, allow_nan=False) + "\n")
    return record


def mapped(stored: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, read by memory map; archives and pickles are none.

    Raises:
        OSError, ValueError, EOFError: missing or damaged.
    """
    values: npt.NDArray[Any] = np.lib.format.open_memmap(stored, mode="r")
    return values


def read_record(stored: Path, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """What the record says of an input of this shape; None unless both files are whole."""
    try:
        record = json.loads(stored.with_suffix(".json").read_bytes())
        whole = (
            record.pop("digest") == _digest(record)
            and record["sha256"] == sha256_of(stored)
            and _is_input(mapped(stored), shape)
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return dict(record) if whole else None


def check_input(stored: Path, sha256: str, shape: tuple[int, ...]) -> None:
    """Refuse a stored file that is not the one that was written, or no input of this shape.

    Raises:
        DatasetError: missing, unreadable, changed, of another type or shape, or values not 0..1.
    """
    try:
        digest = sha256_of(stored)
        found = _unlike(stored, shape) if digest == sha256 else f"sha256 {digest}"
    except OSError as error:
        found = error.strerror or str(error)
    if found:
        raise DatasetError(
            f"{stored}: a stored volume is missing or damaged",
            found=found,
            expected=f"float16 {shape}, 0..1, sha256 {sha256}",
            fix="prepare the store again",
        )


def _unlike(stored: Path, shape: tuple[int, ...]) -> str:
    """What keeps a file from being an input; nothing where it is one."""
    try:
        values = mapped(stored)
        lowest, highest = float(values.min()), float(values.max())
    except Exception as error:  # noqa: BLE001 - NumPy raises many kinds on hostile headers
        return f"no array: {type(error).__name__}"
    if not _is_input(values, shape):
        return f"{values.dtype} {values.shape}"
    return "" if lowest >= 0.0 and highest <= 1.0 else f"values from {lowest:g} to {highest:g}"


def _is_input(values: npt.NDArray[Any], shape: tuple[int, ...]) -> bool:
    return values.dtype.str == _FLOAT16 and values.shape == shape


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
