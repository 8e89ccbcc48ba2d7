"""The learning curves as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctedge.extras import require
from ctedge.files import atomic_file
from ctedge_training.run import HistoryRow
from ctedge_training.tasks import CLASSIFIER, Task


def save_curves(path: Path, rows: Sequence[HistoryRow], task: Task) -> None:
    """Draw loss and validation metric over the epochs as PNG.

    Raises:
        MissingExtra: matplotlib is absent.
        OutputError: the file cannot be written.
    """
    require("matplotlib", extra="training", purpose="drawing the learning curves")
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, [row["loss"] for row in rows], label="training")
    left.plot(epochs, [row["val_loss"] for row in rows], label="validation")
    left.set_ylabel("binary cross-entropy" if task is CLASSIFIER else "squared error (score / 100)")
    left.set_yscale("log")
    left.legend()
    right.plot(epochs, [row[task.metric] for row in rows], color="C1")
    right.set_ylabel(
        "validation AUC" if task is CLASSIFIER else "validation MAE (score units, 0-100)"
    )
    best = min(rows, key=lambda row: row["val_loss"])["epoch"]
    for panel in (left, right):
        panel.axvline(best, color="0.6", linestyle=":", linewidth=1.0)
        panel.set_xlabel("epoch (dotted: best)")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(alpha=0.3)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
