"""One sample to the input that is stored: read, judged as prediction judges, preprocessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ctedge.errors import DatasetError
from ctedge.preprocessing import resample
from ctedge.quality import judge, judge_picture
from ctedge.readers import read_scan, read_slices
from ctedge.readers.picture import is_picture, read_picture
from ctedge.scan import CTScan
from ctedge.slice_input import slice_of_picture, slice_of_scan
from ctedge.spec import SliceSpec, Spec
from ctedge_training.datasets.labels import Sample


class MaskSource(Protocol):
    """Where lung masks come from: files, or a segmenter."""

    def __call__(self, name: str, scan: CTScan) -> npt.NDArray[np.bool_]:
        """(X, Y, Z) booleans in the order of the scan's voxels."""

    def digest(self, name: str) -> str:
        """What the mask of a scan is made from, so that another one is stored anew."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rendered:
    """A preprocessed input, float32, `spec.shape`, 0..1, and what is known of its scan."""

    volume: npt.NDArray[np.float32]
    facts: Mapping[str, Any]


def render(sample: Sample, spec: Spec, masks: MaskSource | None) -> Rendered:
    """Read and preprocess one sample.

    Raises:
        InputError: it cannot be read, or prediction would refuse it.
        DatasetError: a volume without the slice that is meant, a picture with one, or a lung mask
            that does not fit the scan.
    """
    if isinstance(spec, SliceSpec):
        return _slice(sample, spec)
    scan = read_scan(sample.path)
    mask = masks(mask_name(sample), scan) if masks is not None else None
    prepared = resample(scan, spec, lung_mask=mask)
    judge(scan, prepared)  # what prediction would refuse is not learnt from either
    return Rendered(volume=prepared.volume, facts=_facts(scan))


def mask_name(sample: Sample) -> str:
    """The name that a mask goes by: the scan's own, without folder and suffix."""
    return sample.path.name.removesuffix(".gz").removesuffix(".nii")


def _slice(sample: Sample, spec: SliceSpec) -> Rendered:
    if is_picture(sample.path):
        if sample.slice_index is not None:
            raise DatasetError(
                f"{sample.name}: a picture has no slices",
                found=f"slice {sample.slice_index}",
                expected="an empty value in the column slice",
                fix="leave the column slice empty, or name the volume",
            )
        levels = read_picture(sample.path)
        judge_picture(levels, spec, source=str(sample.path))
        prepared = slice_of_picture(levels, spec, source=str(sample.path))
        return Rendered(volume=prepared.volume[..., 0], facts={"shape": list(levels.shape)})
    scan = read_slices(sample.path)
    index = 0 if sample.slice_index is None and scan.shape[2] == 1 else sample.slice_index
    if index is None:
        raise DatasetError(
            f"{sample.name}: which slice of the volume is meant?",
            found=f"{scan.shape[2]} slices",
            expected="an index in the column slice, 0 the most inferior",
            fix="add the column slice to the label file; a scan may stand on several rows",
        )
    prepared = slice_of_scan(scan, index, spec)
    judge(scan, prepared, least_slices=1)
    return Rendered(volume=prepared.volume[..., 0], facts=_facts(scan))


def _facts(scan: CTScan) -> dict[str, Any]:
    return {
        "spacing_mm": [round(size, 4) for size in scan.spacing_mm],
        "shape": list(scan.shape),
    }
