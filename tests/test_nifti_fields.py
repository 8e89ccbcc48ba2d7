"""What is read of a NIfTI header is what nibabel reads of it: whole, turned and broken ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import nibabel
import numpy as np
import pytest

from ctedge.readers.nifti_fields import HeaderDataError, Nifti1Header, Nifti2Header

KINDS = [
    pytest.param(Nifti1Header, nibabel.Nifti1Header, id="nifti1"),
    pytest.param(Nifti2Header, nibabel.Nifti2Header, id="nifti2"),
]

#: Of each header, so many are made by chance.
HEADERS = 300

FIELDS = ("vox_offset", "magic", "sform_code", "qform_code", "pixdim", "sizeof_hdr")
REAL = (np.uint8, np.int16, np.int32, np.float32, np.float64, np.int8, np.uint16, np.uint32)


def usual(kind: Any, rng: np.random.Generator) -> Any:
    """A header as a converter writes it, of any orientation, type, scaling and byte order."""
    header = kind(endianness="<>"[rng.integers(2)])
    header.set_data_shape(rng.integers(1, 500, rng.integers(1, 8)))
    header.set_data_dtype(REAL[rng.integers(len(REAL))])
    header["scl_slope"], header["scl_inter"] = rng.choice([0.0, 1.0, 0.5, -2.0, np.nan], 2)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.2, 9, 3)
    affine[:3, 3] = rng.normal(size=3) * 300
    header.set_qform(affine, code=int(rng.integers(3)))
    header.set_sform(affine, code=int(rng.integers(3)))
    header["vox_offset"] = header.single_vox_offset
    return header


def turned_half(kind: Any, rng: np.random.Generator) -> Any:
    """Half a turn: the quaternion's w is what rounding leaves, on either side of 0."""
    header = usual(kind, rng)
    xyz = rng.normal(size=3)
    xyz *= (1 + rng.normal() * 1e-7) / np.linalg.norm(xyz)
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = xyz
    return header


def damaged(kind: Any, rng: np.random.Generator) -> bytes:
    """A few bytes of it are others."""
    block = bytearray(usual(kind, rng).binaryblock)
    for place in rng.integers(0, len(block), rng.integers(1, 12)):
        block[place] = rng.integers(256)
    return bytes(block)


def made(kind: Any) -> Iterator[bytes]:
    rng = np.random.default_rng(16)
    for _ in range(HEADERS):
        yield usual(kind, rng).binaryblock
        yield turned_half(kind, rng).binaryblock
        yield damaged(kind, rng)
        yield rng.bytes(kind.sizeof_hdr)


def answer(ask: Callable[[], Any]) -> Any:
    """What is answered; of an error only that it is one."""
    try:
        with np.errstate(all="ignore"):
            return ask()
    except (ValueError, KeyError, OverflowError, nibabel.spatialimages.HeaderDataError):
        return HeaderDataError


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # nibabel's int16
@pytest.mark.parametrize(("ours", "theirs"), KINDS)
def test_every_answer_is_that_of_nibabel(ours, theirs):
    whole = 0
    for block in made(theirs):
        same = theirs.may_contain_header(block)
        assert ours.may_be(block) == same
        whole += same
        here, there = ours(block), theirs.from_fileobj(io.BytesIO(block), check=False)
        for name in FIELDS:
            np.testing.assert_array_equal(here[name], there[name], err_msg=name)
        for name in ("get_data_shape", "get_data_dtype", "get_slope_inter"):
            assert answer(getattr(here, name)) == answer(getattr(there, name)), (name, block)
        for name in ("get_sform", "get_qform"):
            found, expected = answer(getattr(here, name)), answer(getattr(there, name))
            assert (found is HeaderDataError) == (expected is HeaderDataError), (name, block)
            if found is not HeaderDataError:
                np.testing.assert_array_equal(found, expected, err_msg=name, strict=True)
    assert whole >= 2 * HEADERS


def test_every_number_of_a_type_means_the_same():
    header = nibabel.Nifti1Header()
    for code in range(-2, 2500):
        header["datatype"] = code
        found = answer(Nifti1Header(header.binaryblock).get_data_dtype)
        assert found == answer(header.get_data_dtype), code


@pytest.mark.parametrize(("ours", "theirs"), KINDS)
def test_what_is_too_short_is_no_header(ours, theirs):
    block = theirs().binaryblock
    assert ours.may_be(block)
    assert not any(ours.may_be(block[:length]) for length in (0, 4, len(block) - 1))
