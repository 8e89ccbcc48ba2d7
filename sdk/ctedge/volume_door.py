"""What the classifier and the severity regressor share: a whole scan makes one input."""

from __future__ import annotations

import os
from abc import abstractmethod
from typing import Any

import numpy as np

from ctedge.bundle import ModelBundle
from ctedge.clock import Clock
from ctedge.door import Door, Result, Source
from ctedge.extras import require
from ctedge.lungs import segment_lungs
from ctedge.preprocessing import resample
from ctedge.quality import judge
from ctedge.readers import read_scan
from ctedge.runtimes import Runtime
from ctedge.scan import CTScan


class VolumeDoor(Door[Result]):
    """A loaded model that judges whole scans. Threads may share it."""

    def __init__(self, bundle: ModelBundle, runtime: Runtime) -> None:
        super().__init__(bundle, runtime)
        self._spec = bundle.volume_spec
        if self._spec.lungs_only:
            require("scipy.ndimage", extra="lungs", purpose="finding the lungs")

    def predict(self, source: Source) -> Result:
        """Judge one scan.

        Args:
            source: a NIfTI file, a folder with one axial DICOM series, a CTScan, or an
                (X, Y, Z) array of HU whose axes grow towards Left, Anterior and Superior.

        Raises:
            InputError: the scan cannot be read or is not fit to be judged.
            InferenceFailed: the network's answer is not a finite number.
        """
        clock = Clock()
        with clock.stage("read"):
            scan = as_scan(source)
        with clock.stage("preprocess"):
            mask = segment_lungs(scan).on(scan) if self._spec.lungs_only else None
            prepared = resample(scan, self._spec, lung_mask=mask)
            quality = judge(scan, prepared)
        with clock.stage("inference"):
            (outputs,) = self._run(prepared.volume[np.newaxis])
        return self._result(outputs, {**self._context(scan.source, clock), "quality": quality})

    @abstractmethod
    def _result(self, outputs: dict[str, float], context: dict[str, Any]) -> Result:
        """Make the door's own result of the network's outputs and what every result says."""


def as_scan(source: Source) -> CTScan:
    """The scan that was given, or that lies at a path, or of an array of HU."""
    if isinstance(source, CTScan):
        return source
    if isinstance(source, str | os.PathLike):
        return read_scan(source)
    return CTScan.from_array(source)
