"""Preprocessed volumes on disk: each scan is preprocessed once, whatever runs follow.

One float16 file per scan, named by the digest of the scan's bytes, of the spec and of the lung
mask, and a small JSON record beside it. A build that was interrupted continues, two runs on the
same scans share, processes and machines can write side by side, and a changed scan, mask or spec
is another name. Read by memory map. float16 rounds a value of 0..1 by at most 2.4e-4, that is
0.34 HU of the 1400 HU window.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ctedge import __version__, pool
from ctedge.errors import (
    CTEdgeError,
    DatasetError,
    InputError,
    ScanNotFound,
    UnreadableScan,
    counted,
)
from ctedge.files import sha256_of
from ctedge.progress import Reporter
from ctedge.spec import Spec
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.leaks import refuse_leaks
from ctedge_training.datasets.render import MaskSource, mask_name, render
from ctedge_training.datasets.stored import read_record, write_input
from ctedge_training.datasets.volume import Volume

CACHE_FOLDER = ".ctedge-cache"

#: Raised when what is stored under a name changes its meaning.
_STORE_VERSION = 2


class Each(Protocol):
    """Works on many items, as `ctedge.pool.each` does: (index, answer) in any order."""

    def __call__(
        self, work: Callable[[Any], Any], items: Sequence[Any], *, workers: int
    ) -> Iterator[tuple[int, Any]]: ...


def prepare(  # noqa: PLR0913
    samples: Sequence[Sample],
    spec: Spec,
    cache: Path,
    *,
    masks: MaskSource | None = None,
    skip_bad: bool = False,
    workers: int = 1,
    each: Each = pool.each,
    reporter: Reporter | None = None,
) -> list[Volume]:
    """Preprocess every scan that the cache does not hold yet.

    Args:
        samples: rows of the label file.
        spec: the contract, `ctedge.preprocess` its only implementation.
        cache: folder of the stored volumes; created.
        masks: gives the lung mask of a scan by its name; required by a spec with `lungs_only`.
        skip_bad: leave out scans that cannot be read, and say which; otherwise the first raises.
        workers: processes; 1 works in this one.
        each: what distributes the work; `ctedge_training.datasets.cluster` has another.
        reporter: shows progress.

    Returns:
        One volume per sample, in the same order; without the bad ones.

    Raises:
        InputError: a scan cannot be read.
        DatasetError: a patient or scan stands in two splits, a scan has two answers, a lung mask
            is missing or fits no scan, two scans would take the same mask, or no scan is left.
        OutputError: the cache cannot be written.
    """
    reporter = Reporter.silent() if reporter is None else reporter
    if masks is not None:
        _refuse_shared_masks(samples)
    reporter.say(f"{counted(len(samples), 'scan')}; preprocessed volumes in {cache}")
    made: dict[int, Volume] = {}
    bad: dict[int, CTEdgeError] = {}
    with reporter.bar("preparing scans", len(samples)) as advance:
        work = functools.partial(_store, spec=spec, cache=cache, masks=masks)
        for index, answer in each(work, samples, workers=workers):
            if isinstance(answer, Volume):
                made[index] = answer
            elif skip_bad:
                bad[index] = answer
            else:
                raise answer
            advance()
    for index, error in sorted(bad.items()):
        reporter.say(f"skipped {samples[index].name}: {error.what}")
    if not made:
        first = "none was listed" if not bad else str(bad[min(bad)].what)
        raise DatasetError(
            "no scan is left",
            found=f"{counted(len(bad), 'bad one')}; {first}",
            fix="mend the scans",
        )
    volumes = [made[index] for index in sorted(made)]
    refuse_leaks(volumes)
    return volumes


def data_digest(volumes: Iterable[Volume]) -> str:
    """SHA-256 over names, scans, answers, splits and patients, whatever the order of the rows."""
    lines = sorted(
        json.dumps(
            [
                v.sample.name,
                v.sample.slice_index,
                v.scan_sha256,
                v.sample.answer,
                v.sample.split,
                v.sample.patient,
            ]
        )
        for v in volumes
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a scan: a file's bytes, or a folder's file names and bytes.

    Raises:
        ScanNotFound: nothing is there.
        UnreadableScan: a file cannot be read.
    """
    try:
        if path.is_file():
            return sha256_of(path)
        if not path.is_dir():
            raise ScanNotFound(f"{path}: no such file or folder", fix="check the path")
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


def store_array(sample: Sample, volume: npt.NDArray[np.float32], cache: Path) -> Volume:
    """Store an input that was preprocessed elsewhere, under the digest of its values.

    Raises:
        OutputError: the cache cannot be written.
    """
    values = np.ascontiguousarray(volume, dtype=np.float16)
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    name = hashlib.sha256(f"{digest} {values.shape}".encode()).hexdigest()[:40]
    stored = cache / f"{name}.npy"
    record = read_record(stored, values.shape) or write_input(stored, values, {})
    return Volume(
        sample=sample,
        scan_sha256=digest,
        stored=stored,
        stored_sha256=record["sha256"],
        facts=dict(sample.facts),
    )


def _store(
    sample: Sample, spec: Spec, cache: Path, masks: MaskSource | None
) -> Volume | InputError:
    """Preprocess one scan unless it is stored already; a bad scan is the answer, not raised."""
    try:
        digest = digest_of(sample.path)
        stored = cache / f"{_name(digest, sample, spec, masks)}.npy"
        record = read_record(stored, spec.shape)
        if record is None:
            made = render(sample, spec, masks)
            record = write_input(stored, made.volume, made.facts)
    except InputError as error:
        return error
    return Volume(
        sample=sample,
        scan_sha256=digest,
        stored=stored,
        stored_sha256=record["sha256"],
        facts=dict(sample.facts) | record["facts"],
    )


def _name(scan_sha256: str, sample: Sample, spec: Spec, masks: MaskSource | None) -> str:
    made_by: list[object] = [_STORE_VERSION, __version__]
    if masks is not None:
        made_by.append(masks.digest(mask_name(sample)))
    identity = json.dumps(
        [made_by, scan_sha256, sample.slice_index, spec.to_json()], sort_keys=True
    )
    return hashlib.sha256(identity.encode()).hexdigest()[:40]


def _refuse_shared_masks(samples: Sequence[Sample]) -> None:
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(mask_name(sample), sample)
        if other.path != sample.path:
            raise DatasetError(
                f"two scans would take the lung mask {mask_name(sample)!r}",
                found=f"{other.name} and {sample.name}",
                expected="a name of its own for every scan, since masks go by it",
                fix="rename one of the scans, and its mask with it",
            )
