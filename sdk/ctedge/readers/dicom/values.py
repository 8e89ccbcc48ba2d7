"""How stored values become HU: PS3.3 C.7.6.3 (pixels) and C.11.1 (modality LUT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import IrregularSeries, NonFiniteVoxels
from ctedge.readers.dicom.elements import Frame, numbers
from ctedge.readers.dicom.opening import damaged, damaged_header
from ctedge.readers.rescale import to_hu

#: What padding, and what lies outside the reconstructed circle, becomes: air.
AIR_HU = -1000

#: The CT scale begins here; what is lower was never measured (-2000 and -3024 outside the circle).
LOWEST_HU = -1024


@dataclass(frozen=True, kw_only=True, eq=False)
class LookupTable:
    """A modality LUT: stored values below `first` and beyond the end take the nearest entry.

    Attributes:
        first: the stored value of the first entry.
        hu: (entries,) float64.
    """

    first: int
    hu: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredValues:
    """How stored values become HU.

    Attributes:
        bits_allocated, bits_stored, high_bit: the layout of a stored value.
        signed: two's complement in the stored bits.
        padding: the range of stored values that means "nothing was measured here".
        slope, intercept: the linear map to HU.
        table: the lookup table to HU, in place of slope and intercept.
    """

    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None
    slope: float
    intercept: float
    table: LookupTable | None


def stored_values(name: str, frame: Frame, *, big_endian: bool = False) -> StoredValues:
    """What a frame's header says of its stored values.

    Args:
        name: of the slice, for messages.
        frame: its header.
        big_endian: the order of the bytes in words that pydicom leaves as they are (VR OW).

    Raises:
        IrregularSeries: a layout that no CT has, or no map to HU.
        UnreadableScan: a broken lookup table.
    """

    def whole(keyword: str, default: float | None = None) -> int:
        return int(numbers(name, frame, keyword, 1, default=default)[0])

    allocated = whole("BitsAllocated")
    stored = whole("BitsStored", default=allocated)
    high = whole("HighBit", default=stored - 1)
    signed = whole("PixelRepresentation", default=0) == 1
    if allocated not in (8, 16, 32) or not 1 <= stored <= high + 1 <= allocated:
        raise IrregularSeries(
            f"{name}: the pixels are laid out in no way that a CT has",
            found=f"{allocated} bits allocated, {stored} stored, high bit {high}",
            expected="8, 16 or 32 bits allocated that hold the stored ones",
            fix="export the series from the scanner again",
        )
    table = frame.get("ModalityLUTSequence")
    slope, intercept = 1.0, 0.0
    if not table:
        slope = numbers(name, frame, "RescaleSlope", 1)[0]
        intercept = numbers(name, frame, "RescaleIntercept", 1)[0]
    return StoredValues(
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        signed=signed,
        padding=_padding(name, frame, signed, allocated),
        slope=slope,
        intercept=intercept,
        table=_table(name, table[0], signed, big_endian) if table else None,
    )


def _padding(name: str, frame: Frame, signed: bool, bits: int) -> tuple[int, int] | None:
    """The range of stored values that means "nothing was measured here"."""
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if frame.get(keyword) not in (None, ""):
            value = int(numbers(name, frame, keyword, 1)[0])
            # A negative value of a signed image, read as unsigned.
            ends.append(value - (1 << bits) if signed and value >= 1 << (bits - 1) else value)
    return (min(ends), max(ends)) if ends else None


def _table(name: str, item: Any, signed: bool, big_endian: bool) -> LookupTable:
    """The modality LUT: descriptor (entries, first stored value, bits an entry), then entries."""
    try:
        entries, first, bits = (int(number) for number in item.LUTDescriptor)
        data = item.LUTData
        words = (
            np.frombuffer(data, ">u2" if big_endian else "<u2")
            if isinstance(data, bytes)
            else np.asarray(data)
        )
    except MemoryError:  # a want of it is no damage
        raise
    except Exception as error:  # pydicom raises many kinds on broken tables
        raise damaged_header(name, error) from error
    entries = entries or 1 << 16
    first -= (1 << 16) if signed and first >= 1 << 15 else 0
    if words.ndim != 1 or len(words) < entries or bits not in range(8, 17):
        raise damaged(name, f"a lookup table of {words.shape} for {entries} entries of {bits} bits")
    kind = str(item.get("ModalityLUTType") or "")
    if kind not in ("HU", "HU_MOD"):
        raise IrregularSeries(
            f"{name}: a lookup table maps the stored values to something else than HU",
            found=f"ModalityLUTType {kind or 'not said'}",
            expected="HU",
            fix="export the series with Rescale Slope and Intercept",
        )
    return LookupTable(first=first, hu=words[:entries].astype(np.float64))


def hu_of(raw: npt.NDArray[Any], values: StoredValues, *, name: str) -> npt.NDArray[Any]:
    """Map decoded pixels to HU; what was not measured becomes air.

    Args:
        raw: (rows, columns) as decoded, in `bits_allocated`.
        values: what the header says of them.
        name: of the slice, for messages.

    Returns:
        (rows, columns) HU, integer where the map is whole.

    Raises:
        NonFiniteVoxels: the map leads beyond what a float holds.
    """
    stored = _stored_bits(raw, values)
    if values.table is not None:
        place = np.clip(stored.astype(np.int64) - values.table.first, 0, len(values.table.hu) - 1)
        hu: npt.NDArray[Any] = values.table.hu.astype(np.float32)[place]
    else:
        hu = to_hu(stored, slope=values.slope, intercept=values.intercept)
    if hu.dtype.kind == "f" and not np.isfinite(hu).all():
        raise NonFiniteVoxels(
            f"{name}: HU beyond what a number holds",
            found=f"RescaleSlope {values.slope:g}, RescaleIntercept {values.intercept:g}",
            fix="export the series from the scanner again",
        )
    hu = hu.astype(np.result_type(hu.dtype, np.int16), copy=False)
    unmeasured = hu < LOWEST_HU
    if values.padding is not None:
        low, high = values.padding
        # Padding may lie outside the stored bits (-2000 in 12 bits): compare before these are cut.
        for pixels in (raw, stored):
            unmeasured |= (pixels >= low) & (pixels <= high)
    return np.where(unmeasured, hu.dtype.type(AIR_HU), hu) if unmeasured.any() else hu


def _stored_bits(raw: npt.NDArray[Any], values: StoredValues) -> npt.NDArray[Any]:
    """Cut off what older scanners kept beside the stored bits (overlays), and extend the sign."""
    above = values.bits_allocated - values.high_bit - 1
    below = values.high_bit + 1 - values.bits_stored
    if not above and not below:
        return raw
    kind = np.dtype(f"{'i' if values.signed else 'u'}{values.bits_allocated // 8}")
    if raw.dtype.itemsize != kind.itemsize:
        return raw  # a codec that gives the values themselves, in another width
    return (raw.astype(kind, copy=False) << above) >> (above + below)
