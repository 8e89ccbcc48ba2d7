"""Where a slice network looks: Grad-CAM, and a sheet of overlays.

Grad-CAM weights each channel of a layer by the mean gradient of the logit (Selvaraju et al., 2017).
DenseNet121 ends in ReLU, global average and one Dense: the gradient is the Dense weight over the
number of places, the same everywhere. So nothing is differentiated: the map is exact and cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge.files import atomic_file
from ctedge.slice_input import three_channels
from ctedge.spec import SliceSpec
from ctedge_training.datasets.volume import Volume
from ctedge_training.judging.rows import Judged

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]

SHEET_FILE = "gradcam.png"

#: Slices of each kind on the sheet: the surest ones.
PER_KIND = 6

_KINDS = ("true positive", "false negative", "false positive", "true negative")


def heat_maps(network: keras.Model, inputs: Floats) -> Floats:
    """Grad-CAM of the logit at the last ReLU.

    Args:
        network: of `build_network` for slices.
        inputs: (n, rows, columns, 3) float32, as `three_channels` gives.

    Returns:
        (n, h, w) float32, not negative, in units of the logit: its mean over the places is what
        the places that speak for the positive class add to the logit.
    """
    import keras

    activations = keras.Model(network.inputs[0], network.get_layer("relu").output)
    found = np.asarray(activations.predict(inputs, verbose=0), dtype=np.float32)
    kernel = np.asarray(network.get_layer("output").get_weights()[0], dtype=np.float32)
    maps: Floats = np.maximum(found @ kernel[:, 0], 0.0)
    return maps


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shown:
    """One slice on the sheet."""

    row: Judged
    grey: Floats
    heat: Floats


def save_sheet(  # noqa: PLR0913
    path: Path,
    network: keras.Model,
    spec: SliceSpec,
    volumes: Sequence[Volume],
    rows: Sequence[Judged],
    *,
    threshold: float,
) -> None:
    """Draw the surest slices of each kind with their heat maps over them.

    Args:
        path: the PNG.
        network: of `build_network` for slices.
        spec: what it is fed with.
        volumes: the judged slices.
        rows: what was said of them, in the same order.
        threshold: the positive label is given from this probability on.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    chosen = _surest(rows, threshold)
    places = [place for kind in _KINDS for place in chosen[kind]]
    grey = np.stack([volumes[place].load() for place in places])
    maps = heat_maps(network, three_channels(grey, spec))
    strongest = max(float(maps.max()), 1e-6)
    shown = {
        place: _Shown(row=rows[place], grey=picture, heat=heat / strongest)
        for place, picture, heat in zip(places, grey, maps, strict=True)
    }
    figure = Figure(figsize=(1.7 * PER_KIND + 0.4, 2.0 * len(_KINDS)), layout="constrained")
    panels = figure.subplots(len(_KINDS), PER_KIND, squeeze=False)
    for kind, line in zip(_KINDS, panels, strict=True):
        line[0].set_title(f"{kind}s", loc="left", fontsize=10, fontweight="bold")
        for panel in line:
            panel.axis("off")
        for panel, place in zip(line, chosen[kind], strict=False):
            _draw(panel, shown[place])
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _surest(rows: Sequence[Judged], threshold: float) -> dict[str, list[int]]:
    """Of each kind the rows whose probability lies farthest from the threshold."""
    kinds: dict[str, list[int]] = {kind: [] for kind in _KINDS}
    for place, row in enumerate(rows):
        called = row.predicted >= threshold
        right = "true" if called == (row.answer == 1.0) else "false"
        kinds[f"{right} {'positive' if called else 'negative'}"].append(place)
    return {
        kind: sorted(places, key=lambda p: -abs(rows[p].predicted - threshold))[:PER_KIND]
        for kind, places in kinds.items()
    }


def _draw(panel: Any, shown: _Shown) -> None:
    height, width = shown.grey.shape
    extent = (0, width, height, 0)
    panel.imshow(shown.grey, cmap="gray", vmin=0.0, vmax=1.0, extent=extent)
    panel.imshow(
        shown.heat,
        cmap="inferno",
        vmin=0.0,
        vmax=1.0,
        alpha=0.6 * np.sqrt(shown.heat),
        extent=extent,
        interpolation="bilinear",
    )
    panel.text(
        0.03,
        0.03,
        f"p = {shown.row.predicted:.2f}",
        transform=panel.transAxes,
        color="white",
        fontsize=8,
        va="bottom",
        bbox={"facecolor": "black", "alpha": 0.6, "linewidth": 0, "pad": 1.5},
    )
