"""Finding the lungs with a network: the U-Net R231 of Hofmanninger et al., from its bundle.

`ctedge export lungmask` makes the bundle of the published weights. Prediction needs scipy, from the
extra `lungs`, and a runtime; it needs no torch.
"""

from __future__ import annotations

import contextlib
import os
from types import ModuleType, TracebackType

import numpy as np
import numpy.typing as npt

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InferenceFailed, NoLungs
from ctedge.extras import require
from ctedge.lifetime import given_to_runtime
from ctedge.lungs import grid
from ctedge.lungs.grid import Labels
from ctedge.lungs.mask import LEFT, RIGHT, LungMask
from ctedge.lungs.patches import two_lungs
from ctedge.lungs.slices import Box, network_slice, oriented, scan_labels
from ctedge.runtimes import Device, Runtime, RuntimeName, open_runtime
from ctedge.scan import CTScan
from ctedge.uses import Loaded, Uses, holding, in_use

_PURPOSE = "finding the lungs"


class LungSegmenter(Loaded):
    """Finds both lungs of a chest CT with a network.

    Threads may share it; a process that is forked from this one may not.

    >>> with LungSegmenter.load("lungs-r231.ctedge") as segmenter:
    ...     lungs = segmenter.segment(read_scan("scan.nii.gz"))
    >>> lungs.volume_ml, affected_share(scan, lungs)
    """

    #: The task a bundle must have to be opened.
    task = "lungs"

    def __init__(self, bundle: ModelBundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self._runtime = runtime
        self._uses = Uses(runtime)
        self._spec = bundle.lung_spec

    @classmethod
    def load(
        cls,
        bundle: str | os.PathLike[str],
        *,
        device: Device | None = None,
        runtime: RuntimeName | None = None,
    ) -> LungSegmenter:
        """Verify a bundle and load its network.

        Args:
            bundle: a folder NAME.ctedge, as `ctedge export lungmask` writes it.
            device, runtime: as of `Classifier.load`.

        Raises:
            BundleError: not there, damaged, tampered with, unsafe, or made for another task.
            RuntimeUnavailable: the device or runtime cannot be had on this machine.
            MissingExtra: scipy is not installed.
        """
        require("scipy.ndimage", extra="lungs", purpose=_PURPOSE)
        verified = ModelBundle.load(bundle, task=cls.task)
        opened = open_runtime(verified, device=device, runtime=runtime)
        return holding(cls, verified, opened)

    @property
    def runtime(self) -> str:
        """Runtime, device and precision, for instance "onnxruntime-cpu-fp32"."""
        return self._runtime.name

    @in_use
    def segment(self, scan: CTScan) -> LungMask:
        """Find both lungs, in every slice of a scan.

        Args:
            scan: HU in LAS order, of any number of slices. Where its voxels are still in their
                files, these are read once, while the network runs.

        Returns:
            The lungs in the scan's own voxels: what the package `lungmask` answers for the same
            weights. Nothing is known of the windpipe's borders or of a lung's missing parts.

        Raises:
            NoLungs: the network finds no lung in the scan.
            UnreadableScan, CodecUnavailable: a slice cannot be read or decoded.
            InferenceFailed: the network's answer is none; or the segmenter was closed, or was
                loaded before this process was forked.
        """
        ndimage = require("scipy.ndimage", extra="lungs", purpose=_PURPOSE)
        return mask_of(scan, self._labels_of(scan, ndimage))

    def _labels_of(self, scan: CTScan, ndimage: ModuleType) -> Labels:
        """The class of every voxel (X, Y, Z)."""
        count = scan.shape[2]
        found = np.empty((count, *self._spec.shape), dtype=np.uint8)
        boxes: list[Box] = []
        with contextlib.closing(scan.planes.each(range(count))) as planes:
            for index, plane in enumerate(planes):
                shown, box = network_slice(oriented(plane), self._spec, ndimage)
                found[index] = self._label(shown)
                boxes.append(box)
        labels = np.empty(scan.shape, dtype=np.uint8)
        shape = (scan.shape[1], scan.shape[0])
        for index, (one, box) in enumerate(zip(two_lungs(found, ndimage), boxes, strict=True)):
            labels[:, :, index] = scan_labels(one, box, shape, ndimage).T[:, ::-1]
        return labels

    def _label(self, shown: npt.NDArray[np.float32]) -> Labels:
        """The class of every pixel of a slice of `spec.shape`.

        Each runs alone: it takes 0.2 GB, and a CPU is no faster with more at a time.
        """
        logits = given_to_runtime(self._runtime.run, shown[np.newaxis, np.newaxis])["logits"]
        expected = (1, len(self.bundle.labels), *self._spec.shape)
        if logits.shape != expected or not np.isfinite(logits).all():
            raise InferenceFailed(
                f"the answer of {self.bundle.name} is none",
                found=f"shape {logits.shape}, lowest {logits.min()}, highest {logits.max()}",
                expected=f"finite numbers of shape {expected}",
                fix="run `ctedge export verify` on the bundle, and report the scan",
            )
        return np.asarray(logits[0].argmax(axis=0), dtype=np.uint8)

    def close(self) -> None:
        """Wait for scans under way, then free the runtime; others raise InferenceFailed.

        Raises:
            InferenceFailed: this thread segments a scan, for which it would wait: see `Door.close`.
        """
        if self._uses.end():
            given_to_runtime(self._runtime.close)

    def __enter__(self) -> LungSegmenter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def mask_of(scan: CTScan, labels: Labels) -> LungMask:
    """What a network labelled, in the scan's voxels (X, Y, Z), as a lung mask.

    Raises:
        NoLungs: no voxel is lung.
    """
    present = [bool((labels == side).any()) for side in (RIGHT, LEFT)]
    if not any(present):
        raise NoLungs(
            f"{scan.source}: the network finds no lungs",
            expected="CT of the chest in HU, with tissue around the lungs",
            fix="check the scan, or try segment_lungs(scan), which says what it found",
        )
    return LungMask(
        labels=labels,
        affine=scan.affine.copy(),
        spacing_stated=grid.states_spacing(scan),
        complete=all(present),
        cut_at_top=bool(labels[:, :, -1].any()),
        cut_at_bottom=bool(labels[:, :, 0].any()),
        source=scan.source,
    )
