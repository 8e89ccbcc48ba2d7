"""Damaged scans for fuzzing: each is made from its kind and one number, and can be made again."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_factory import NATIVE, enhanced, slices
from dicom_frames import can_encode

#: The files of one case, by name.
Case = dict[str, bytes]

DICOM_KINDS = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
    "enhanced": None,
}
NIFTI_KINDS = ("plain", "gzip", "pair")

#: What is put in the place of bytes: extremes of lengths, numbers and text.
POISON = (
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00",
    b"\xfe\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"nan ",
    b"-inf",
    b"1e99",
    b"9\\9\\",
    b"SQUN",
    b"UN\x00\x00",
    b"OB\x00\x00",
    struct.pack("<HH", 0xFFFE, 0xE000),
    struct.pack("<HH", 0xFFFE, 0xE00D),
    struct.pack("<HH", 0xFFFE, 0xE0DD),
    struct.pack("<HH", 0x7FE0, 0x0010),
    struct.pack("<HH", 0x5200, 0x9230),
)

_NUMBERS = (0.0, -1.0, 1.0, 2.5, np.nan, np.inf, -np.inf, 1e-30, 3e38, 352.0, 353.0, 1e9, 2.0**31)
_WHOLE = (
    0,
    1,
    -1,
    2,
    3,
    4,
    7,
    8,
    16,
    64,
    128,
    255,
    256,
    512,
    768,
    1024,
    1280,
    1536,
    1792,
    2048,
    9999,
    32767,
    -32768,
)
_DTYPES = ("i2", "u2", "u1", "i1", "i4", "u4", "i8", "u8", "f4", "f8", "c8", "f2", "b1")


def damaged(kind: str, seed: int, *, real: tuple[Path, ...] = ()) -> Case:
    """One damaged scan.

    Args:
        kind: one of `NIFTI_KINDS` or `DICOM_KINDS`, or "real".
        seed: makes the damage.
        real: for "real", files of one series, or one NIfTI file.
    """
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    if kind in NIFTI_KINDS:
        return damaged_nifti(kind, rng)
    if kind in DICOM_KINDS:
        return damaged_series(series_of(kind), rng)
    files = {path.name: path.read_bytes() for path in real}
    return damaged_series(files, rng, first=0 if real[0].name.endswith(".gz") else 132)


# Bytes


def mutated(data: bytes, rng: np.random.Generator, *, first: int = 132) -> bytes:
    """Change, put in, take out, repeat and cut off bytes, most of them from `first` on."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        low = first if rng.random() < 0.9 else 0
        # Half of the damage goes to the header, which a real file hides before many pixels.
        high = min(len(changed), low + 3000) if rng.random() < 0.5 else len(changed)
        at = int(rng.integers(low, max(high, low + 1)))
        match rng.integers(6):
            case 0:
                changed[at : at + 1] = bytes([rng.integers(256)])
            case 1:
                poison = POISON[rng.integers(len(POISON))]
                changed[at : at + len(poison)] = poison
            case 2:
                changed[at:at] = POISON[rng.integers(len(POISON))]
            case 3:
                del changed[at : at + int(rng.integers(1, 40))]
            case 4:
                changed[at:at] = changed[at : at + int(rng.integers(1, 400))]
            case _:
                del changed[at if rng.random() < 0.2 else len(changed) :]
    return bytes(changed)


# DICOM


@cache
def _encoded_series(kind: str) -> tuple[bytes, ...]:
    shape = (4, 34, 36) if kind == "JPEG 2000" else (4, 6, 8)  # openjpeg writes no smaller one
    hu = np.random.default_rng(1).integers(-1000, 1200, shape).astype(np.int16)
    if DICOM_KINDS[kind] is None:
        return (_encoded(enhanced(hu)),)
    return tuple(_encoded(one) for one in slices(hu, syntax=DICOM_KINDS[kind]))


def _encoded(one: object) -> bytes:
    stream = DicomBytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcmwrite(stream, one, enforce_file_format=True)
    return stream.getvalue()


def can_be_made(kind: str) -> bool:
    """Whether an encoder for a kind of DICOM is installed."""
    syntax = DICOM_KINDS[kind]
    return syntax in (*NATIVE, DeflatedExplicitVRLittleEndian, None) or can_encode(syntax)


def series_of(kind: str) -> Case:
    """A sound series of four slices."""
    return {f"{place}.dcm": data for place, data in enumerate(_encoded_series(kind))}


def damaged_series(files: Case, rng: np.random.Generator, *, first: int = 132) -> Case:
    """Damage one file, or all of them alike."""
    if rng.random() < 0.3:
        state = int(rng.integers(1 << 30))
        return {
            name: mutated(data, np.random.default_rng(state), first=first)
            for name, data in files.items()
        }
    names = sorted(files)
    hit = names[rng.integers(len(names))]
    return files | {hit: mutated(files[hit], rng, first=first)}


# NIfTI


