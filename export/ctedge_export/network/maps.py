"""Maps in a graph: outputs that show where an answer comes from, and cost nothing unasked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctedge.bundle.manifest import TASK_OUTPUTS
from ctedge.bundle.maps import LAYER_CAM, MAP_METHODS
from ctedge.errors import InvalidBundle
from ctedge_export.network.grad_cam import GraphMap, grad_cam
from ctedge_export.network.layer_cam import layer_cam
from ctedge_export.network.tf_to_onnx import refusal

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """A model with its maps as further outputs.

    Attributes:
        model: checked.
        maps: finest last.
        missing: why there are no more of them, or "".
    """

    model: onnx.ModelProto
    maps: tuple[GraphMap, ...]
    missing: str

    def to_json(self) -> list[dict[str, Any]]:
        """What the manifest says of the maps."""
        return [
            {
                "name": found.name,
                "method": MAP_METHODS[found.name],
                "shape": list(found.grid),
                "origin": list(found.origin),
                "step": list(found.step),
            }
            for found in self.maps
        ]


def explain(
    model: onnx.ModelProto, *, task: str, finest: str = LAYER_CAM, missing: str = ""
) -> Explained:
    """Add the maps that a graph can have: Grad-CAM, and, of whole scans, LayerCAM.

    A graph of another kind (an imported network with an unusual head, say) goes without.

    Args:
        model: a finished model with inferred shapes; it stays as it is.
        task: "classifier", "severity" or "slices".
        finest: the last map to add.
        missing: why finer ones are not to be added.

    Raises:
        InvalidBundle: the checker refuses the graph with maps.
    """
    import onnx
    from onnx import TensorProto, helper

    maps: list[GraphMap] = []
    try:
        maps.append(grad_cam(model, answer=TASK_OUTPUTS[task][0]))
        if task != "slices" and finest == LAYER_CAM:
            maps.append(layer_cam(model, maps[0]))
    except InvalidBundle as error:
        missing = f"{error.what}: {error.found}"
    if not maps:
        return Explained(model=model, maps=(), missing=missing)
    explained = onnx.ModelProto()
    explained.CopyFrom(model)
    batch = model.graph.output[0].type.tensor_type.shape.dim[0].dim_param
    for found in maps:
        explained.graph.node.extend(found.nodes)
        explained.graph.initializer.extend(found.weights)
        explained.graph.output.append(
            helper.make_tensor_value_info(found.name, TensorProto.FLOAT, [batch, *found.grid])
        )
    try:
        explained = onnx.shape_inference.infer_shapes(explained, strict_mode=True, data_prop=True)
        onnx.checker.check_model(explained, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise refusal(f"the ONNX checker, of its maps: {error}", "a valid model") from error
    return Explained(model=explained, maps=tuple(maps), missing=missing)
