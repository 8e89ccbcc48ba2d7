"""What a model is shown, again and again: a phantom in memory, or a file that is read each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.phantom import draw_patient, render
from ctedge.readers import read_scan, read_slices, refuse_options
from ctedge.readers.picture import is_picture
from ctedge.scan import CTScan

#: As the scans of MosMed, which the published networks learnt from, have it.
PHANTOM_SHAPE = (512, 512, 41)
_PHANTOM_SEED, _LESION_SHARE = 0, 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One scan or picture.

    Attributes:
        source: in memory, or where it is read anew for every answer.
        reading: options of `read_scan` for it, by their names.
        shape: voxels along Left, Anterior, Superior; None for a picture.
    """

    source: CTScan | str
    reading: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, int, int] | None

    @property
    def in_memory(self) -> bool:
        """Whether there is nothing to read."""
        return isinstance(self.source, CTScan)


def shown_to(bundle: ModelBundle, source: str | Path | None, reading: Mapping[str, Any]) -> Shown:
    """What a bundle is shown; a file is read once beforehand, to be refused early.

    Args:
        bundle: which judges it.
        source: of a scan or picture; None renders a phantom.
        reading: options of `read_scan`, by their names.

    Raises:
        InputError: it cannot be read, or not with these options.
    """
    if source is None:
        refuse_options("the synthetic scan", reading)
        drawn = render(draw_patient(_PHANTOM_SEED, lesion_share=_LESION_SHARE), shape=PHANTOM_SHAPE)
        phantom = CTScan.from_oriented(drawn.voxels, drawn.affine, source="phantom")
        return Shown(source=phantom, shape=phantom.shape)
    path = str(source)
    if bundle.task == "slices" and is_picture(path):
        refuse_options(path, reading)
        return Shown(source=path, shape=None)
    read = read_slices if bundle.task == "slices" else read_scan
    return Shown(source=path, reading=reading, shape=read(path, **reading).shape)
