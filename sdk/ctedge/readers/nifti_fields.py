"""The fields of a NIfTI-1 or NIfTI-2 header: what nibabel says of them, without importing it.

`import nibabel` imports all of its formats, and pydicom and scipy where they are installed: a third
of a second before the first answer, for a header of 348 bytes. nibabel stays the authority: a test
holds each of these answers against its own, to the bit, over whole, turned and broken headers. Only
what FreeSurfer writes into `dim` for the vertices of a surface is no volume here.

Source: nifti1.h and nifti2.h of nifti.nimh.nih.gov (fields, quaternions, scaling).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

Affine = npt.NDArray[np.float64]


class HeaderDataError(ValueError):
    """A field that means nothing."""


def _layout(size: int, **fields: tuple[str, int]) -> np.dtype[Any]:
    """Little-endian fields, each with its type and its place in bytes."""
    formats = [np.dtype(kind).newbyteorder("<") for kind, _ in fields.values()]
    places = [place for _, place in fields.values()]
    return np.dtype(
        {"names": list(fields), "formats": formats, "offsets": places, "itemsize": size}
    )


#: What the number in `datatype` means. Colours and complex numbers are named to be refused by name;
#: so are bits, text and long doubles, which are no type of NumPy's here.
_VOID = np.dtype(np.void)
_RGB = np.dtype([(name, "u1") for name in "RGB"])
_RGBA = np.dtype([(name, "u1") for name in "RGBA"])
_NUMBERS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
_NUMBERS |= {1024: "i8", 1280: "u8", 32: "c8", 1792: "c16"}
_TYPES = {code: np.dtype(kind) for code, kind in _NUMBERS.items()}
_TYPES |= {128: _RGB, 2304: _RGBA, 0: _VOID, 1: _VOID, 255: _VOID, 1536: _VOID, 2048: _VOID}


class Nifti1Header:
    """The header of NIfTI-1.

    Args:
        block: its `sizeof_hdr` bytes; in which byte order they are, `dim` tells.
    """

    sizeof_hdr: ClassVar[int] = 348
    layout: ClassVar[np.dtype[Any]] = _layout(
        348,
        sizeof_hdr=("i4", 0),
        dim=("(8,)i2", 40),
        datatype=("i2", 70),
        pixdim=("(8,)f4", 76),
        vox_offset=("f4", 108),
        scl_slope=("f4", 112),
        scl_inter=("f4", 116),
        qform_code=("i2", 252),
        sform_code=("i2", 254),
        quatern=("(3,)f4", 256),
        qoffset=("(3,)f4", 268),
        srow=("(3,4)f4", 280),
        magic=("S4", 344),
    )
    #: A quaternion's w squared below this is 0: what rounding leaves of it.
    nearly_zero: ClassVar[float] = float(np.finfo(np.float32).eps) * 3

    def __init__(self, block: bytes) -> None:
        little, big = self._fields(block, "<"), self._fields(block, ">")
        axes = int(little["dim"][0])
        plainly_big = int(big["sizeof_hdr"]) == self.sizeof_hdr if axes == 0 else not 1 <= axes <= 7
        self._order: Literal["<", ">"] = ">" if plainly_big else "<"
        self._read = big if plainly_big else little

    @classmethod
    def may_be(cls, block: bytes) -> bool:
        """Whether bytes look like such a header."""
        whole = len(block) == cls.sizeof_hdr
        return whole and cls._fields(block, "<")["magic"] in (b"ni1", b"n+1")

    @classmethod
    def _fields(cls, block: bytes, order: Literal["<", ">"]) -> Any:
        return np.frombuffer(block, cls.layout.newbyteorder(order), count=1)[0]

    def __getitem__(self, name: str) -> Any:
        return self._read[name]

    def get_data_shape(self) -> tuple[int, ...]:
        """Voxels along each axis; (0,) where there is none."""
        axes = int(self["dim"][0])
        return tuple(self["dim"][1 : axes + 1].tolist()) if axes else (0,)

    def get_data_dtype(self) -> np.dtype[Any]:
        """Type of the stored values, with their byte order; KeyError where NIfTI knows none."""
        return _TYPES[int(self["datatype"])].newbyteorder(self._order)

    def get_slope_inter(self) -> tuple[float | None, float | None]:
        """The map from stored values to what they mean; None twice where there is none."""
        slope, intercept = float(self["scl_slope"]), float(self["scl_inter"])
        if slope == 0 or not np.isfinite(slope):
            return None, None
        if not np.isfinite(intercept):
            raise HeaderDataError(f"slope {slope:g}, but intercept {intercept}")
        return slope, intercept

    def get_sform(self) -> Affine:
        """(4, 4), index to mm in RAS+, as it stands in the header."""
        affine = np.eye(4)
        affine[:3] = self["srow"]
        return affine

    def get_qform(self) -> Affine:
        """(4, 4), index to mm in RAS+, of quaternion, voxel size and offset.

        Raises:
            ValueError: no rotation, or no size.
        """
        sizes = self["pixdim"][1:4].copy()
        hand = self["pixdim"][0]
        rotation = _rotation(self["quatern"], self.nearly_zero)
        if np.any(sizes < 0):
            raise HeaderDataError("pixdim[1], [2], [3] should be positive")
        if hand not in (-1, 1):
            raise HeaderDataError("pixdim[0] should be 1 or -1")
        sizes[2] *= hand
        affine = np.eye(4)
        affine[:3, :3] = rotation @ np.diag(sizes)
        affine[:3, 3] = self["qoffset"]
        return affine


class Nifti2Header(Nifti1Header):
    """The header of NIfTI-2: the same in wider numbers."""

    sizeof_hdr: ClassVar[int] = 540
    layout: ClassVar[np.dtype[Any]] = _layout(
        540,
        sizeof_hdr=("i4", 0),
        magic=("S4", 4),
        datatype=("i2", 12),
        dim=("(8,)i8", 16),
        pixdim=("(8,)f8", 104),
        vox_offset=("i8", 168),
        scl_slope=("f8", 176),
        scl_inter=("f8", 184),
        qform_code=("i4", 344),
        sform_code=("i4", 348),
        quatern=("(3,)f8", 352),
        qoffset=("(3,)f8", 376),
        srow=("(3,4)f8", 400),
    )
    nearly_zero: ClassVar[float] = float(np.finfo(np.float64).eps) * 3

    @classmethod
    def may_be(cls, block: bytes) -> bool:
        """Whether bytes look like such a header."""
        if len(block) != cls.sizeof_hdr:
            return False
        both = cls._fields(block, "<"), cls._fields(block, ">")
        return cls.sizeof_hdr in [int(fields["sizeof_hdr"]) for fields in both]


def _rotation(xyz: npt.NDArray[Any], nearly_zero: float) -> npt.NDArray[Any]:
    """(3, 3) of a unit quaternion whose w is what x, y and z leave; in the widest floats there are.

    Raises:
        HeaderDataError: they are longer than 1.
    """
    x, y, z = wide = np.asarray(xyz, np.longdouble)
    rest = 1.0 - wide @ wide
    if abs(rest) < nearly_zero:
        w = np.longdouble(0)
    elif rest < 0:
        raise HeaderDataError(f"w squared of the quaternion should be positive, but is {rest:e}")
    else:
        w = np.sqrt(rest)
    scale = 2.0 / (w * w + x * x + y * y + z * z)
    wx, wy, wz = w * (x * scale), w * (y * scale), w * (z * scale)
    xx, xy, xz = x * (x * scale), x * (y * scale), x * (z * scale)
    yy, yz, zz = y * (y * scale), y * (z * scale), z * (z * scale)
    return np.array(
        [
            [1.0 - (yy + zz), xy - wz, xz + wy],
            [xy + wz, 1.0 - (xx + zz), yz - wx],
            [xz - wy, yz + wx, 1.0 - (xx + yy)],
        ]
    )
