"""From a bundle to three models of a Triton Inference Server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ctedge import __version__
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import RuntimeUnavailable, WrongTask
from ctedge.extras import install_line
from ctedge.spec import PreprocessSpec
from ctedge_export.reference import require_gates
from ctedge_export.triton.configs import (
    LABELS_NAME,
    Names,
    Voxels,
    network_config,
    preprocess_config,
    whole_config,
)
from ctedge_export.triton.network import (
    NOT_RUN,
    Device,
    Network,
    Runtime,
    engine_network,
    onnx_network,
)
from ctedge_export.triton.pbtxt import render
from ctedge_export.triton.repository import check_target, write_repository

Say = Callable[[str], None]

_CONFIG, _VERSION = "config.pbtxt", "1"
_TEMPLATE = Path(__file__).with_name("preprocess_model.py")


def export_triton(  # noqa: PLR0913 (keyword-only options)
    bundle: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    *,
    runtime: Runtime | None = None,
    engine: str | os.PathLike[str] | None = None,
    precision: str | None = None,
    device: Device | None = None,
    max_batch: int | None = None,
    instances: int = 1,
    voxels: Voxels = "int16",
    overwrite: bool = False,
    say: Say | None = None,
) -> Path:
    """Write NAME, NAME_preprocess and NAME_network into a model repository.

    Args:
        bundle: a bundle's folder, or the name of a shipped one.
        repository: the folder; one that was written here before takes the model in.
        runtime: "onnxruntime" serves an ONNX member, "tensorrt" an engine of the bundle; None
            means the first, or the second where an engine is named.
        engine: the file of an engine to serve.
        precision: "fp32", "fp16", "bf16" or "int8"; None means fp32, or that of the engine.
        device: "cpu" or "cuda"; None means the CPU, and the GPU for half precision and engines.
        max_batch: the largest batch of the network; None means the engine's, or 1 volume, or 8
            slices.
        instances: of preprocessing and network each; on several GPUs, of the network on each.
        voxels: "int16" or "float32", the type of the HU that clients send.
        overwrite: replace the model where it stands already.
        say: told of each step, one line at a time.

    Returns:
        The repository's path.

    Raises:
        BundleError: no bundle, damaged, of a task that judges no scan, or its FP32 model has not
            passed its gates; or an engine that is damaged, unverified, or of another model.
        RuntimeUnavailable: the bundle has no such precision or engine, or options that exclude
            each other.
        GateFailed: the network has failed its gate in this precision.
        OutputError: the repository cannot be written, is not ours, or has the model already.
    """
    say = say or (lambda line: None)
    loaded = ModelBundle.load(bundle)
    if loaded.task == "lungs":
        raise WrongTask(
            f"{loaded.name} judges no scan",
            found=loaded.task,
            expected="classifier, severity or slices",
            fix="find lungs beside the scan: LungSegmenter.load(bundle).segment(scan)",
        )
    target = Path(repository)
    models = check_target(target, loaded.name, overwrite=overwrite)
    _check_options(runtime, engine, device)
    if engine is not None or runtime == "tensorrt":
        network = engine_network(
            loaded,
            precision=precision,
            engine=None if engine is None else Path(engine),
            max_batch=max_batch,
        )
    else:
        network = onnx_network(loaded, precision=precision, device=device, max_batch=max_batch)
    require_gates(loaded, made="model repository")
    _tell(loaded, network, say)
    files = _files(loaded, network, voxels=voxels, instances=instances)
    write_repository(
        target, loaded.name, files=files, origin=_origin(loaded, network), models=models
    )
    size = sum(map(len, files.values())) / 1e6
    say(f"written: {', '.join(Names.of(loaded.name).all)} in {target} ({size:.1f} MB)")
    say(f"where Triton runs: {_install(loaded)}")
    return target


def _check_options(
    runtime: Runtime | None, engine: str | os.PathLike[str] | None, device: Device | None
) -> None:
    if engine is not None and runtime == "onnxruntime":
        raise RuntimeUnavailable(
            "ONNX Runtime runs no engine",
            found="--engine with --runtime onnxruntime",
            fix="leave --runtime out to serve the engine, or --engine to serve the ONNX file",
        )
    if device == "cpu" and (engine is not None or runtime == "tensorrt"):
        raise RuntimeUnavailable(
            "an engine runs on a GPU",
            found="--device cpu",
            expected="--device cuda",
            fix="leave --device out, or serve the ONNX file with --runtime onnxruntime",
        )


def _tell(bundle: ModelBundle, network: Network, say: Say) -> None:
    say(f"{bundle.name}: {bundle.task}, digests verified")
    origin = network.origin
    say(f"network: {network.name}, batches up to {network.max_batch}, gate {origin['gate']}")
    if network.runtime == "tensorrt":
        machine = origin["machine"]
        say(f"serve it with TensorRT {origin['tensorrt']} on {machine['gpu']}, where its gate was")
    elif network.device == "cuda" and origin["gate"] == NOT_RUN:
        say(f"nothing has compared its answers on {network.name}: do so before you rely on them")


def _files(
    bundle: ModelBundle, network: Network, *, voxels: Voxels, instances: int
) -> dict[str, bytes]:
    """Every file of the three models, by its name in the repository."""
    names = Names.of(bundle.name)
    whole = whole_config(bundle, voxels=voxels)
    preprocess = preprocess_config(bundle, network, voxels=voxels, instances=instances)
    runs = network_config(bundle, network, instances=instances)
    files = {
        f"{names.whole}/{_CONFIG}": render(whole).encode(),
        # An ensemble has no file, and needs its version; an empty folder gets lost on the way.
        f"{names.whole}/{_VERSION}/.keep": b"",
        f"{names.preprocess}/{_CONFIG}": render(preprocess).encode(),
        f"{names.preprocess}/{_VERSION}/model.py": _TEMPLATE.read_bytes(),
        f"{names.network}/{_CONFIG}": render(runs).encode(),
        f"{names.network}/{_VERSION}/{network.file}": network.data,
    }
    if "probability" in bundle.output_names:
        # One number, of one class: Triton's classification counts labels from index 0.
        files[f"{names.whole}/{LABELS_NAME}"] = f"{bundle.labels[-1]}\n".encode()
    return files


def _origin(bundle: ModelBundle, network: Network) -> dict[str, Any]:
    """What PROVENANCE.json says. No date and no path: equal exports make equal repositories."""
    members = bundle.manifest["members"]
    return {
        "ctedge": __version__,
        "bundle": {
            "name": bundle.name,
            "task": bundle.task,
            "digest": bundle.digest,
            "members": {name: record["sha256"] for name, record in members.items()},
        },
        "network": {
            "runs": network.name,
            "max_batch": network.max_batch,
            **network.origin,
        },
    }


def _install(bundle: ModelBundle) -> str:
    """The line that adds this ctedge, with what the preprocessing needs."""
    lungs = isinstance(bundle.spec, PreprocessSpec) and bundle.spec.lungs_only
    line = install_line("lungs") if lungs else 'pip install "ctedge"'
    return f'{line[:-1]}=={__version__}"'
