"""The full look at a scan: lungs, noise, kernel, metal, contrast medium. Needs scipy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy.typing as npt

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import NoLungs
from ctedge.lungs import LungMask
from ctedge.preprocessing import resample
from ctedge.quality.image import measure
from ctedge.quality.judge import judge
from ctedge.quality.quality import ImageMeasures, LungsSeen, Quality
from ctedge.quality.rules import with_flags
from ctedge.quality.trained import USUAL, TrainedOn
from ctedge.scan import CTScan
from ctedge.spec import KERAS_EXAMPLE

_Seen = WeakKeyDictionary[CTScan, tuple[LungMask | None, ImageMeasures]]

#: What was seen of scans that are still there, while `looking_once` lasts.
_SEEN: ContextVar[_Seen | None] = ContextVar("ctedge_seen", default=None)


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
    known = _SEEN.get()
    if known is not None and scan in known:
        lungs, image = known[scan]
    else:
        lungs = _lungs_of(scan) if lungs is None else lungs
        image = measure(scan, lungs, quality.field_mm)
        if known is not None:
            known[scan] = lungs, image
    seen = None if lungs is None else LungsSeen.of(lungs)
    return with_flags(replace(quality, lungs=seen, image=image), scan, trained), lungs


@contextmanager
def looking_once() -> Iterator[None]:
    """Inside, each scan is looked at once, however many models judge it: it must not change."""
    token = _SEEN.set(WeakKeyDictionary())
    try:
        yield
    finally:
        _SEEN.reset(token)


def _lungs_of(scan: CTScan) -> LungMask | None:
    from ctedge.lungs import segment_lungs

    try:
        return segment_lungs(scan)
    except NoLungs:
        return None
