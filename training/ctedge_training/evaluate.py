"""A finished run, judged on one split of a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctedge.errors import DatasetError
from ctedge.phantom.dataset import SPLITS
from ctedge_training import store
from ctedge_training.backend import require_keras
from ctedge_training.labels import read_labels
from ctedge_training.metrics import metrics_of
from ctedge_training.progress import Reporter
from ctedge_training.run import Run
from ctedge_training.store import Volume


def evaluate(  # noqa: PLR0913
    folder: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: str = "test",
    labels: Path | None = None,
    cache: Path | None = None,
    workers: int = 1,
    batch_size: int = 4,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Metrics of a finished run on a split, as plain JSON values.

    Args:
        folder: the run folder.
        data: folder with the scans and `labels.csv`.
        split: "train", "validation" or "test".
        labels: the label file; None means `labels.csv` in `data`.
        cache: folder for preprocessed volumes; None means `.ctedge-cache` in `data`.
        workers: processes that preprocess.
        batch_size: volumes a step; the answers differ by rounding only.
        seed: of the bootstrap.
        reporter: shows progress; None is silent.

    Raises:
        DatasetError: the labels are unsound, or the split is empty or unknown.
        BundleError: the run folder is unsound.
        MissingExtra: keras or its backend is absent.
    """
    require_keras("evaluating")
    trained, data = Run.open(Path(folder)), Path(data)
    samples = [
        sample for sample in read_labels(data, trained.task, labels=labels) if sample.split == split
    ]
    if not samples:
        raise DatasetError(
            f"{data}: no scan in the split {split!r}", expected=f"one of {', '.join(SPLITS)}"
        )
    volumes = store.prepare(
        samples,
        trained.spec,
        data / store.CACHE_FOLDER if cache is None else cache,
        workers=workers,
        reporter=reporter,
    )
    return evaluate_volumes(trained, volumes, split, batch_size=batch_size, seed=seed)


def evaluate_volumes(
    trained: Run, volumes: Sequence[Volume], split: str, *, batch_size: int = 4, seed: int = 0
) -> dict[str, Any]:
    """Metrics of the saved network on the volumes of a split."""
    from ctedge_training.fit import predict
    from ctedge_training.job import Part
    from ctedge_training.weights import load_network

    part = Part.of(list(volumes), split, trained.task)
    said = predict(load_network(trained), part, batch_size)
    answers = [volume.sample.answer for volume in part.volumes]
    return {
        "split": split,
        "data_digest": store.data_digest(part.volumes),
        **metrics_of(trained.task, answers, said, seed=seed),
    }


def as_text(metrics: dict[str, Any]) -> str:
    """The metrics for reading."""
    lines = [f"{metrics['split']}: {metrics['count']} scans (95 % bootstrap intervals)"]
    for name, value in metrics.items():
        if value is None:
            lines.append(f"  {name:17} not defined: one class only")
        elif isinstance(value, dict) and "ci95" in value:
            low, high = value["ci95"]
            lines.append(f"  {name:17} {value['value']:8.3f}  [{low:.3f}, {high:.3f}]")
    if "counts" in metrics:
        counts = metrics["counts"]
        lines.append("  " + ", ".join(f"{name} {number}" for name, number in counts.items()))
    if "confusion" in metrics:
        labels = metrics["confusion"]["labels"]
        lines.append("  true \\ predicted " + " ".join(f"{label:>9}" for label in labels))
        for label, row in zip(labels, metrics["confusion"]["counts"], strict=True):
            lines.append(f"  {label:16} " + " ".join(f"{number:9d}" for number in row))
    return "\n".join(lines)
