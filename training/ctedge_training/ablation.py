"""What each part of the own recipe is worth: the same training with one part left out at a time."""

from __future__ import annotations

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ctedge.bench.machine import BenchMachine
from ctedge.progress import Reporter
from ctedge.spec import Spec
from ctedge_training import run
from ctedge_training.backend import require_keras, versions
from ctedge_training.datasets.source import Data, Source
from ctedge_training.datasets.store import data_digest
from ctedge_training.judging.evaluate import judge
from ctedge_training.judging.metrics import metrics_of
from ctedge_training.judging.rows import patients_of
from ctedge_training.learning.augment import Augmentation, PublishedRotation
from ctedge_training.learning.job import Job
from ctedge_training.learning.settings import Settings
from ctedge_training.recipes import turned_to
from ctedge_training.tasks import Task
from ctedge_training.train import finished_run, run_job

SUMMARY_FILE = "ablation.json"

#: What the table shows of each training, by task; the first decides.
MEASURES = {"classifier": ("auc", "loss", "ece"), "severity": ("mae", "exact_class")}

#: What the plain training shares with the whole recipe: where, how long and how fast it learns.
_KEPT = (
    "epochs",
    "batch_size",
    "learning_rate",
    "patience",
    "seed",
    "spec",
    "grid",
    "mixed_precision",
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table: a name, and the settings it stands for."""

    name: str
    settings: Settings


def variants(full: Settings, spec: Spec) -> list[Variant]:
    """The whole recipe, the plain training, and the recipe without each of its parts.

    Parts that the recipe does not use have no row.
    """
    found = [Variant(name="the whole recipe", settings=full)]
    plain = replace(
        Settings(),
        **{
            name: getattr(full, name)
            for name in (
                "epochs",
                "batch_size",
                "learning_rate",
                "patience",
                "seed",
                "spec",
                "grid",
            )
        },
        mixed_precision=full.mixed_precision,
        schedule="staircase",
        prior=False,
        settle=False,
    )
    found.append(Variant(name="none of it", settings=plain))
    rotated = turned_to(replace(full, augmentation=PublishedRotation()), spec)
    found.append(Variant(name="the published rotation instead", settings=rotated))
    without: dict[str, dict[str, Any]] = {
        "mixup": {"mixup": 0.0},
        "label smoothing": {"label_smoothing": 0.0},
        "weight averaging": {"averaging": 0.0},
        "balanced sampling": {"balanced": False},
        "warm-up and cosine": {"schedule": "staircase"},
        "settled statistics": {"settle": False, "averaging": 0.0},
        "calibration": {"calibrate": False},
        "augmentation": {"augmentation": None},
    }
    change = full.augmentation
    if isinstance(change, Augmentation):
        without |= {
            "window jitter": {"augmentation": replace(change, window_hu=0.0)},
            "scale, shift and turn": {
                "augmentation": replace(change, scale=0.0, shift=0.0, rotate_degrees=0.0)
            },
            "noise": {"augmentation": replace(change, noise=0.0)},
            "flips": {"augmentation": replace(change, flip=False)},
        }
    for name, changes in without.items():
        settings = replace(full, **changes)
        if settings != full:
            label = f"without {name}"
            if name == "settled statistics" and full.averaging:
                label += " (and averaging, which needs them)"
            found.append(Variant(name=label, settings=settings))
    return found


def ablate(  # noqa: PLR0913
    task: Task,
    source: Source,
    out: Path,
    *,
    settings: Settings,
    seeds: int = 3,
    feeders: int = 0,
    command: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train every variant with every seed and write `ablation.json`.

    Each training is a run folder in `out`, named by its settings; those that are finished are
    kept, so the same command goes on after an interruption.

    Args:
        task: CLASSIFIER or SEVERITY.
        source: the scans; their test split is what the table is about.
        out: folder of the run folders and the table.
        settings: the whole recipe.
        seeds: how many, counted from `settings.seed`.
        feeders, command, reporter: as in `train`.

    Returns:
        What `ablation.json` holds.

    Raises:
        DatasetError, InputError, OutputError, InferenceFailed: as `train` does.
    """
    require_keras("training")
    reporter = Reporter.silent() if reporter is None else reporter
    data = source.open(task, settings, reporter).trainable(source.folder)
    rows: list[dict[str, Any]] = []
    settings = turned_to(settings, data.spec)
    table = variants(settings, data.spec)
    header = _header(task, settings, data, command)
    document = header
    for seed in range(settings.seed, settings.seed + seeds):
        for variant in table:
            reporter.say(f"{variant.name}, seed {seed}")
            job = Job(
                task=task,
                spec=data.spec,
                settings=replace(variant.settings, seed=seed),
                volumes=data.volumes,
                labels=data.labels,
                source=None,
                imagenet=None,
                folder=out / _folder(variant, seed),
                feeders=feeders,
                command=tuple(command),
                reporter=reporter,
            )
            rows.append({"variant": variant.name, "seed": seed, **_trained(job)})
            document = {**header, **_tables(table, rows, MEASURES[task.name])}
            run.write_json(out / SUMMARY_FILE, document)
    reporter.say(as_text(document))
    return document


def as_text(document: Mapping[str, Any]) -> str:
    """The table for reading."""
    measures = list(document["measures"])
    lines = [f"{'':52}" + "".join(f"{name:>22}" for name in measures)]
    for row in document["table"]:
        cells = [
            f"{row[name]['mean']:.3f} ± {row[name]['deviation']:.3f}".rjust(22) for name in measures
        ]
        lines.append(f"{row['variant']:52}" + "".join(cells))
    return "\n".join(lines)


def _trained(job: Job) -> dict[str, Any]:
    """Metrics of one training on the test split, from a finished folder where there is one."""
    trained = finished_run(job) or run_job(job, resume=job.checkpoint.is_file())
    split = str(trained.document["metrics"]["split"])
    rows = judge(trained, job.volumes, split)
    metrics = metrics_of(
        job.task,
        [row.answer for row in rows],
        [row.predicted for row in rows],
        groups=patients_of(rows),
    )
    training = trained.document["training"]
    return {
        **{name: metrics[name]["value"] for name in MEASURES[job.task.name]},
        "temperature": training["decision"]["temperature"],
        "epochs_run": training["epochs_run"],
        "best_epoch": training["best_epoch"],
        "wall_seconds": training["wall_seconds"],
        "split": split,
        "count": metrics["count"],
    }


def _folder(variant: Variant, seed: int) -> str:
    settings = json.dumps(replace(variant.settings, seed=seed).to_json(), sort_keys=True)
    return f"run-{hashlib.sha256(settings.encode()).hexdigest()[:16]}"


def _header(task: Task, settings: Settings, data: Data, command: Sequence[str]) -> dict[str, Any]:
    return {
        "schema_version": 2,
        "command": shlex.join(command),
        "machine": _machine(),
        "task": task.name,
        "measures": list(MEASURES[task.name]),
        "recipe": settings.to_json(),
        "grid": list(data.spec.shape),
        "data_digest": data_digest(data.volumes),
        "versions": versions(),
    }


def _machine() -> dict[str, Any]:
    """Without load and clock: of a moment, they say nothing of trainings that take hours."""
    return replace(BenchMachine.here(), load=None, mhz=None).to_json()


def _tables(
    table: Sequence[Variant], rows: Sequence[Mapping[str, Any]], measures: Sequence[str]
) -> dict[str, Any]:
    done = {row["variant"] for row in rows}
    return {
        "table": [_summary(v.name, rows, measures) for v in table if v.name in done],
        "runs": [dict(row) for row in rows],
    }


def _summary(
    name: str, rows: Sequence[Mapping[str, Any]], measures: Sequence[str]
) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, and the mean difference to the whole recipe."""
    mine = {row["seed"]: row for row in rows if row["variant"] == name}
    whole = {row["seed"]: row for row in rows if row["variant"] == rows[0]["variant"]}
    summary: dict[str, Any] = {"variant": name, "seeds": sorted(mine)}
    for measure in measures:
        values = np.array([mine[seed][measure] for seed in sorted(mine)])
        gaps = np.array([mine[seed][measure] - whole[seed][measure] for seed in sorted(mine)])
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        error = float(gaps.std(ddof=1) / math.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
        summary[measure] = {
            "mean": float(values.mean()),
            "deviation": spread,
            "against_the_whole": float(gaps.mean()),
            "standard_error": error,
        }
    return summary
