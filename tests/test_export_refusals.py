"""What cannot be exported is refused early, and leaves nothing."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", exc_type=ImportError)
pytest.importorskip("tf2onnx", exc_type=ImportError)

from typer.testing import CliRunner

from ctedge.errors import (
    BundleNotFound,
    DatasetError,
    DigestMismatch,
    GateFailed,
    InvalidBundle,
    MissingExtra,
    OutputError,
)
from ctedge_export.cli import app
from ctedge_export.gates import keras_maps, structural, task
from ctedge_export.gates.result import GateResult
from ctedge_export.lock import written_by_one
from ctedge_export.onnx_bundle import export_onnx
from run_factory import (
    SMALL,
    build,
    few_inputs,
    read_document,
    small_network,
    small_run,
    write_document,
    write_run,
)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.getbasetemp())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", 1),
        ("task", "diagnosis"),
        ("task", "slices"),
        ("task", "severity"),
        ("threshold", None),
        ("threshold", 0),
        ("threshold", 1.0),
        ("threshold", float("nan")),
        ("threshold", "0.5"),
        ("labels", "normal"),
        ("labels", ["normal"]),
        ("spec", {}),
        ("input_shape", [1, 46, 48, 50]),
        ("data", None),
        ("metrics", []),
        ("metrics", {"auc": float("nan")}),
        ("training", {"note": "\ud800"}),
    ],
)
def test_a_broken_run_is_refused(run_folder: Path, tmp_path: Path, key: str, value: Any) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "model.keras").symlink_to(run_folder / "model.keras")
    write_document(copy, {**read_document(run_folder), key: value})
    with pytest.raises(InvalidBundle, match=r"model\.json|spec"):
        export_onnx(copy, tmp_path / "x.ctedge")
    assert not (tmp_path / "x.ctedge").exists()


def test_a_key_that_appears_twice_is_refused(run_folder: Path, tmp_path: Path) -> None:
    text = json.dumps(read_document(run_folder))
    (tmp_path / "model.json").write_text('{"task": "severity", ' + text[1:])
    with pytest.raises(InvalidBundle, match="cannot be read") as caught:
        export_onnx(tmp_path, tmp_path / "x.ctedge")
    assert "the key 'task' appears twice" in str(caught.value.found)


def test_another_keras_file_is_refused_unread(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    write_document(copy, read_document(run_folder))
    with pytest.raises(InvalidBundle, match=r"model\.keras"):
        export_onnx(copy, tmp_path / "x.ctedge")
    (copy / "model.keras").write_bytes(b"other")
    with pytest.raises(DigestMismatch, match=r"model\.keras"):
        export_onnx(copy, tmp_path / "x.ctedge")


def test_a_keras_file_that_is_none_is_refused(run_folder: Path, tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "model.keras").write_bytes(b"other")
    digest = hashlib.sha256(b"other").hexdigest()
    write_document(tmp_path, {**read_document(run_folder), "model_sha256": digest})
    with pytest.raises(InvalidBundle, match="Keras cannot read"):
        export_onnx(tmp_path, tmp_path / "x.ctedge")


def test_a_network_of_another_shape_is_refused(tmp_path: Path) -> None:
    run_folder = write_run(tmp_path / "run", build((46, 46, 46)), SMALL)
    with pytest.raises(InvalidBundle, match="input"):
        export_onnx(run_folder, tmp_path / "x.ctedge")


def test_paths_that_do_not_fit_are_refused_early(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound):
        export_onnx(tmp_path / "nowhere", tmp_path / "x.ctedge")
    with pytest.raises(OutputError, match="NAME"):
        export_onnx(run_folder, tmp_path / "x.onnx")
    (tmp_path / "data.ctedge").mkdir()
    with pytest.raises(OutputError, match="no bundle"):
        export_onnx(run_folder, tmp_path / "data.ctedge", overwrite=True)
    with pytest.raises(OutputError, match="card notes"):
        export_onnx(run_folder, tmp_path / "x.ctedge", card_notes=tmp_path / "none.md")


def test_a_full_disk_leaves_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctedge.files.os.fsync", full)
    with few_inputs(), pytest.raises(OutputError, match="No space"):
        export_onnx(run_folder, tmp_path / "x.ctedge")
    assert list(tmp_path.iterdir()) == []


def test_an_export_waits_for_no_other(run_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "x.ctedge"
    with written_by_one(target), pytest.raises(OutputError, match="is going on") as caught:
        export_onnx(run_folder, target)
    assert "wait for it" in str(caught.value.fix)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [(None, "cannot be read"), ("path,label\nx.nii.gz,normal\n", "no such scan")],
)
def test_scans_that_cannot_be_used_are_refused_before_the_conversion(
    run_folder: Path, tmp_path: Path, text: str | None, named: str
) -> None:
    table = tmp_path / "labels.csv"
    if text is not None:
        table.write_text(text)
    target = tmp_path / "new" / "folder" / "x.ctedge"
    arguments = ["onnx", str(run_folder), "-o", str(target), "--data", str(table)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, DatasetError)
    assert named in str(result.exception)
    assert not (tmp_path / "new").exists()


def sequential() -> Any:
    import keras

    good = small_network()
    copies = [type(layer).from_config(layer.get_config()) for layer in good.layers[1:]]
    model = keras.Sequential([keras.Input((*SMALL.shape, 1)), *copies])
    model.set_weights(good.get_weights())
    return model


def subclassed() -> Any:
    import keras

    @keras.saving.register_keras_serializable(package="test_export_refusals")
    class Own(keras.Model):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.head = keras.layers.Dense(1)

        def call(self, inputs: Any) -> Any:
            return self.head(keras.ops.mean(inputs, axis=(1, 2, 3)))

    model = Own()
    model(np.zeros((1, *SMALL.shape, 1), np.float32))
    return model


def two_inputs() -> Any:
    import keras

    inputs = [keras.Input((*SMALL.shape, 1)) for _ in range(2)]
    return keras.Model(inputs, small_network()(keras.layers.Add()(inputs)))


def mixed() -> Any:
    import keras

    inputs = keras.Input((*SMALL.shape, 1))
    conv = keras.layers.Conv3D(2, 3, dtype="mixed_bfloat16", name="here")
    average = keras.layers.GlobalAveragePooling3D()
    return keras.Model(inputs, keras.layers.Dense(1)(average(conv(inputs))))


def not_finite() -> Any:
    model = build(SMALL.shape)
    layer = model.get_layer("conv_2")
    kernel, bias = layer.get_weights()
    kernel.flat[5] = np.nan
    layer.set_weights([kernel, bias])
    return model


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (sequential, "Sequential"),
        (subclassed, "subclassed|Keras cannot read"),
        (two_inputs, "several inputs"),
        (mixed, "mixed precision"),
        (not_finite, "no numbers"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_network_of_another_kind_is_refused_by_name(
    make: Any, match: str, tmp_path: Path
) -> None:
    run_folder = write_run(tmp_path / "run", make(), SMALL)
    with pytest.raises(InvalidBundle, match=match) as caught:
        export_onnx(run_folder, tmp_path / "x.ctedge")
    assert caught.value.fix
    assert not (tmp_path / "x.ctedge").exists()


def test_a_saved_model_names_the_way_in(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InvalidBundle, match="SavedModel") as caught:
        export_onnx(tmp_path, tmp_path / "x.ctedge")
    assert "ctedge train import" in caught.value.fix


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5", "model.keras", "model.onnx"])
def test_a_file_in_the_place_of_a_run_names_the_way_in(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"any")
    with pytest.raises(InvalidBundle, match="is no run folder") as caught:
        export_onnx(tmp_path / name, tmp_path / "x.ctedge")
    hdf5 = name in {"model.h5", "model.hdf5"}
    command = f"ctedge train import {tmp_path / name if hdf5 else 'FILE.h5'} -o RUN"
    assert caught.value.fix.endswith(command)


@pytest.mark.parametrize("gate", ["structural", "maps", "task"])
def test_what_fails_any_gate_is_kept_where_that_is_asked(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gate: str
) -> None:
    """No network is known that converts, answers as Keras does, and fails one of these."""
    failed = GateResult(gate=gate, broken=("for the test",))
    module = {"structural": structural, "maps": keras_maps, "task": task}[gate]
    monkeypatch.setattr(module, "check", lambda *a, **k: failed)
    with few_inputs(), pytest.raises(GateFailed, match=f"the {gate} gate") as caught:
        export_onnx(run_folder, tmp_path / "x.ctedge", keep_failed=True)
    assert "--keep-failed" in str(caught.value.fix)
    assert [path.name for path in tmp_path.iterdir()] == ["x.failed"]
    told = json.loads((tmp_path / "x.failed" / "gate.json").read_text())
    assert told["gates"][gate]["broken"] == ["for the test"]
    assert told["gates"]["onnx"]["passed"] is True
    assert (tmp_path / "x.failed" / "model.onnx").stat().st_size > 0


def test_a_missing_converter_is_named(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingExtra, match="needs the package tf2onnx") as caught:
        export_onnx(run_folder, tmp_path / "x.ctedge")
    assert caught.value.fix == 'pip install "ctedge[export]"'


def test_ctrl_c_in_a_converter_that_is_imported_is_no_missing_one(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tf2onnx.py").write_text(
        "try:\n    raise KeyboardInterrupt\n"
        "except KeyboardInterrupt as error:\n    raise ImportError('initialization') from error\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tf2onnx", raising=False)
    with pytest.raises(KeyboardInterrupt):
        export_onnx(run_folder, tmp_path / "x.ctedge")
