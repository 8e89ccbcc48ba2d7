"""A finished run, judged on one split of a data set."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctedge.errors import DatasetError, counted
from ctedge.phantom.dataset import SPLITS
from ctedge.progress import Reporter
from ctedge.spec import SliceSpec
from ctedge_training.backend import require_keras
from ctedge_training.datasets import index
from ctedge_training.datasets.source import Source
from ctedge_training.datasets.split_file import refuse_learnt
from ctedge_training.datasets.store import data_digest
from ctedge_training.datasets.volume import Volume
from ctedge_training.hrct import hdf5_splits
from ctedge_training.judging.metrics import THRESHOLD, metrics_of
from ctedge_training.judging.rows import Judged, patients_of
from ctedge_training.learning.settings import Settings
from ctedge_training.recipes import PUBLISHED_FIGURES
from ctedge_training.run import Run


def evaluate(  # noqa: PLR0913
    folder: str | os.PathLike[str],
    source: Source,
    *,
    split: str = "test",
    out: Path | None = None,
    seed: int = 0,
    command: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Metrics of a finished run on a split, as plain JSON values.

    Args:
        folder: the run folder.
        source: the scans and their answers.
        split: "train", "validation" or "test".
        out: folder for `report.html`, `report.json`, `predictions.csv`, and `gradcam.png` of
            slices: a new or empty one, or one with an earlier report, which is replaced and
            said; None writes nothing.
        seed: of the bootstrap.
        command: the command line, for the record.
        reporter: shows progress; None is silent.

    Raises:
        DatasetError: the labels are unsound, the split is empty or unknown, or test scans took
            part in the training.
        BundleError: the run folder is unsound.
        OutputError: `out` holds something else, or cannot be written.
        MissingExtra: keras or its backend is absent.
    """
    reporter = Reporter.silent() if reporter is None else reporter
    if out is not None:
        from ctedge_training.judging.report_folder import holds_report, require_writable

        if holds_report(out):
            reporter.say(f"{out}: the report that it holds will be replaced")
        require_writable(out)
    require_keras("evaluating")
    trained = Run.open(Path(folder))
    volumes = _volumes(trained, source, split, reporter)
    if split == "test":
        refuse_learnt(trained.folder, volumes)
    rows = judge(trained, volumes, split)
    if out is not None:
        from ctedge_training.judging.gradcam import SHEET_FILE, save_sheet
        from ctedge_training.judging.report import write_evaluation

        data = {"name": source.folder.resolve().name, "digest": data_digest(volumes)}
        preset = trained.document["training"].get("preset")
        write_evaluation(
            out,
            trained,
            rows,
            command=command,
            data=data,
            published=PUBLISHED_FIGURES.get((trained.task.name, preset)),
            seed=seed,
        )
        (out / SHEET_FILE).unlink(missing_ok=True)  # of an earlier report, of other slices
        if isinstance(trained.spec, SliceSpec):
            from ctedge_training.learning.weights import load_network

            save_sheet(
                out / SHEET_FILE,
                load_network(trained),
                trained.spec,
                volumes,
                rows,
                threshold=threshold_of(trained),
            )
    return metrics_of_rows(trained, rows, seed=seed)


def judge(
    trained: Run, volumes: Sequence[Volume], split: str, *, batch_size: int = 4
) -> list[Judged]:
    """What the saved network says of the volumes of a split; rounding depends on the batch."""
    from ctedge_training.learning.fit import predict
    from ctedge_training.learning.job import Part
    from ctedge_training.learning.weights import load_network

    part = Part.of(list(volumes), split, trained.task, trained.spec)
    said = predict(load_network(trained), part, batch_size)
    return [
        Judged(
            name=volume.sample.name,
            patient=volume.sample.patient,
            split=split,
            answer=volume.sample.answer,
            predicted=float(answer),
            facts=volume.facts,
        )
        for volume, answer in zip(part.volumes, said, strict=True)
    ]


def metrics_of_rows(trained: Run, rows: Sequence[Judged], *, seed: int = 0) -> dict[str, Any]:
    """All metrics of some judged scans, as plain JSON values."""
    return {
        "split": rows[0].split,
        **metrics_of(
            trained.task,
            [row.answer for row in rows],
            [row.predicted for row in rows],
            threshold=threshold_of(trained),
            groups=patients_of(rows),
            seed=seed,
        ),
    }


def threshold_of(trained: Run) -> float:
    """The probability from which on the positive label is given."""
    threshold = trained.document.get("threshold")
    return THRESHOLD if threshold is None else float(threshold)


def _volumes(trained: Run, source: Source, split: str, reporter: Reporter) -> list[Volume]:
    if index.is_store(source.folder) or hdf5_splits.are_there(source.folder):
        found = source.open(trained.task, Settings(), reporter)
        if found.spec != trained.spec:
            raise DatasetError(
                f"{source.folder}: prepared in another way than the run was trained on",
                found=found.spec.name,
                expected=trained.spec.name,
                fix="prepare a store with the run's --spec and --grid, or give the data folder",
            )
        volumes = [v for v in found.volumes if v.sample.split == split]
        _check_labels(trained, source.folder, found.labels, reporter)
    else:
        if source.classes is not None:
            _check_labels(trained, source.folder, source.classes, reporter)
        samples = [s for s in source.samples(trained.task, reporter) if s.split == split]
        volumes = []
        if samples:
            volumes = source.prepared(samples, trained.task, trained.spec, reporter).volumes
    if not volumes:
        raise DatasetError(
            f"{source.folder}: no scan in the split {split!r}",
            expected=f"one of {', '.join(SPLITS)}",
        )
    return volumes


def _check_labels(trained: Run, folder: Path, found: tuple[str, ...], reporter: Reporter) -> None:
    """The second class is the positive one: in another order every answer would be wrong.

    Raises:
        DatasetError: the run's own classes in another order.
    """
    own = tuple(trained.document["labels"])
    if not trained.task.binary or found == own:
        return
    if sorted(found) == sorted(own):
        raise DatasetError(
            f"{folder}: the classes come in another order than the network learnt them",
            found=", ".join(found),
            expected=", ".join(own),
            fix=f"give --classes {','.join(own)}",
        )
    reporter.say(f"the data's classes {', '.join(found)} are taken as {', '.join(own)}")


def as_text(metrics: dict[str, Any]) -> str:
    """The metrics for reading."""
    scans = counted(metrics["count"], "scan")
    lines = [f"{metrics['split']}: {scans} (95 % bootstrap intervals)"]
    for name, value in metrics.items():
        if value is None:
            lines.append(f"  {name:22} not defined on these scans")
        elif isinstance(value, dict) and "ci95" in value:
            low, high = value["ci95"]
            lines.append(f"  {name:22} {value['value']:8.3f}  [{low:.3f}, {high:.3f}]")
    if "counts" in metrics:
        counts = metrics["counts"]
        lines.append("  " + ", ".join(f"{name} {number}" for name, number in counts.items()))
    if "confusion" in metrics:
        labels = metrics["confusion"]["labels"]
        lines.append("  true \\ predicted " + " ".join(f"{label:>9}" for label in labels))
        for label, row in zip(labels, metrics["confusion"]["counts"], strict=True):
            lines.append(f"  {label:16} " + " ".join(f"{number:9d}" for number in row))
    return "\n".join(lines)
