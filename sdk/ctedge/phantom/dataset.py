"""A folder of phantoms with a table of their truth, ready for training."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ctedge import pool
from ctedge.files import write_atomic
from ctedge.phantom.patient import SHARE_HIGH, SHARE_LOW, STREAM_LABEL, draw_patient
from ctedge.phantom.render import render
from ctedge.phantom.write import write_nifti

LABEL_FILE = "labels.csv"
SPLITS = ("train", "validation", "test")
COLUMNS = ("path", "label", "score", "split", "kernel")

#: Raised whenever the same seed makes other voxels than before: scans of older versions are redone.
GENERATOR_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class _Scan:
    """One scan to be made: its files, and what it is made of."""

    path: Path
    truth_path: Path
    seed: int
    lesion_share: float | None
    shape: tuple[int, int, int] | None

    @property
    def recipe(self) -> dict[str, object]:
        return {
            "synthetic": True,
            "generator_version": GENERATOR_VERSION,
            "seed": self.seed,
            "lesion_share": self.lesion_share,
            "shape": None if self.shape is None else list(self.shape),
        }


def write_dataset(  # noqa: PLR0913 - one keyword an independent choice
    folder: str | os.PathLike[str],
    *,
    count: int,
    seed: int,
    shape: tuple[int, int, int] | None = None,
    scores: Literal["half", "uniform"] = "half",
    split: tuple[float, float, float] = (0.7, 0.15, 0.15),
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `folder/scans/synthetic_*.nii.gz` and, last, `folder/labels.csv`.

    A run that was broken off continues: scans of the same recipe are kept. The table has the
    columns path (relative to the folder), label (normal, abnormal), score (0..100), split
    (train, validation, test) and kernel (sharp, soft: how the scanner reconstructs).

    Args:
        folder: created if absent.
        count: number of patients.
        seed: of the whole set; patient i is the same for every count above i.
        shape: (X, Y, Z) of every scan, as for `render`; None is full size.
        scores: "half" makes half of the patients normal, the others abnormal with shares
            log-uniform in 0.01..0.60; "uniform" draws lesion shares uniformly in 0..1.
        split: fractions of train, validation and test; they add up to 1. No split that is wanted
            stays empty where there are as many pairs of patients as splits. Another count deals
            the patients out anew.
        workers: processes.
        progress: called with (done, total) after each scan.

    Returns:
        The path of labels.csv.

    Raises:
        ValueError: an argument out of range.
        OutputError: the folder cannot be written.
    """
    if count < 1 or workers < 1 or seed < 0:
        raise ValueError(
            f"count and workers must be positive, seed not negative; got {count=}, {workers=}, "
            f"{seed=}"
        )
    if scores not in ("half", "uniform"):
        raise ValueError(f'scores must be "half" or "uniform", got {scores!r}')
    if len(split) != 3 or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
        raise ValueError(f"split must be three fractions that add up to 1, got {split}")
    root = Path(folder)
    scans = [_plan(root, seed, index, scores, shape) for index in range(count)]
    truths: dict[int, tuple[str, float]] = {}
    for index, truth in pool.each(_make, scans, workers=workers):
        truths[index] = truth
        if progress is not None:
            progress(len(truths), count)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    names = _splits(count, seed, split)
    for index, (scan, name) in enumerate(zip(scans, names, strict=True)):
        label, score = truths[index]
        path = scan.path.relative_to(root).as_posix()
        writer.writerow([path, label, f"{score:.6f}", name, _kernel(scan)])
    return write_atomic(root / LABEL_FILE, table.getvalue())


def _plan(
    root: Path, seed: int, index: int, scores: str, shape: tuple[int, int, int] | None
) -> _Scan:
    rng = np.random.default_rng((seed, index))
    patient_seed = int(rng.integers(2**31))
    share = float(rng.uniform(0, 1)) if scores == "uniform" else None
    if scores == "half" and index % 2 == 0:
        share = 0.0
    elif scores == "half":
        share = _abnormal_share(rng)
    name = f"synthetic_{index:05d}"
    return _Scan(
        path=root / "scans" / f"{name}.nii.gz",
        truth_path=root / "scans" / f"{name}.json",
        seed=patient_seed,
        lesion_share=share,
        shape=shape,
    )


def _abnormal_share(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(SHARE_LOW), np.log(SHARE_HIGH))))


def _splits(count: int, seed: int, split: tuple[float, float, float]) -> list[str]:
    """Which split each patient belongs to, in exact proportion and shuffled by the seed.

    Neighbours stay together: where every second patient is normal, every split is half and half.
    """
    pairs = (count + 1) // 2
    sizes = [max(1, round(share * pairs)) if share else 0 for share in split]
    largest = int(np.argmax(split))
    if pairs < sum(1 for share in split if share):
        sizes = [0, 0, 0]
    sizes[largest] += pairs - sum(sizes)
    order = np.random.default_rng((seed, STREAM_LABEL)).permutation(np.repeat(SPLITS, sizes))
    return [str(order[index // 2]) for index in range(count)]


def _make(scan: _Scan) -> tuple[str, float]:
    """Make one scan, unless it is there already; its label and score."""
    known = _known_truth(scan)
    if known is not None:
        return known
    phantom = render(draw_patient(scan.seed, lesion_share=scan.lesion_share), shape=scan.shape)
    write_nifti(phantom, scan.path)
    truth = {**scan.recipe, "label": phantom.label, "score": round(phantom.score, 6)}
    write_atomic(scan.truth_path, json.dumps(truth, indent=1) + "\n")
    return phantom.label, phantom.score


def _kernel(scan: _Scan) -> str:
    """A kernel that takes from the neighbours sharpens; one that adds them blurs."""
    _, first, _ = draw_patient(scan.seed, lesion_share=scan.lesion_share).scanner.kernel
    return "sharp" if first < 0 else "soft"


def _known_truth(scan: _Scan) -> tuple[str, float] | None:
    if not (scan.path.is_file() and scan.truth_path.is_file()):
        return None
    try:
        truth = json.loads(scan.truth_path.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(truth, dict) or any(truth.get(k) != v for k, v in scan.recipe.items()):
        return None
    return str(truth["label"]), float(truth["score"])
