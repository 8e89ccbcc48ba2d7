"""Members whose digests fit are still read with suspicion: models, golden inputs, the card."""

from __future__ import annotations

import gzip
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import (
    SPEC,
    replace_member,
    tiny_model,
    write_tiny,
)
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    InvalidBundle,
    UnsafeModel,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


def test_a_model_other_than_described_is_refused(folder: Path) -> None:
    replace_member(folder, "model.onnx", tiny_model("severity").SerializeToString())
    with pytest.raises(InvalidBundle, match="score"):
        ModelBundle.load(folder)
    fixed = tiny_model()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    replace_member(folder, "model.onnx", fixed.SerializeToString())
    with pytest.raises(InvalidBundle, match="dynamic batch"):
        ModelBundle.load(folder)


def test_an_unsafe_model_with_fitting_digests_is_refused(folder: Path) -> None:
    model = tiny_model()
    model.graph.node[0].domain = "com.evil"
    replace_member(folder, "model.onnx", model.SerializeToString())
    with pytest.raises(UnsafeModel, match=r"com\.evil"):
        ModelBundle.load(folder)


def test_every_onnx_member_is_guarded(folder: Path) -> None:
    replace_member(folder, "int8.onnx", b"\xff\xff")
    with pytest.raises(InvalidBundle, match="ONNX"):
        ModelBundle.load(folder)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return (os._exit, (77,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1f\x8b",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\x93NUMPY", mtime=0),
        gzip.compress(npy(np.zeros(SPEC.shape, np.uint8)), mtime=0)[:-9],
        gzip.compress(npy(np.zeros(SPEC.shape, np.uint8)), mtime=0) + b"more",
        gzip.compress(npy(np.zeros((8, 8, 9), np.uint8))),
        gzip.compress(npy(np.zeros(SPEC.shape, np.float32)), mtime=0),
        gzip.compress(bytes(50_000_000), mtime=0),
        gzip.compress(pickle.dumps(Exploit()), mtime=0),
        gzip.compress(
            b"\x93NUMPY\x01\x00v\x00{'descr':'|O','fortran_order':False,'shape':(8,8,8)}".ljust(127)
            + b"\n"
            + pickle.dumps(Exploit())
        ),
        gzip.compress(
            b"\x93NUMPY\x01\x00v\x00{'descr':'|u1','fortran_order':False,'shape':(9**99,)}".ljust(
                127
            )
            + b"\n"
        ),
    ],
    ids=lambda data: str(len(data)),
)
def test_a_hostile_golden_input_is_refused(folder: Path, data: bytes) -> None:
    replace_member(folder, "golden/noise.npy.gz", data)
    bundle = ModelBundle.load(folder)
    with pytest.raises(InvalidBundle, match="golden"):
        bundle.golden()


def test_a_card_that_is_no_text_is_refused(folder: Path) -> None:
    replace_member(folder, "MODEL_CARD.md", b"\xff")
    bundle = ModelBundle.load(folder)
    with pytest.raises(InvalidBundle, match="UTF-8"):
        _ = bundle.card
