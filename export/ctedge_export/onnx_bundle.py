"""From a RUN folder to a bundle: read, convert, check, compare, write."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctedge.bundle.golden import pack_levels
from ctedge.bundle.manifest import CARD_NAME, MODEL_NAME, TASK_INPUTS, TASK_OUTPUTS
from ctedge.bundle.maps import CAM
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import GateFailed, InvalidBundle, OutputError
from ctedge.extras import require
from ctedge.run_folder import RunFolder, read_run
from ctedge.spec import SliceSpec
from ctedge_export.card import model_card
from ctedge_export.gates import keras_maps
from ctedge_export.gates.cases import Case, read_cases
from ctedge_export.gates.conversion import Held, hold, require_pass
from ctedge_export.gates.inputs import GOLDEN_NAMES, GateInput, gate_inputs
from ctedge_export.gates.result import GateResult
from ctedge_export.kept import keep
from ctedge_export.lock import written_by_one
from ctedge_export.network.keras_model import load_keras
from ctedge_export.network.maps import Explained, explain
from ctedge_export.network.onnx_model import Converted
from ctedge_export.network.quiet import import_tensorflow
from ctedge_export.network.slices import convert_slices
from ctedge_export.network.tf_to_onnx import OPSET
from ctedge_export.network.volumes import convert_volumes
from ctedge_export.provenance import provenance, versions
from ctedge_export.writer import check_target, write_bundle

if TYPE_CHECKING:
    import keras

Say = Callable[[str], None]
_Path = str | os.PathLike[str]

_HDF5 = (".h5", ".hdf5")


def export_onnx(  # noqa: PLR0913 (keyword-only options)
    run_folder: _Path,
    bundle: _Path,
    *,
    overwrite: bool = False,
    keep_failed: bool = False,
    card_notes: _Path | None = None,
    data: _Path | None = None,
    say: Say | None = None,
) -> ModelBundle:
    """Convert a trained network, hold it against Keras, and write the bundle.

    Args:
        run_folder: holds `model.keras` and `model.json`.
        bundle: the folder `NAME.ctedge` to write.
        overwrite: replace a bundle that stands there.
        keep_failed: when a gate fails, keep model and figures in `NAME.failed/`.
        card_notes: a Markdown file to append to the model card.
        data: labelled scans for the task gate (see `gates.cases`); None means phantoms.
        say: told of each step, one line at a time.

    Raises:
        GateFailed: the ONNX model answers or decides otherwise than Keras; nothing is written.
        BundleError: the run folder is missing, broken, or of a network that cannot be exported.
        DatasetError: scans that cannot be used.
        OutputError: the bundle exists, is being written, or cannot be; nothing is left.
        MissingExtra: TensorFlow, tf2onnx or ONNX Runtime is not installed.
    """
    say = say or (lambda line: None)
    target = Path(bundle)
    check_target(target, overwrite=overwrite)
    notes = _notes(card_notes)
    run = _run_folder(Path(run_folder))
    say(f"run folder: {run.task}, {run.spec.name}, digest verified")
    require("onnxruntime", extra="cpu", purpose="gating an export")
    import_tensorflow()
    with written_by_one(target):
        check_target(target, overwrite=overwrite)  # as another process left it
        scans = None
        if data is not None:
            scans = read_cases(data, run.spec, task=run.task, labels=run.labels)
        made = _made(run, scans, say)
        try:
            made.require_pass()
        except GateFailed as error:
            if keep_failed:
                say(keep(target, MODEL_NAME, made.onnx_bytes, made.record, error))
            raise
        say(f"gate passed: {made.held}")
        written = _write(target, run, made, notes=notes, overwrite=overwrite)
    say(f"written: {target} ({_size(target) / 1e6:.1f} MB), manifest {written.digest[:12]}")
    return written


@dataclass(frozen=True, kw_only=True, eq=False)
class _Made:
    """A converted network with the verdict of its gates.

    Attributes:
        trained: the Keras model.
        converted: what it became; `explained` is the same with its maps, `onnx_bytes` its file.
        shown: the inputs that it was held against Keras on.
        held: what the gates measured.
        versions: of what converted it.
    """

    trained: keras.Model
    converted: Converted
    explained: Explained
    onnx_bytes: bytes
    shown: tuple[GateInput, ...]
    held: Held
    versions: dict[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """What is kept of a failed one, as plain JSON values."""
        return {**self.held.numeric.to_json(), "gates": self.held.to_json()}

    def require_pass(self) -> None:
        """Raise GateFailed unless every gate passed."""
        require_pass(self.held, self.trained, self.onnx_bytes, self.converted, self.shown)


def _made(run: RunFolder, scans: tuple[Case, ...] | None, say: Say) -> _Made:
    """Convert, draw the maps, and run every gate."""
    trained = load_keras(run)
    converted = _convert(run, trained)
    nodes = len(converted.model.graph.node)
    say(f"converted: {converted.folded} BatchNorm folded, {nodes} nodes, checker passed")
    shown = gate_inputs(run.spec)
    explained, maps = _explained(run, trained, converted, shown)
    if explained.missing:
        say(f"left out of its maps: {explained.missing}")
    onnx_bytes = explained.model.SerializeToString(deterministic=True)
    found = versions()
    return _Made(
        trained=trained,
        converted=converted,
        explained=explained,
        onnx_bytes=onnx_bytes,
        shown=shown,
        held=hold(run, trained, onnx_bytes, shown, maps=maps, scans=scans, versions=found),
        versions=found,
    )


def _write(
    target: Path, run: RunFolder, made: _Made, *, notes: str, overwrite: bool
) -> ModelBundle:
    golden = [item for item in made.shown if item.name in GOLDEN_NAMES]
    files = {f"golden/{item.name}.npy.gz": pack_levels(item.levels) for item in golden}
    answers = made.held.numeric.outputs
    name = target.name.removesuffix(".ctedge")
    return write_bundle(
        target,
        description={
            "task": run.task,
            "labels": list(run.labels),
            "threshold": run.threshold,
            "spec": run.spec.to_json(),
            "model": _model(run, made.explained),
            "golden": [
                {"name": item.name, "input": file, "outputs": answers[item.name]}
                for item, file in zip(golden, files, strict=True)
            ],
            "metrics": run.document["metrics"],
            "provenance": provenance(run, made.converted, found=made.versions),
            "gates": made.held.to_json(),
        },
        members={
            MODEL_NAME: made.onnx_bytes,
            CARD_NAME: model_card(run, made.held, name=name, notes=notes).encode(),
            **files,
        },
        overwrite=overwrite,
    )


def _run_folder(path: Path) -> RunFolder:
    """Read a run folder; where a file was named, say how one is made of it.

    Raises:
        InvalidBundle: a file, and what `read_run` raises.
    """
    if path.is_file():
        named = shlex.quote(str(path))
        fix = f"make a run folder of it, and export that: ctedge train import {named} -o RUN"
        if path.suffix not in _HDF5:
            fix = "save the Keras model as HDF5, model.save('FILE.h5'), and make a run folder of"
            fix += " it: ctedge train import FILE.h5 -o RUN"
        raise InvalidBundle(
            f"{path} is no run folder",
            found="a file",
            expected="a folder with model.keras and model.json",
            fix=fix,
        )
    return read_run(path)


def _explained(
    run: RunFolder, trained: keras.Model, converted: Converted, shown: tuple[GateInput, ...]
) -> tuple[Explained, GateResult]:
    """The network with the maps that are Keras' own, and their gate; a finer one may stay out."""

    def held(explained: Explained) -> GateResult:
        onnx_bytes = explained.model.SerializeToString(deterministic=True)
        return keras_maps.check(trained, onnx_bytes, converted, explained.maps, shown)

    explained = explain(converted.model, task=run.task)
    result = held(explained)
    if not result.passed and len(explained.maps) > 1:
        explained = explain(converted.model, task=run.task, finest=CAM, missing=str(result))
        result = held(explained)
    return explained, result


def _convert(run: RunFolder, trained: keras.Model) -> Converted:
    properties = {
        "task": run.task,
        "labels": json.dumps(run.labels),
        "spec": json.dumps(run.spec.to_json(), sort_keys=True),
        "keras_sha256": run.document["model_sha256"],
    }
    if isinstance(run.spec, SliceSpec):
        return convert_slices(trained, spec=run.spec, properties=properties)
    return convert_volumes(trained, task=run.task, spec=run.spec, properties=properties)


def _model(run: RunFolder, explained: Explained) -> dict[str, Any]:
    shape = [run.spec.input_shape[-1], *run.spec.shape]
    return {
        "member": MODEL_NAME,
        "opset": OPSET,
        "input": {"name": TASK_INPUTS[run.task], "shape": shape},
        "outputs": [{"name": name, "shape": [1]} for name in TASK_OUTPUTS[run.task]],
        "maps": explained.to_json(),
    }


def _notes(path: _Path | None) -> str:
    if path is None:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(
            f"the card notes {os.fspath(path)} cannot be read",
            found=error,
            fix="give --card-notes a Markdown file in UTF-8",
        ) from error


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
