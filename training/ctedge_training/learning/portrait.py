"""What a run shows of itself: the network as text and as a drawing, and a sheet of its input."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctedge.files import atomic_file, write_atomic
from ctedge.spec import PreprocessSpec
from ctedge_training.learning.job import Job

if TYPE_CHECKING:
    import keras

SUMMARY_FILE = "network.txt"
DRAWING_FILE = "network.png"
MONTAGE_FILE = "input.png"

#: Slices on the sheet, as in the Keras example: 4 rows of 10.
MONTAGE_ROWS, MONTAGE_COLUMNS = 4, 10

#: DenseNet121 has 429 layers; those of one dense block are drawn as one.
_BLOCK = re.compile(r"(conv\d+)_block\d+_.*")

_COLOURS = {
    "Conv": "#cfe2f3",
    "Pool": "#fce5cd",
    "Batch": "#d9ead3",
    "Dense": "#d9d2e9",
}


def save_summary(path: Path, network: keras.Model) -> None:
    """Write what `network.summary()` says.

    Raises:
        OutputError: the file cannot be written.
    """
    lines: list[str] = []
    network.summary(line_length=79, print_fn=lambda line, line_break=True: lines.append(line))
    write_atomic(path, "\n".join(lines) + "\n")


def save_drawing(path: Path, network: keras.Model) -> None:
    """Draw the chain of layers, each with its output's shape and its number of parameters.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    boxes = _boxes(network)
    figure = Figure(figsize=(7.2, 0.42 * len(boxes) + 0.6))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_xlim(0, 10)
    axes.set_ylim(-len(boxes) - 0.3, 1.0)
    axes.axis("off")
    total = f"{network.count_params():,} parameters"
    axes.text(0.4, 0.55, f"{network.name}: {total}", fontsize=10, fontweight="bold", va="center")
    for row, (name, kind, shape, parameters) in enumerate(boxes):
        colour = next((c for word, c in _COLOURS.items() if word in kind), "#eeeeee")
        axes.add_patch(
            FancyBboxPatch(
                (0.4, -row - 0.32), 9.2, 0.64, boxstyle="round,pad=0.02", facecolor=colour,
                edgecolor="0.5", linewidth=0.6,
            )
        )  # fmt: skip
        axes.text(0.6, -row, name, fontsize=8, va="center", family="monospace")
        axes.text(3.3, -row, kind, fontsize=8, va="center")
        axes.text(7.6, -row, shape, fontsize=8, va="center", ha="right", family="monospace")
        if parameters:
            axes.text(9.4, -row, f"{parameters:,}", fontsize=8, va="center", ha="right")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def save_montage(path: Path, job: Job) -> None:
    """Draw one training input as the network sees it in the first epoch, augmentation and all.

    40 slices of a volume, or 40 pictures of the slice task, in radiological view.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    plan = job.training.epoch(job.settings, 1)
    tiles = MONTAGE_ROWS * MONTAGE_COLUMNS
    if isinstance(job.spec, PreprocessSpec):
        inputs, _ = plan.work(0).make()
        depth = job.spec.axes.index("S" if "S" in job.spec.axes else "I")
        volume = np.moveaxis(inputs[0, ..., 0], depth, 0)
        pictures = [volume[place] for place in np.linspace(0, len(volume) - 1, tiles).astype(int)]
    else:
        batches = (plan.work(index).make()[0] for index in range(len(plan)))
        pictures = list(itertools.islice(itertools.chain.from_iterable(batches), tiles))
        pictures = [picture[..., 0] for picture in pictures]
    figure = Figure(figsize=(MONTAGE_COLUMNS * 1.2, MONTAGE_ROWS * 1.2), facecolor="black")
    panels = figure.subplots(MONTAGE_ROWS, MONTAGE_COLUMNS)
    figure.subplots_adjust(wspace=0.02, hspace=0.02, left=0, right=1, bottom=0, top=1)
    for panel, picture in itertools.zip_longest(panels.flat, pictures):
        panel.axis("off")
        if picture is not None:
            panel.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=100)


def confidence_sentences(labels: tuple[str, ...], probability: float) -> list[str]:
    """The Keras example's words for one scan, a sentence a class.

    Args:
        labels: the two classes, the positive one last.
        probability: of the positive one.
    """
    shares = (1.0 - probability, probability)
    return [
        f"This model is {100.0 * share:.2f} percent confident that CT scan is {label}"
        for label, share in zip(labels, shares, strict=True)
    ]


def _boxes(network: keras.Model) -> list[tuple[str, str, str, int]]:
    """Name, kind, output shape and parameters of each box."""
    boxes = []
    groups = itertools.groupby(network.layers, key=lambda layer: _block_of(layer.name))
    for name, members in groups:
        layers = list(members)
        last = layers[-1]
        kind = type(last).__name__
        if len(layers) > 1:
            convolutions = sum("Conv" in type(layer).__name__ for layer in layers)
            kind = f"Dense block, {convolutions} Conv2D"
        shape = " x ".join(str(size) for size in last.output.shape[1:])
        boxes.append((name, kind, shape, sum(layer.count_params() for layer in layers)))
    return boxes


def _block_of(name: str) -> str:
    found = _BLOCK.fullmatch(name)
    return f"{found[1]}_block" if found else name