def nifti_bytes(rng: np.random.Generator, *, pair: bool = False) -> tuple[bytes, bytes]:
    """A sound header with its extensions, and the voxels, of any type, version and byte order."""
    second = rng.random() < 0.4
    made = {
        (False, False): nib.Nifti1Image,
        (False, True): nib.Nifti2Image,
        (True, False): nib.Nifti1Pair,
        (True, True): nib.Nifti2Pair,
    }[pair, second]
    order = "<>"[rng.integers(2)]
    dtype = np.dtype(order + _DTYPES[rng.integers(8 if rng.random() < 0.7 else 11)])
    shape = [int(n) for n in rng.integers(1, 24, 3)]
    shape += [1] * int(rng.integers(0, 4)) if rng.random() < 0.2 else []
    values = rng.integers(-128 if dtype.kind in "if" else 0, 127, shape).astype(dtype)
    affine = np.diag([*rng.choice([-0.7, 0.7, 5.0], 3), 1.0])[[*rng.permutation(3), 3]]
    header = made.header_class(endianness=order)
    image = made(values, affine, header, dtype=dtype)
    image.header["sform_code"] = rng.integers(0, 2)
    image.header["qform_code"] = rng.integers(0, 2)
    image.header["scl_slope"] = rng.choice([np.nan, 1.0, 2.0, 0.5])
    image.header["scl_inter"] = rng.choice([np.nan, 0.0, -1024.0, 0.5])
    if rng.random() < 0.3:
        image.header.extensions.append(nib.nifti1.Nifti1Extension(6, b"comment" * 9))
    head = io.BytesIO()
    image.header["vox_offset"] = 0
    image.header.write_to(head)
    block = head.getvalue()
    if not pair:
        end = max(len(block), image.header.single_vox_offset)
        end += -end % 16
        image.header["vox_offset"] = end
        head = io.BytesIO()
        image.header.write_to(head)
        block = head.getvalue().ljust(end, b"\0")
    return block, values.tobytes(order="F")


def header_damaged(block: bytes, rng: np.random.Generator) -> bytes:
    """Extremes in the place of a header's fields, and bytes in the place of bytes."""
    kind = nib.nifti2.header_dtype if block[:4] in _SECOND else nib.nifti1.header_dtype
    order = ">" if block[0] == 0 else "<"
    kind = kind.newbyteorder(order)
    changed = bytearray(block)
    for _ in range(rng.integers(1, 5)):
        name = kind.names[rng.integers(len(kind.names))]
        if rng.random() < 0.5:  # what decides over memory and geometry
            name = _DECISIVE[rng.integers(len(_DECISIVE))]
        field, start = kind.fields[name][:2]
        base = field.base
        place = start + base.itemsize * int(rng.integers(field.itemsize // base.itemsize))
        changed[place : place + base.itemsize] = _extreme(base, rng)
    if rng.random() < 0.3:
        return mutated(bytes(changed), rng, first=4)
    return bytes(changed)


_SECOND = (struct.pack("<i", 540), struct.pack(">i", 540))
_DECISIVE = (
    "dim",
    "datatype",
    "vox_offset",
    "scl_slope",
    "scl_inter",
    "srow_x",
    "srow_z",
    "pixdim",
)


def _extreme(base: np.dtype, rng: np.random.Generator) -> bytes:
    if base.kind == "f":
        with np.errstate(over="ignore"):
            return np.array(_NUMBERS[rng.integers(len(_NUMBERS))]).astype(base).tobytes()
    if base.kind in "iu":
        number = _WHOLE[rng.integers(len(_WHOLE))]
        if base.itemsize == 8 and rng.random() < 0.5:
            number = (1 << int(rng.integers(20, 63))) - int(rng.integers(2))
        return np.array(number).astype(base).tobytes()
    return rng.bytes(base.itemsize)


def damaged_nifti(kind: str, rng: np.random.Generator) -> Case:
    """A damaged file, or a pair of header and voxels."""
    block, voxels = nifti_bytes(rng, pair=kind == "pair")
    if rng.random() < 0.7:
        block = header_damaged(block, rng)
    if kind == "pair":
        return {"scan.hdr": block, "scan.img": voxels}
    plain = block + voxels
    if rng.random() < 0.3:
        plain = mutated(plain, rng, first=0)
    if kind == "plain":
        return {"scan.nii": plain}
    return {"scan.nii.gz": _zipped(plain, rng)}


def _zipped(plain: bytes, rng: np.random.Generator) -> bytes:
    """Compressed in one or two members; often damaged after it, sometimes with a bomb behind."""
    cut = int(rng.integers(len(plain) + 1)) if rng.random() < 0.3 else len(plain)
    whole = b"".join(gzip.compress(part, 1, mtime=0) for part in (plain[:cut], plain[cut:]) if part)
    if rng.random() < 0.03:
        return whole + gzip.compress(bytes(1 << 26), 1, mtime=0)
    return mutated(whole, rng, first=10) if rng.random() < 0.5 else whole


KINDS: dict[str, Callable[[], tuple[str, ...]]] = {
    "nifti": lambda: NIFTI_KINDS,
    "dicom": lambda: tuple(kind for kind in DICOM_KINDS if can_be_made(kind)),
    "real": lambda: ("real",),
}
