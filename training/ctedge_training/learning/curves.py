"""The learning curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctedge.extras import require
from ctedge.files import atomic_file
from ctedge_training.run import HistoryRow
from ctedge_training.tasks import Task


def save_curves(path: Path, rows: Sequence[HistoryRow], task: Task) -> None:
    """Draw loss, accuracy and the task's own metric over the epochs as PNG.

    Raises:
        MissingExtra: matplotlib is absent.
        OutputError: the file cannot be written.
    """
    require("matplotlib", extra="training", purpose="drawing the learning curves")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12.0, 3.4), layout="constrained")
    loss, accuracy, metric = figure.subplots(1, 3)
    _draw(loss, rows, {"training": "loss", "validation": "val_loss"})
    loss.set_ylabel("binary cross-entropy" if task.binary else "squared error (score / 100)")
    loss.set_yscale("log")
    _draw(accuracy, rows, {"training": "accuracy", "validation": "val_accuracy"})
    accuracy.set_ylabel("accuracy" if task.binary else "share in the exact severity class")
    accuracy.set_ylim(0.0, 1.0)
    _draw(metric, rows, {"validation": task.metric})
    metric.set_ylabel("AUC" if task.binary else "mean absolute error (score units, 0-100)")
    best = min(rows, key=lambda row: row["val_loss"])["epoch"]
    for panel in (loss, accuracy, metric):
        panel.axvline(best, color="0.6", linestyle=":", linewidth=1.0)
        panel.set_xlabel("epoch (dotted: best)")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _draw(panel: Any, rows: Sequence[HistoryRow], lines: dict[str, str]) -> None:
    """One line for each column that the history has; training is blue, validation orange."""
    colours = {"training": "C0", "validation": "C1"}
    epochs = [row["epoch"] for row in rows]
    for name, column in lines.items():
        if column in rows[0]:
            panel.plot(epochs, [row[column] for row in rows], label=name, color=colours[name])
