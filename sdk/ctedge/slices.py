"""The slice classifier: does this axial slice look abnormal?"""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MapRecord
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.clock import Clock
from ctedge.doors.door import Door
from ctedge.doors.sources import Source, axes, with_memory_errors
from ctedge.doors.volume_door import as_scan
from ctedge.errors import UnsupportedGeometry
from ctedge.explanation import Explanation
from ctedge.prediction import SliceAnswer, SlicesPrediction, label_of
from ctedge.quality import PictureQuality, Quality, insist, judge, judge_picture, look_closer
from ctedge.readers import read_slices
from ctedge.readers.picture import is_picture, read_picture
from ctedge.runtimes import Runtime
from ctedge.scan import CTScan
from ctedge.slice_input import (
    picture_plane,
    scan_of_picture,
    single_slices,
    slice_of_picture,
    slices_of_scan,
)
from ctedge.uses import in_use

#: Slices that run together, so that the memory does not grow with the scan.
SLICES_A_RUN = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class _Picture:
    """Grey levels (rows, columns) and where they came from."""

    levels: npt.NDArray[np.uint8]
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shown:
    """Slices as `SliceSpec` wants them, (slices, rows, columns), and what is known of each."""

    inputs: npt.NDArray[np.float32]
    indices: tuple[int, ...]
    z_mm: tuple[float | None, ...]
    quality: Quality | PictureQuality


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """The same with all that was asked for; the scan itself only where maps are drawn on it."""

    shown: _Shown
    source: str
    quality: Quality | PictureQuality
    to_explain: tuple[CTScan | _Picture, MapRecord] | None
    clock: Clock


class SliceClassifier(Door[SlicesPrediction]):
    """Judges single axial slices: those of a scan, or a picture of one.

    >>> with SliceClassifier.load("slices.ctedge") as classifier:
    ...     prediction = classifier.predict("scan.nii.gz")
    >>> prediction.highest.index, prediction.highest.z_mm, prediction.highest.probability
    """

    task: ClassVar[str] = "slices"

    def __init__(self, bundle: ModelBundle, runtime: Runtime) -> None:
        super().__init__(bundle, runtime)
        self._spec = bundle.slice_spec

    @in_use
    def predict(
        self,
        source: Source,
        *,
        slices: Iterable[int] | None = None,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
    ) -> SlicesPrediction:
        """Judge slices.

        Args:
            source: a picture of one slice (.png, .jpg, .jpeg: 8-bit grey), a (rows, columns)
                uint8 array of grey levels, one DICOM slice, or a scan: a NIfTI file, a folder with
                one axial DICOM series, a CTScan, or an (X, Y, Z) array of HU whose axes grow
                towards Left, Anterior and Superior. The rows of a picture run from anterior to
                posterior, its columns towards Left; of how many slices a scan consists does not
                matter.
            slices: indices of the scan's slices, 0 the most inferior; None means all.
            assess: look at the whole scan, as `ctedge.assess` does, whichever slices are judged;
                of a picture there is no more to see.
            strict: raise where there are red flags, before the network runs.
            explain: let the network draw where each answer comes from; `slices[n].explanation`.

        Raises:
            InputError: the scan or picture cannot be read, is not fit to be judged, or has no
                such slice; a picture is to be assessed.
            UnfitScan: red flags, and strict.
            MissingExtra: a picture without the extra `pictures`, assess without scipy.
            RuntimeUnavailable: explain, and the network has no map on this runtime.
            InferenceFailed: the network's answer is not a finite number.
        """
        record = self._finest_map() if explain else None
        return self._judge(
            self._prepare(source, slices=slices, assess=assess, strict=strict, record=record)
        )

    async def predict_async(
        self,
        source: Source,
        *,
        slices: Iterable[int] | None = None,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
    ) -> SlicesPrediction:
        """The same as `predict`, off the event loop; see `Door.predict_async`."""
        asked: Any = {"slices": slices, "assess": assess, "strict": strict, "explain": explain}
        answer = self._uses.off_loop(functools.partial(self.predict, source, **asked))
        del source  # an error that is kept would hold it
        return await answer

    @with_memory_errors
    def _prepare(
        self,
        source: Source,
        *,
        slices: Iterable[int] | None = None,
        assess: bool,
        strict: bool,
        record: MapRecord | None,
    ) -> _Prepared:
        clock = Clock()
        with clock.stage("read"):
            given = _open(source)
        with clock.stage("preprocess"):
            shown = self._show(given, slices)
        quality = shown.quality
        if assess:
            with clock.stage("assess"):
                quality = _look_closer(given, quality)
        if strict:
            insist(quality, given.source)
        return _Prepared(
            shown=shown,
            source=given.source,
            quality=quality,
            to_explain=None if record is None else (given, record),
            clock=clock,
        )

    def _judge(self, prepared: _Prepared) -> SlicesPrediction:
        shown, threshold = prepared.shown, self.bundle.threshold
        explanations: list[Explanation | None] = [None] * len(shown.indices)
        _ = self.runtime  # waits, where it is still being opened
        with prepared.clock.stage("inference"):
            if prepared.to_explain is None:
                outputs, _ = self._run_in_parts(shown.inputs, None)
            else:
                given, record = prepared.to_explain
                outputs, cells = self._run_in_parts(shown.inputs, record)
                explanations = self._explanations(given, shown.indices, cells, record)
        return SlicesPrediction(
            slices=tuple(
                SliceAnswer(
                    index=index,
                    z_mm=z_mm,
                    logit=output["logit"],
                    probability=output["probability"],
                    label=label_of(output["probability"], threshold, self.bundle.labels),
                    explanation=explanation,
                )
                for index, z_mm, output, explanation in zip(
                    shown.indices, shown.z_mm, outputs, explanations, strict=True
                )
            ),
            threshold=threshold,
            quality=prepared.quality,
            **self._context(prepared.source, prepared.clock),
        )

    def _run_in_parts(
        self, inputs: npt.NDArray[np.float32], record: MapRecord | None
    ) -> tuple[list[dict[str, float]], list[npt.NDArray[np.float32]]]:
        """Outputs and, where asked for, maps, a few slices at a time."""
        outputs: list[dict[str, float]] = []
        cells: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(inputs), SLICES_A_RUN):
            shown = inputs[start : start + SLICES_A_RUN]
            if record is None:
                outputs += self._run(shown)
            else:
                answers, drawn = self._run_explained(shown, record)
                outputs += answers
                cells += list(drawn)
        return outputs, cells

    def _explanations(
        self,
        given: CTScan | _Picture,
        indices: tuple[int, ...],
        cells: list[npt.NDArray[np.float32]],
        record: MapRecord,
    ) -> list[Explanation | None]:
        if isinstance(given, CTScan):
            scans, spec = list(single_slices(given, indices)), self._spec.plane
        else:
            scans, spec = [scan_of_picture(given.levels)], picture_plane(self._spec)
        return [
            Explanation.of_slice(scan, spec, drawn, record)
            for scan, drawn in zip(scans, cells, strict=True)
        ]

    def _show(self, given: CTScan | _Picture, slices: Iterable[int] | None) -> _Shown:
        if isinstance(given, CTScan):
            indices = _indices(given, slices)
            shown = slices_of_scan(given, indices, self._spec)
            return _Shown(
                inputs=shown.volume,
                indices=indices,
                z_mm=tuple(_z_mm(given, index) for index in indices),
                quality=judge(given, shown, least_slices=1),
            )
        if slices is not None:
            raise UnsupportedGeometry(
                f"{given.source}: a picture is one slice", fix="leave slices out, or give a scan"
            )
        picture = slice_of_picture(given.levels, self._spec, source=given.source)
        return _Shown(
            inputs=np.moveaxis(picture.volume, -1, 0),
            indices=(0,),
            z_mm=(None,),
            quality=judge_picture(given.levels, self._spec, source=given.source),
        )


