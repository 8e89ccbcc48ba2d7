"""What was seen of an input: facts of the header, measures of the voxels, and flags."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctedge.lungs import BySide, LungMask
from ctedge.quality.flag import Flag


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the network's input shows of the chest.

    Attributes:
        air_peak_hu: most frequent value of the air around the body. The window's lower end means
            that or less; None where the field holds no such air.
        tissue_peak_hu: most frequent value of soft tissue; None where there is none.
        aerated_ml: tissue with air in it, inside the body, -950 to -250 HU; None where the size
            of a voxel is not known.
        aerated_share: the same, as a share of the body.
        top_share, bottom_share: aerated area of the highest and the lowest plane, as a share of
            the largest.
        height_share: share of the planes that show a tenth of the largest aerated area or more.
        side_contact: how much of the body's depth reaches the left or right side of the field,
            mean over the planes, of the side where it is more.
    """

    air_peak_hu: float | None
    tissue_peak_hu: float | None
    aerated_ml: float | None
    aerated_share: float
    top_share: float
    bottom_share: float
    height_share: float
    side_contact: float


@dataclass(frozen=True, kw_only=True)
class LungsSeen:
    """Both lungs, or one, as `segment_lungs` finds them.

    Attributes:
        volume_ml: of each lung; None where the size of a voxel is not known.
        complete: both lungs were found.
        top_share, bottom_share: their area in the highest and the lowest plane, as a share of the
            largest; 0 where lung does not reach that plane.
    """

    volume_ml: BySide | None
    complete: bool
    top_share: float
    bottom_share: float

    @classmethod
    def of(cls, found: LungMask) -> LungsSeen:
        """What a segmentation amounts to."""
        areas = np.count_nonzero(found.mask, axis=(0, 1))
        largest = max(int(areas.max()), 1)
        return cls(
            volume_ml=found.volume_ml,
            complete=found.complete,
            top_share=int(areas[-1]) / largest,
            bottom_share=int(areas[0]) / largest,
        )


@dataclass(frozen=True, kw_only=True)
class ImageMeasures:
    """What the scan's own voxels show.

    Attributes:
        air_peak_hu, tissue_peak_hu: as in `Sight`, without a window.
        noise_hu: standard deviation of the noise in soft tissue; None where there is too little.
        noise_frequency: of that noise along the rows, in cycles a pixel: 0.33 is white noise,
            less a smooth kernel, more a sharp one, 0.5 the most that pixels hold.
        noise_frequency_per_mm: the same in cycles a millimetre; None where the size is not known.
        metal_ml: volume above 3000 HU; None where the size is not known.
        lung_hu: median of the lungs; None without lungs.
        mediastinum_hu: median of the soft tissue between the lungs, in front of the spine; None
            without lungs. Contrast medium raises it.
    """

    air_peak_hu: float | None
    tissue_peak_hu: float | None
    noise_hu: float | None
    noise_frequency: float | None
    noise_frequency_per_mm: float | None
    metal_ml: float | None
    lung_hu: float | None
    mediastinum_hu: float | None


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What was seen of a scan.

    Attributes:
        slices: number of slices.
        spacing_mm: voxel size along Left, Anterior, Superior; (1, 1, 1) for a bare array.
        field_mm: what the scan covers along Left, Anterior, Superior; None for a bare array.
        lowest_hu, highest_hu: extremes among the voxels that the network's input read.
        excluded: files left out of the volume, each with the reason.
        sight: what the network's input shows of the chest; None of single slices, of inputs too
            coarse or too narrow in HU to show any, and of networks that see the lungs only.
        lungs: of scans that were assessed and of networks that see the lungs only; None where no
            lungs were found.
        image: of scans that were assessed.
        flags: what a reader of the result should know; empty when nothing stands out.
    """

    slices: int
    spacing_mm: tuple[float, float, float]
    field_mm: tuple[float, float, float] | None
    lowest_hu: float
    highest_hu: float
    excluded: tuple[str, ...]
    sight: Sight | None = None
    lungs: LungsSeen | None = None
    image: ImageMeasures | None = None
    flags: tuple[Flag, ...]

    @property
    def red(self) -> tuple[Flag, ...]:
        """The flags that make an answer meaningless."""
        return tuple(flag for flag in self.flags if flag.red)


@dataclass(frozen=True, kw_only=True)
class PictureQuality:
    """What was seen of a picture.

    Attributes:
        rows, columns: its size in pixels.
        lowest_level, highest_level: extremes of its grey levels, 0..255.
        flags: what a reader of the result should know.
    """

    rows: int
    columns: int
    lowest_level: int
    highest_level: int
    flags: tuple[Flag, ...]

    @property
    def red(self) -> tuple[Flag, ...]:
        """The flags that make an answer meaningless."""
        return tuple(flag for flag in self.flags if flag.red)
