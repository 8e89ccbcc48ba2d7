"""Archives of scans, honest ones and patched ones, and the refusal that leaves nothing behind."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ctedge.errors import DatasetError
from ctedge.progress import Reporter
from ctedge_training.mosmed.archive import Contents, extract

SCAN = np.random.default_rng(5).bytes(3000)


def pack(archive: Path, members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(archive, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)


def pack_one(archive: Path, member: zipfile.ZipInfo, data: bytes = SCAN) -> None:
    """A sound scan and one more member."""
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("CT-0/study_0001.nii.gz", SCAN)
        made.writestr(member, data)


def patched(archive: Path, old: bytes, new: bytes, count: int = -1) -> None:
    """Change bytes of a packed archive."""
    data = archive.read_bytes()
    assert old in data
    archive.write_bytes(data.replace(old, new, count))


def unpack(archive: Path, folder: Path) -> Contents:
    return extract(archive, folder, reporter=Reporter.silent())


def refused(archive: Path, folder: Path, why: str) -> DatasetError:
    """The whole archive is refused, and nothing at all was written."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(DatasetError, match=why) as caught:
        unpack(archive, folder)
    assert sorted(archive.parent.rglob("*")) == before
    assert caught.value.fix
    return caught.value
