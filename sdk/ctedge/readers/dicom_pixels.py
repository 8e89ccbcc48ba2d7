"""From one DICOM file to HU: decode, rescale, and turn padding into air."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import CodecUnavailable, UnreadableScan
from ctedge.extras import install_line
from ctedge.readers.rescale import to_hu

#: What padding (outside the reconstructed circle) becomes: air.
AIR_HU = -1000


def read_slice(pydicom: Any, path: Path) -> npt.NDArray[Any]:
    """Decode one slice.

    Args:
        pydicom: the module.
        path: a file whose header was checked: plain CT, with rescale slope and intercept.

    Returns:
        (rows, columns) of HU; integer where slope and intercept are whole.

    Raises:
        CodecUnavailable: nothing installed decodes the transfer syntax.
        UnreadableScan: the file is damaged.
    """
    try:
        dataset = pydicom.dcmread(path)
        syntax = dataset.file_meta.TransferSyntaxUID
        decodable = _decodable(pydicom, syntax)
        if decodable:
            stored = dataset.pixel_array
            padding = _padding(dataset)
    except Exception as error:  # pydicom and its codecs raise many kinds on damaged files
        raise damaged(path, error) from error
    if not decodable:
        raise CodecUnavailable(
            f"{path}: nothing installed decodes these pixels",
            found=f"transfer syntax {syntax.name} ({syntax})",
            fix=install_line("dicom"),
        )
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise damaged(path, ValueError(f"pixels of shape {stored.shape}"))
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    hu = to_hu(stored, slope=slope, intercept=intercept)
    if padding is None:
        return hu
    hu = hu.astype(np.result_type(hu.dtype, np.int16), copy=False)
    low, high = padding
    return np.where((stored >= low) & (stored <= high), hu.dtype.type(AIR_HU), hu)


def _decodable(pydicom: Any, syntax: Any) -> bool:
    """Whether a decoder for the transfer syntax is installed."""
    if not syntax.is_encapsulated:
        return True
    try:
        return bool(pydicom.pixels.get_decoder(syntax).is_available)
    except NotImplementedError:
        return False


def _padding(dataset: Any) -> tuple[int, int] | None:
    """The range of stored values that means "nothing was measured here"."""
    if dataset.get("PixelPaddingValue") is None:
        return None
    ends = [dataset.PixelPaddingValue, dataset.get("PixelPaddingRangeLimit")]
    signed = [_signed(int(end), dataset) for end in ends if end is not None]
    return min(signed), max(signed)


def _signed(value: int, dataset: Any) -> int:
    """Undo an unsigned reading of a negative padding value in a signed image."""
    bits = int(dataset.BitsAllocated)
    wraps = dataset.PixelRepresentation == 1 and value >= 1 << (bits - 1)
    return int(value) - (1 << bits) if wraps else int(value)


def damaged(path: Path, error: Exception) -> UnreadableScan:
    """What to raise for a file that pydicom or a codec stumbles over."""
    return UnreadableScan(
        f"{path}: the DICOM file is damaged",
        found=f"{type(error).__name__}: {error}",
        fix="copy the file again from its source",
    )
