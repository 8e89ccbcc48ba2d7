"""Bundles, options and places of which no other precision is made, and what stays as it was."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx

from bundle_factory import read_document, replace_member, seal, write_tiny
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    CTEdgeError,
    InvalidBundle,
    OutputError,
)
from ctedge_export.lock import written_by_one
from ctedge_export.precision.precision import export_precision
from precision_factory import every_precision, plain


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain(tmp_path_factory.getbasetemp()).path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return every_precision(tmp_path_factory.getbasetemp())


def without_gate(folder: Path) -> None:
    document = read_document(folder)
    document["gates"] = {}
    seal(folder, document)


def with_failed_gate(folder: Path) -> None:
    document = read_document(folder)
    document["gates"] = {"onnx": {"passed": False}}
    seal(folder, document)


def from_elsewhere(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    model.producer_name = "pytorch"
    replace_member(folder, "model.onnx", model.SerializeToString())


def with_nan(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    values = np.full((4, 1, 3, 3, 3), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(values, "conv1.weight"))
    replace_member(folder, "model.onnx", model.SerializeToString())


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (without_gate, "no gate result"),
        (with_failed_gate, "no gate result"),
        (from_elsewhere, "written by pytorch"),
        (with_nan, "NaN"),
    ],
)
def test_a_bundle_that_is_no_reference_is_refused(
    source: Path, tmp_path: Path, spoil: object, named: str
) -> None:
    copy = tmp_path / "x.ctedge"
    shutil.copytree(source, copy)
    assert callable(spoil)
    spoil(copy)
    with pytest.raises(InvalidBundle, match=named):
        export_precision(copy, ["fp16"])


def test_what_does_not_fit_is_refused(source: Path, made: ModelBundle, tmp_path: Path) -> None:
    refused: list[tuple[object, list[str], dict[str, object], str]] = [
        (source, ["fp8"], {}, "fp16 or bf16 or int8"),
        (source, [], {}, "no such precision"),
        (made.path, ["fp16"], {}, "--overwrite"),
        (source, ["fp16"], {"output": made.path}, "already exists"),
        ("pneumonia", ["bf16"], {}, "not changed where it stands"),
        (source / "model.onnx", ["fp16"], {}, "no bundle"),
        (write_tiny(tmp_path / "t.ctedge").path, ["fp16"], {}, "not as `ctedge export onnx`"),
    ]
    for bundle, to, options, named in refused:
        with pytest.raises(CTEdgeError, match=named):
            export_precision(bundle, to, **options)  # type: ignore[arg-type]


def test_an_output_that_is_being_written_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "other.ctedge"
    with written_by_one(target), pytest.raises(OutputError, match="is going on"):
        export_precision(source, ["fp16"], output=target)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_bundle_as_it_was(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "x.ctedge"
    shutil.copytree(source, copy)
    before = (copy / "manifest.json").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctedge.files.os.fsync", full)
    with pytest.raises(OutputError, match="No space"):
        export_precision(copy, ["bf16"])
    assert (copy / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.ctedge"]
