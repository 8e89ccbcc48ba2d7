"""`download.json`: the digest of every archive at its first use, and the scans it held.

Nobody publishes digests of these archives, so the first use is what later ones are held against.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ctedge.errors import DatasetError
from ctedge.files import write_atomic

RECORD_FILE = "download.json"

_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one archive since its first use.

    Attributes:
        sha256: of the archive, 64 lower-case hex digits.
        scans: the names of its scans, with their sizes in bytes.
    """

    sha256: str
    scans: dict[str, int]


def read_records(folder: Path) -> dict[str, Record]:
    """The records by the name of the archive; none before the first use.

    Raises:
        DatasetError: the file is damaged, or of another version.
    """
    path = folder / RECORD_FILE
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_bytes())
        version = document["schema_version"]
        records = {name: Record(**record) for name, record in document["archives"].items()}
        usable = version == _SCHEMA_VERSION and all(
            isinstance(record.sha256, str)
            and all(type(size) is int for size in record.scans.values())
            for record in records.values()
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise _unusable(path, error) from error
    if not usable:
        raise _unusable(path, f"schema_version {version!r:.20}")
    return records


def write_records(folder: Path, records: Mapping[str, Record]) -> None:
    """Write the records whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    document = {
        "schema_version": _SCHEMA_VERSION,
        "archives": {name: asdict(record) for name, record in sorted(records.items())},
    }
    write_atomic(folder / RECORD_FILE, json.dumps(document, indent=2) + "\n")


def _unusable(path: Path, found: object) -> DatasetError:
    return DatasetError(
        f"{path} cannot be used",
        found=found,
        expected=f"what `ctedge train data` wrote, schema_version {_SCHEMA_VERSION}",
        fix="remove it; the archives are then taken as they are, and recorded anew",
    )
