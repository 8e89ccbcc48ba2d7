"""What no data set may hold: one scan on both sides of a split, or with two answers."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence

from ctedge.errors import DatasetError
from ctedge_training.datasets.labels import Sample, refuse_patient_leaks
from ctedge_training.datasets.volume import Volume


def refuse_leaks(volumes: Sequence[Volume]) -> None:
    """Refuse a patient or a scan in two splits, and a scan with two answers.

    A scan is the same if its bytes are, whichever slice of it is meant, and also if only the
    prepared inputs are the same: compressed again, or saved under another header.

    Raises:
        DatasetError: there is one; the message names the scans.
    """
    refuse_patient_leaks(volume.sample for volume in volumes)
    same_scan = _alike(volumes, lambda volume: volume.scan_sha256)
    same_input = _alike(volumes, lambda volume: volume.stored_sha256)
    for samples in itertools.chain(same_scan, same_input):
        if len({sample.split for sample in samples}) > 1:
            raise DatasetError(
                "the same scan stands in two splits",
                found=_named(samples),
                expected="a scan in one split only, or the evaluation tests what was learnt",
                fix="remove the copies from all splits but one",
            )
    for samples in same_input:
        if len({sample.answer for sample in samples}) > 1:
            raise DatasetError(
                "the same scan has two answers",
                found=_named(samples),
                expected="one label or score a scan",
                fix="find out which is right, and remove the other",
            )


def _alike(volumes: Sequence[Volume], key: Callable[[Volume], str]) -> list[list[Sample]]:
    groups = defaultdict(list)
    for volume in volumes:
        groups[key(volume)].append(volume.sample)
    return [samples for samples in groups.values() if len(samples) > 1]


def _named(samples: Sequence[Sample]) -> str:
    names = [
        sample.name
        + ("" if sample.slice_index is None else f" slice {sample.slice_index}")
        + f" ({sample.split}, {sample.answer:g})"
        for sample in samples
    ]
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
