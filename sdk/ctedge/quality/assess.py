"""The full look at a scan: lungs, noise, kernel, metal, contrast medium. Needs scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy.typing as npt

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import NoLungs
from ctedge.lungs import LungMask, segment_lungs
from ctedge.preprocessing import resample
from ctedge.quality.image import measure
from ctedge.quality.judge import judge
from ctedge.quality.quality import LungsSeen, Quality
from ctedge.quality.rules import with_flags
from ctedge.quality.trained import USUAL, TrainedOn
from ctedge.scan import CTScan
from ctedge.spec import KERAS_EXAMPLE


def assess(scan: CTScan | npt.ArrayLike, *, bundle: ModelBundle | None = None) -> Quality:
    """Look at a whole scan: is it fit to be judged?

    Where `predict` looks at the header and at what the network sees, this reads the scan: it finds
    the lungs, and measures peaks, noise, kernel, metal and contrast medium on up to 64 planes.

    Args:
        scan: a CTScan, or an (X, Y, Z) array of HU whose axes grow towards Left, Anterior and
            Superior.
        bundle: the model that is to judge it, whose training the geometry is held against; None
            holds it against usual chest CT.

    Returns:
        A Quality with `lungs` (None where there are none) and `image`.

    Raises:
        InputError: the scan cannot be read, or is no CT in HU.
        MissingExtra: scipy is not installed.
    """
    scan = scan if isinstance(scan, CTScan) else CTScan.from_array(scan)
    trained = USUAL if bundle is None else TrainedOn.of(bundle.provenance)
    seen = judge(scan, resample(scan, KERAS_EXAMPLE), spec=KERAS_EXAMPLE, trained=trained)
    quality, _ = look_closer(scan, seen, trained)
    return quality


def look_closer(
    scan: CTScan, quality: Quality, trained: TrainedOn | None, *, lungs: LungMask | None = None
) -> tuple[Quality, LungMask | None]:
    """Add to what was judged what the scan itself shows.

    Args:
        scan: the whole scan.
        quality: of `judge`.
        trained: what the model has learnt from.
        lungs: where they were found already.

    Returns:
        The whole quality, and the lungs, None where there are none.
    """
    if lungs is None:
        try:
            lungs = segment_lungs(scan)
        except NoLungs:
            lungs = None
    image = measure(scan, lungs, quality.field_mm)
    seen = None if lungs is None else LungsSeen.of(lungs)
    return with_flags(replace(quality, lungs=seen, image=image), scan, trained), lungs
