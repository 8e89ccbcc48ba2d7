"""The two archives that the Keras example downloads: brought, checked and unpacked, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ctedge.errors import DatasetError, counted
from ctedge.files import sha256_of
from ctedge.progress import Reporter
from ctedge_training.mosmed.archive import Contents, contents, extract
from ctedge_training.mosmed.download import download
from ctedge_training.mosmed.record import RECORD_FILE, Record, read_records, write_records

RELEASE_URL = (
    "https://github.com/hasibzunair/3D-image-classification-tutorial/releases/download/v0.2/"
)

#: Bytes of the published archives, from two download logs of the example (keras-io,
#: examples/vision/md/3D_image_classification.md of 2020 and of January 2024). The log of Keras 3
#: runs both downloads into one line and shows the second size under the first name.
#: No digest is published.
SIZES_BYTES = {"CT-0.zip": 1_065_471_431, "CT-23.zip": 1_045_162_547}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the archives come from, and what they must be.

    Attributes:
        url: folder on the server, with a slash at the end.
        sizes_bytes: what an archive must be long; one that is not named may be of any length.
        sha256: what the digest of an archive must be, where the user says so.
    """

    url: str
    sizes_bytes: Mapping[str, int]
    sha256: Mapping[str, str]

    @classmethod
    def of(cls, base_url: str | None, sha256: Mapping[str, str]) -> Source:
        """The published release, or a mirror: nothing is known of the archives there."""
        if base_url is None:
            return cls(url=RELEASE_URL, sizes_bytes=SIZES_BYTES, sha256=sha256)
        return cls(url=f"{base_url.rstrip('/')}/", sizes_bytes={}, sha256=sha256)


def bring(
    folder: Path,
    source: Source,
    *,
    reporter: Reporter,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Have the scans of `CT-0.zip` in `FOLDER/CT-0`, and those of `CT-23.zip` in `FOLDER/CT-23`.

    What is there already is checked and kept: archives, unpacked folders, parts of a download.

    Args:
        folder: for archives, scans and `download.json`.
        source: where the archives come from.
        reporter: shows bars and lines.
        pause: waits so many seconds before another attempt.

    Raises:
        DatasetError: an archive cannot be downloaded, is not the one that it must be or was, or
            is refused; or a folder does not hold what its archive holds.
        OutputError: the disk is full, or the folder cannot be written.
    """
    records = read_records(folder)
    for name in SIZES_BYTES:
        archive, scans, known = folder / name, folder / Path(name).stem, records.get(name)
        if scans.is_dir() and not archive.exists():
            _check_unpacked(archive, scans, source, known, reporter)
            continue
        _have_archive(archive, source, reporter, pause)
        digest = sha256_of(archive)
        _check_digest(archive, digest, source, known)
        if scans.is_dir():
            held = contents(archive)
            _check_folder(scans, held.scans)
        else:
            held = extract(archive, scans, reporter=reporter)
            reporter.say(f"{scans}: {counted(len(held.scans), 'scan')} unpacked{_left_out(held)}")
        if known is None and name not in source.sha256:
            reporter.say(f"{name}: no digest is published; sha256 {digest} noted in {RECORD_FILE}")
        record = Record(sha256=digest, scans=held.scans)
        if record != known:
            records[name] = record
            write_records(folder, records)


def remove_archives(folder: Path, *, reporter: Reporter) -> None:
    """Remove the archives; what was unpacked from them stays."""
    for name in SIZES_BYTES:
        if (folder / name).exists():
            (folder / name).unlink()
            reporter.say(f"{folder / name} removed")


def _check_unpacked(
    archive: Path, scans: Path, source: Source, known: Record | None, reporter: Reporter
) -> None:
    """A folder whose archive is not here is held against the record of the archive."""
    _check_digest(archive, None if known is None else known.sha256, source, None)
    if known is not None:
        _check_folder(scans, known.scans)
    else:
        reporter.say(f"{scans}: taken as it is; {archive.name} is not here to compare it with")


def _have_archive(
    archive: Path, source: Source, reporter: Reporter, pause: Callable[[float], object]
) -> None:
    size_bytes = source.sizes_bytes.get(archive.name)
    if not archive.exists():
        url = f"{source.url}{archive.name}"
        reporter.say(f"downloading {url}")
        download(url, archive, size_bytes=size_bytes, reporter=reporter, pause=pause)
    elif size_bytes is not None and archive.stat().st_size != size_bytes:
        raise DatasetError(
            f"{archive} is not the published archive",
            found=counted(archive.stat().st_size, "byte"),
            expected=f"{size_bytes} bytes",
            fix="remove it and run the command again: it is downloaded anew",
        )


def _check_digest(archive: Path, found: str | None, source: Source, known: Record | None) -> None:
    """Against what the user says, then against what it was at its first use."""
    expected = source.sha256.get(archive.name)
    if expected is not None and found != expected:
        raise DatasetError(
            f"{archive} is not the archive that --sha256 names",
            found="no digest: the archive is not here" if found is None else f"sha256 {found}",
            expected=f"sha256 {expected}",
            fix=f"correct --sha256; or remove {archive.name} and the folder {archive.stem}, and "
            "run the command again: they are brought anew",
        )
    if known is not None and found != known.sha256:
        raise DatasetError(
            f"{archive} is another one than at its first use",
            found=f"sha256 {found}",
            expected=f"sha256 {known.sha256}, noted in {RECORD_FILE}",
            fix=f"remove {archive.name} and run the command again; if the archive was meant to "
            f"change, remove {RECORD_FILE} and the folder {archive.stem} too",
        )


def _check_folder(folder: Path, scans: Mapping[str, int]) -> None:
    """Every scan of the archive lies there, and is as long as it was."""
    wrong = [
        name
        for name, size in scans.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
    if wrong:
        raise DatasetError(
            f"{folder} does not hold what its archive holds",
            found=f"{len(wrong)} of {counted(len(scans), 'scan')} missing or of another length:"
            f" {wrong[0]!a}",
            expected="every scan of the archive",
            fix=f"remove the folder {folder} and run the command again: it is unpacked anew",
        )


def _left_out(held: Contents) -> str:
    if not held.left_out:
        return ""
    more = f" and {len(held.left_out) - 3} more" if len(held.left_out) > 3 else ""
    return f"; left out: {', '.join(held.left_out[:3])}{more}"
