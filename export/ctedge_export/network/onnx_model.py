"""An ONNX model as it leaves: our name and version on it, shapes inferred, checked in full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ctedge import __version__
from ctedge.bundle.manifest import TASK_INPUTS, TASK_OUTPUTS
from ctedge.spec import Spec
from ctedge_export.network.tf_to_onnx import OPSET, refusal

if TYPE_CHECKING:
    import onnx

#: Version of the ONNX file format: the newest that every supported runtime reads.
IR_VERSION = 10
BATCH = "batch"

_INPUTS = {
    "volume": "3D network for lung CT, task {task}. Input volume: float32 (N, C, D, H, W), 0..1.",
    "image": "2D network for slices of lung CT. Input image: float32 (N, 3, rows, columns), 0..1"
    " less the mean and divided by the deviation of the spec.",
}


@dataclass(frozen=True, kw_only=True)
class Landmark:
    """A place where Keras and ONNX must agree.

    Attributes:
        node: of the ONNX graph; its output is named like it. Where a ReLU follows, its output is
            meant.
        layer: of the Keras model, with its activation.
    """

    node: str
    layer: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Converted:
    """A converted network.

    Attributes:
        model: the ONNX model, checked.
        folded: how many BatchNorm layers have gone into convolutions or Dense layers.
        landmarks: where the two networks can be compared, in the order of the data.
        last: the node and the layer that give the answer.
    """

    model: onnx.ModelProto
    folded: int
    landmarks: tuple[Landmark, ...]
    last: Landmark


def finished_model(
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    *,
    task: str,
    spec: Spec,
    properties: Mapping[str, str],
) -> onnx.ModelProto:
    """Make a model of nodes and weights, and check it.

    Args:
        nodes: in the order of the data, from the input to the outputs of the task.
        weights: their constants.
        task: "classifier", "severity" or "slices"; it names input and outputs.
        spec: gives the input its shape.
        properties: metadata for whoever opens the file elsewhere.

    Raises:
        InvalidBundle: the checker refuses it.
    """
    import onnx
    from onnx import TensorProto, helper

    name, shape = TASK_INPUTS[task], [BATCH, spec.input_shape[-1], *spec.shape]
    graph = helper.make_graph(
        nodes,
        f"ctedge_{task}",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(output, TensorProto.FLOAT, [BATCH, 1])
            for output in TASK_OUTPUTS[task]
        ],
        weights,
    )
    model = helper.make_model(
        graph,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="ctedge",
        producer_version=__version__,
        doc_string=f"{_INPUTS[name].format(task=task)} Not a medical device.",
    )
    helper.set_model_props(model, dict(properties))
    try:
        model = onnx.shape_inference.infer_shapes(
            model, check_type=True, strict_mode=True, data_prop=True
        )
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise refusal(f"the ONNX checker: {error}", "a valid model") from error
    return model
