"""Where a bundle comes from: the run, the versions, and what the export did to the network."""

from __future__ import annotations

import platform
from collections import Counter
from typing import TYPE_CHECKING, Any

from ctedge import __version__
from ctedge.extras import import_package, version_of
from ctedge.onnx_file.guard import FLOAT32
from ctedge.run_folder import RunFolder
from ctedge_export.network.onnx_model import IR_VERSION, Converted

if TYPE_CHECKING:
    import onnx

#: What the manifest takes over from `model.json`; spec, labels, task and metrics have own keys.
_FROM_RUN = ("model_sha256", "data", "training", "versions")
_MODULES = ("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy")


def versions() -> dict[str, str]:
    """Versions of everything that had a hand in the export."""
    found = {"python": platform.python_version(), "ctedge": __version__}
    for module in _MODULES:
        imported = import_package(module)
        found[module] = str(getattr(imported, "__version__", None) or version_of(module))
    return found


def provenance(run: RunFolder, converted: Converted, *, found: dict[str, str]) -> dict[str, Any]:
    """The manifest's `provenance`. No date and no path: equal runs make equal bundles."""
    model = converted.model
    return {
        "run": {key: run.document[key] for key in _FROM_RUN if key in run.document},
        "export": {
            "versions": found,
            "opset": model.opset_import[0].version,
            "ir_version": IR_VERSION,
            "batch_norms_folded": converted.folded,
            "nodes": len(model.graph.node),
            "operators": dict(sorted(Counter(n.op_type for n in model.graph.node).items())),
            "parameters": sum(
                _count(weight) for weight in model.graph.initializer if weight.data_type == FLOAT32
            ),
        },
    }


def _count(weight: onnx.TensorProto) -> int:
    count = 1
    for length in weight.dims:
        count *= length
    return count
