"""What the classifier and the severity regressor share: a whole scan makes one input."""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MapRecord
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.clock import Clock
from ctedge.doors.door import Door, Result
from ctedge.doors.sources import Source, axes, with_memory_errors
from ctedge.errors import InputError
from ctedge.extras import require
from ctedge.preprocessing import resample
from ctedge.quality import LungsSeen, Quality, TrainedOn, insist, judge, look_closer, with_flags
from ctedge.readers import read_scan
from ctedge.runtimes import Runtime, lend_input
from ctedge.scan import CTScan
from ctedge.uses import in_use

if TYPE_CHECKING:
    from ctedge.lungs import AffectedShare, LungMask


@dataclass(frozen=True, kw_only=True, eq=False)
class _PreparedScan:
    """A scan as `PreprocessSpec` wants it, (1, *shape), and what is known of it.

    Attributes:
        shown: float32, or in memory that the runtime has lent.
        share: how much of each lung is dense, where that is measured.
        to_explain: the scan, and which map to draw on it; a scan is large, and is held no longer.
        clock: has timed what was done so far.
    """

    shown: npt.NDArray[Any]
    source: str
    quality: Quality
    share: AffectedShare | None
    to_explain: tuple[CTScan, MapRecord] | None
    clock: Clock


class VolumeDoor(Door[Result]):
    """A loaded model that judges whole scans. Threads may share it."""

    #: Whether the door's result says how much of each lung is dense, where lungs were looked for.
    measures_lungs: ClassVar[bool] = False

    def __init__(self, bundle: ModelBundle, runtime: Runtime) -> None:
        super().__init__(bundle, runtime)
        self._spec = bundle.volume_spec
        self._trained = TrainedOn.of(bundle.provenance)
        if self._spec.lungs_only:
            require("scipy.ndimage", extra="lungs", purpose="finding the lungs")

    @in_use
    def predict(
        self, source: Source, *, assess: bool = False, strict: bool = False, explain: bool = False
    ) -> Result:
        """Judge one scan.

        Args:
            source: a NIfTI file, a folder with one axial DICOM series, a CTScan, or an
                (X, Y, Z) array of HU whose axes grow towards Left, Anterior and Superior.
            assess: look at the whole scan, as `ctedge.assess` does; the answer's `quality` then
                says more. Needs scipy and a second or two.
            strict: raise where there are red flags, before the network runs.
            explain: let the network draw where its answer comes from, too; takes up to twice as
                long again. The finest map that network and runtime have is `explanation`.

        Raises:
            InputError: the scan cannot be read or is not fit to be judged.
            UnfitScan: red flags, and strict.
            MissingExtra: assess, and scipy is not installed.
            RuntimeUnavailable: explain, and the network has no map on this runtime.
            InferenceFailed: the network's answer is not a finite number.
        """
        record = self._finest_map() if explain else None
        return self._judge(self._prepare(source, assess=assess, strict=strict, record=record))

    @with_memory_errors
    def _prepare(
        self, source: Source, *, assess: bool, strict: bool, record: MapRecord | None
    ) -> _PreparedScan:
        clock = Clock()
        with clock.stage("read"):
            scan = as_scan(source)
        with clock.stage("preprocess"):
            lungs = _lungs_of(scan) if self._spec.lungs_only else None
            mask = lungs.on(scan) if lungs else None
            lent = lend_input(self._runtime)
            out = None if lent is None else lent[0, 0]
            prepared = resample(scan, self._spec, lung_mask=mask, out=out)
            quality = judge(scan, prepared, spec=self._spec, trained=self._trained)
            if lungs is not None:
                quality = replace(quality, lungs=LungsSeen.of(lungs))
                quality = with_flags(quality, scan, self._trained)
        if assess:
            with clock.stage("assess"):
                quality, lungs = look_closer(scan, quality, self._trained, lungs=lungs)
        if strict:
            insist(quality, scan.source)
        share = None
        if self.measures_lungs and lungs is not None:
            from ctedge.lungs import affected_share

            with clock.stage("lungs"):
                share = affected_share(scan, lungs)
        return _PreparedScan(
            shown=prepared.volume[np.newaxis],
            source=scan.source,
            quality=quality,
            share=share,
            to_explain=None if record is None else (scan, record),
            clock=clock,
        )

    def _judge(self, prepared: _PreparedScan) -> Result:
        explanation = None
        _ = self.runtime  # where it is still being opened this waits, which is no inference
        with prepared.clock.stage("inference"):
            if prepared.to_explain is None:
                (outputs,) = self._run(prepared.shown)
            else:
                from ctedge.explanation import Explanation

                scan, record = prepared.to_explain
                (outputs,), (cells,) = self._run_explained(prepared.shown, record)
                explanation = Explanation(cells=cells, scan=scan, spec=self._spec, record=record)
        context = self._context(prepared.source, prepared.clock)
        context |= {"quality": prepared.quality, "explanation": explanation}
        if self.measures_lungs:
            context["lungs"] = prepared.share
        return self._result(outputs, context)

    @abstractmethod
    def _result(self, outputs: dict[str, float], context: dict[str, Any]) -> Result:
        """Make the door's own result of the network's outputs and what every result says."""


def _lungs_of(scan: CTScan) -> LungMask:
    from ctedge.lungs import segment_lungs

    return segment_lungs(scan)


def as_scan(source: Source) -> CTScan:
    """The scan that was given, or that lies at a path, or of an array of HU."""
    if isinstance(source, CTScan):
        return source
    if isinstance(source, str | os.PathLike):
        return read_scan(source)
    if axes(source) == 0:
        raise InputError(
            "this is no scan",
            found=f"{type(source).__name__} {source!a}"[:80],
            expected="a path, a CTScan, or an (X, Y, Z) array of HU",
            fix="pass one of these",
        )
    return CTScan.from_array(source)
