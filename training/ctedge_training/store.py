"""Preprocessed volumes on disk: each scan is preprocessed once, whatever runs follow.

One float16 file per scan, named by the digest of the scan's bytes and of the spec. A build that
was interrupted continues, two runs on the same scans share, and a changed scan or spec is another
name. float16 rounds a value of 0..1 by at most 2.4e-4, that is 0.34 HU of the 1400 HU window.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ctedge import __version__, pool
from ctedge.errors import DatasetError, UnreadableScan
from ctedge.files import atomic_file, sha256_of
from ctedge.spec import PreprocessSpec
from ctedge_training.labels import Sample
from ctedge_training.progress import Reporter

CACHE_FOLDER = ".ctedge-cache"

#: Raised when what is stored under a name changes its meaning.
_STORE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One sample and its preprocessed volume.

    Attributes:
        sample: the row of the label file.
        scan_sha256: digest of the scan's bytes (of a folder: of its files and their names).
        stored: the .npy file, float16, `spec.shape`, 0..1.
    """

    sample: Sample
    scan_sha256: str
    stored: Path

    def load(self) -> npt.NDArray[np.float32]:
        """The volume as float32, `spec.shape`, 0..1."""
        volume: npt.NDArray[np.float32] = np.load(self.stored, allow_pickle=False).astype("float32")
        return volume


def prepare(
    samples: Sequence[Sample],
    spec: PreprocessSpec,
    cache: Path,
    *,
    workers: int = 1,
    reporter: Reporter | None = None,
) -> list[Volume]:
    """Preprocess every scan that the cache does not hold yet.

    Args:
        samples: rows of the label file.
        spec: the contract, `ctedge.preprocess` its only implementation.
        cache: folder of the stored volumes; created.
        workers: processes; 1 works in this one.
        reporter: shows progress.

    Returns:
        One volume per sample, in the same order.

    Raises:
        InputError: a scan cannot be read.
        DatasetError: the same scan stands in two splits.
        OutputError: the cache cannot be written.
    """
    reporter = Reporter.silent() if reporter is None else reporter
    reporter.say(f"{len(samples)} scans; preprocessed volumes in {cache}")
    digests = ["" for _ in samples]
    with reporter.bar("preparing scans", len(samples)) as advance:
        work = functools.partial(_store, spec=spec, cache=cache)
        for index, digest in pool.each(work, [s.path for s in samples], workers=workers):
            digests[index] = digest
            advance()
    volumes = [
        Volume(sample=sample, scan_sha256=digest, stored=_stored(cache, digest, spec))
        for sample, digest in zip(samples, digests, strict=True)
    ]
    _refuse_leaks(volumes)
    return volumes


def data_digest(volumes: Iterable[Volume]) -> str:
    """SHA-256 over names, scan digests, answers and splits, whatever the order of the rows."""
    lines = sorted(
        json.dumps([v.sample.name, v.scan_sha256, v.sample.answer, v.sample.split]) for v in volumes
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a scan: a file's bytes, or a folder's file names and bytes.

    Raises:
        UnreadableScan: a file cannot be read.
    """
    try:
        if path.is_file():
            return sha256_of(path)
        lines = [
            f"{sha256_of(file)}  {file.relative_to(path).as_posix()}"
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]
    except OSError as error:
        raise UnreadableScan(
            f"{path}: cannot be read",
            found=error.strerror or error,
            fix="check that this user may read it",
        ) from error
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _store(path: Path, spec: PreprocessSpec, cache: Path) -> str:
    """Preprocess one scan unless it is stored already; returns the scan's digest."""
    digest = digest_of(path)
    stored = _stored(cache, digest, spec)
    if not _is_whole(stored, spec.shape):
        from ctedge.preprocessing import resample
        from ctedge.quality import judge
        from ctedge.readers import read_scan

        scan = read_scan(path)
        prepared = resample(scan, spec)
        judge(scan, prepared)  # what prediction would refuse is not learnt from either
        volume = prepared.volume.astype(np.float16)
        with atomic_file(stored) as temporary:
            np.save(temporary, volume, allow_pickle=False)
    return digest


def _stored(cache: Path, scan_sha256: str, spec: PreprocessSpec) -> Path:
    made_by = [_STORE_VERSION, __version__]
    identity = json.dumps([made_by, scan_sha256, spec.to_json()], sort_keys=True)
    return cache / f"{hashlib.sha256(identity.encode()).hexdigest()[:40]}.npy"


def _is_whole(stored: Path, shape: tuple[int, int, int]) -> bool:
    try:
        volume = np.load(stored, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    whole = isinstance(volume, np.ndarray) and volume.dtype == np.float16
    return bool(whole and volume.shape == shape and np.isfinite(volume).all())


def _refuse_leaks(volumes: Sequence[Volume]) -> None:
    by_scan = defaultdict(list)
    for volume in volumes:
        by_scan[volume.scan_sha256].append(volume.sample)
    for samples in by_scan.values():
        if len({sample.split for sample in samples}) > 1:
            raise DatasetError(
                "the same scan stands in two splits",
                found=", ".join(f"{sample.name} ({sample.split})" for sample in samples),
                expected="a scan in one split only, or the evaluation tests what was learnt",
                fix="remove the copies from all splits but one",
            )