def _look_closer(given: CTScan | _Picture, quality: Quality | PictureQuality) -> Quality:
    if isinstance(given, CTScan) and isinstance(quality, Quality):
        return look_closer(given, quality, None)[0]
    raise UnsupportedGeometry(
        f"{given.source}: a picture is one slice, and shows no more than was seen",
        fix="leave assess out, or give the scan that the picture was taken from",
    )


def _open(source: Source) -> CTScan | _Picture:
    """A picture where the name, or an array's two axes, say so; else a scan."""
    if isinstance(source, CTScan):
        return source
    if isinstance(source, str | os.PathLike):
        if is_picture(source):
            return _Picture(levels=read_picture(source), source=str(os.fspath(source)))
        return read_slices(source)
    if axes(source) == 2:
        return _Picture(levels=np.asarray(source), source="array")
    return as_scan(source)


def _indices(scan: CTScan, slices: Iterable[int] | None) -> tuple[int, ...]:
    indices = tuple(
        range(scan.shape[2]) if slices is None else (operator.index(index) for index in slices)
    )
    if not indices or len(set(indices)) != len(indices):
        raise UnsupportedGeometry(
            f"{scan.source}: no slices are named, or one of them twice",
            found=list(indices)[:20],
            expected=f"different indices, 0 (the most inferior) to {scan.shape[2] - 1}",
            fix="name every slice once, or leave slices out to judge all",
        )
    return indices


def _z_mm(scan: CTScan, index: int) -> float | None:
    """Where the centre of a slice lies along Superior; None where only its order is known."""
    if scan.orientation_assumed:
        return None
    columns, rows, _ = scan.shape
    centre = scan.affine @ np.array([(columns - 1) / 2, (rows - 1) / 2, index, 1.0])
    return round(float(centre[2]), 3)
