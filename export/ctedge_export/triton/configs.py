"""The three configurations, as `ModelConfig` of Triton's `model_config.proto` has them.

    NAME_preprocess   hu (X, Y, Z), affine (4, 4) or none  ->  prepared, quality
    NAME_network      prepared                             ->  logit, probability; or score
    NAME              hu, affine or none                   ->  the network's outputs, quality

Scans differ in size and cannot be stacked, so preprocessing and the whole take one a request (no
batch axis). The network has one: Triton connects (N, ...) of a model without to (...) of a model
with. Requests that wait at the same time share a batch of the network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ctedge import __version__
from ctedge.bundle.model_bundle import ModelBundle
from ctedge_export.triton.network import Device, Network
from ctedge_export.triton.pbtxt import Message, Word, entries

#: Tensors of the whole, besides the network's outputs.
HU, AFFINE, QUALITY = "hu", "affine", "quality"

#: What a client sends: whole HU, as scanners write them, or any.
Voxels = Literal["int16", "float32"]

LABELS_NAME = "labels.txt"

_TYPES = {"int16": Word("TYPE_INT16"), "float32": Word("TYPE_FP32")}
_FLOAT = Word("TYPE_FP32")
_KINDS: dict[Device, Word] = {"cpu": Word("KIND_CPU"), "cuda": Word("KIND_GPU")}

#: The tensor between the two steps.
_PREPARED = "prepared"

#: Each NAME takes these folders of a repository.
_PREPROCESS, _NETWORK = "_preprocess", "_network"


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of the three models, which are those of their folders."""

    whole: str
    preprocess: str
    network: str

    @classmethod
    def of(cls, name: str) -> Names:
        """Those of a bundle's name."""
        return cls(whole=name, preprocess=f"{name}{_PREPROCESS}", network=f"{name}{_NETWORK}")

    @property
    def all(self) -> tuple[str, str, str]:
        """The whole first."""
        return (self.whole, self.preprocess, self.network)


def preprocess_config(
    bundle: ModelBundle, network: Network, *, voxels: Voxels, instances: int
) -> Message:
    """Of the model that turns HU into the network's input, on the CPU."""
    return {
        "name": Names.of(bundle.name).preprocess,
        "backend": "python",
        "max_batch_size": 0,
        "input": _scan_inputs(voxels),
        "output": [
            _tensor(_PREPARED, _FLOAT, (_inputs_a_scan(bundle), *bundle.input_shape)),
            _tensor(QUALITY, Word("TYPE_STRING"), (1,)),
        ],
        "instance_group": [{"kind": _KINDS["cpu"], "count": instances}],
        "parameters": _parameters(
            ctedge=__version__,
            task=bundle.task,
            spec=json.dumps(bundle.spec.to_json(), sort_keys=True),
            provenance=json.dumps(_trained_on(bundle.provenance), sort_keys=True),
            max_batch=str(network.max_batch),
        ),
    }


def network_config(bundle: ModelBundle, network: Network, *, instances: int) -> Message:
    """Of the network itself."""
    batching: Message = {"dynamic_batching": {}} if network.max_batch > 1 else {}
    return {
        "name": Names.of(bundle.name).network,
        **_RUNS[network.runtime],
        "max_batch_size": network.max_batch,
        "input": [_tensor(bundle.input_name, _FLOAT, bundle.input_shape)],
        "output": [_tensor(name, _FLOAT, shape) for name, shape in _outputs(bundle)],
        "instance_group": [{"kind": _KINDS[network.device], "count": instances}],
        **batching,
        **_exact(network),
        "parameters": _parameters(runs=network.name, sha256=network.origin["sha256"]),
    }


def whole_config(bundle: ModelBundle, *, voxels: Voxels) -> Message:
    """Of the ensemble that clients talk to."""
    names = Names.of(bundle.name)
    outputs = []
    for name, shape in _outputs(bundle):
        output = dict(_tensor(name, _FLOAT, (_inputs_a_scan(bundle), *shape)))
        if name == "probability":
            output["label_filename"] = LABELS_NAME
        outputs.append(output)
    outputs.append(dict(_tensor(QUALITY, Word("TYPE_STRING"), (1,))))
    said = {"task": bundle.task, "labels": json.dumps(bundle.labels), "bundle": bundle.digest}
    if any(name == "probability" for name, _ in _outputs(bundle)):
        said["threshold"] = repr(bundle.threshold)
    return {
        "name": names.whole,
        "platform": "ensemble",
        "max_batch_size": 0,
        "input": _scan_inputs(voxels),
        "output": outputs,
        "ensemble_scheduling": {
            "step": [
                {
                    "model_name": names.preprocess,
                    "model_version": -1,
                    "input_map": entries({HU: HU, AFFINE: AFFINE}),
                    "output_map": entries({_PREPARED: _PREPARED, QUALITY: QUALITY}),
                },
                {
                    "model_name": names.network,
                    "model_version": -1,
                    "input_map": entries({bundle.input_name: _PREPARED}),
                    "output_map": entries({name: name for name, _ in _outputs(bundle)}),
                },
            ]
        },
        "parameters": _parameters(**said),
    }


_RUNS: dict[str, Message] = {
    "onnxruntime": {"backend": "onnxruntime"},
    "tensorrt": {"platform": "tensorrt_plan"},
}


def _exact(network: Network) -> Message:
    """TF32 rounds products to 10 bits; what the file has in float must be float."""
    if (network.runtime, network.device) != ("onnxruntime", "cuda"):
        return {}
    cuda: Message = {"name": "cuda", "parameters": entries({"use_tf32": "0"})}
    return {"optimization": {"execution_accelerators": {"gpu_execution_accelerator": [cuda]}}}


def _scan_inputs(voxels: Voxels) -> list[Message]:
    return [
        _tensor(HU, _TYPES[voxels], (-1, -1, -1)),
        {**_tensor(AFFINE, Word("TYPE_FP64"), (4, 4)), "optional": True},
    ]


def _inputs_a_scan(bundle: ModelBundle) -> int:
    """A scan is one input, or one for each of its slices, of which there may be any number."""
    return -1 if bundle.task == "slices" else 1


def _outputs(bundle: ModelBundle) -> list[tuple[str, tuple[int, ...]]]:
    """The outputs that the manifest names, with their shapes without the batch axis."""
    listed = bundle.manifest["model"]["outputs"]
    return [(output["name"], tuple(output["shape"])) for output in listed]


def _tensor(name: str, kind: Word, dims: tuple[int, ...]) -> Message:
    return {"name": name, "data_type": kind, "dims": list(dims)}


def _parameters(**values: str) -> list[Message]:
    return entries({key: {"string_value": value} for key, value in values.items()})


def _trained_on(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """As much of a bundle's provenance as `ctedge.quality.TrainedOn` reads."""
    run = provenance.get("run")
    data = run.get("data") if isinstance(run, dict) else None
    data = data if isinstance(data, dict) else {}
    return {"run": {"data": {k: data[k] for k in ("geometry", "synthetic") if k in data}}}
