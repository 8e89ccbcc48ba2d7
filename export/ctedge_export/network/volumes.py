"""A network for whole scans, Keras to ONNX: folded, NCDHW, with a dynamic batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctedge.bundle.manifest import TASK_INPUTS
from ctedge.spec import PreprocessSpec
from ctedge_export.network import tidy_volumes as tidy
from ctedge_export.network.fold import Step, fold
from ctedge_export.network.onnx_model import Converted, Landmark
from ctedge_export.network.tf_to_onnx import from_function

if TYPE_CHECKING:
    import keras
    import onnx


def rebuild(steps: tuple[Step, ...], shape: tuple[int, int, int]) -> keras.Model:
    """A Keras network of the folded steps: float32 (N, *shape, 1) to (N, 1), the last one linear.

    The sigmoid of a classifier is left off; the graph adds it behind the logit.
    """
    import keras

    tensor = source = keras.Input((*shape, 1), name="volume")
    weighted = []
    for step in steps:
        config = dict(step.config["config"], name=step.name)
        if step.kernel is not None:
            config["use_bias"] = True
        if step is steps[-1]:
            config["activation"] = "linear"
        layer = getattr(keras.layers, step.config["class_name"]).from_config(config)
        tensor = layer(tensor)
        weighted.append((layer, step))
    for layer, step in weighted:
        if step.kernel is not None:
            layer.set_weights([step.kernel, step.bias])
    return keras.Model(source, tensor)


def to_onnx(network: keras.Model, *, task: str) -> onnx.ModelProto:
    """Convert a network that `rebuild` made, as tf2onnx writes it (see `tidy` for the rest).

    Args:
        network: float32 (N, A, B, C, 1) to (N, 1).
        task: "classifier" adds `probability` = sigmoid(`logit`); "severity" has `score` alone.

    Raises:
        InvalidBundle: tf2onnx cannot convert it.
    """
    import tensorflow as tf

    def graph(volume: Any) -> dict[str, Any]:
        # (N, 1, A, B, C) to (N, A, B, C, 1). One channel: tf2onnx turns it into a reshape.
        raw = network(tf.transpose(volume, [0, 2, 3, 4, 1]), training=False)
        if task == "severity":
            return {"score": raw}
        return {"logit": raw, "probability": tf.sigmoid(raw)}

    return from_function(graph, name=TASK_INPUTS[task], shape=(1, *network.input_shape[1:4]))


def convert_volumes(
    trained: keras.Model, *, task: str, spec: PreprocessSpec, properties: Mapping[str, str]
) -> Converted:
    """Fold, convert and tidy a network for whole scans.

    Args:
        trained: the Keras model as loaded.
        task: "classifier" or "severity".
        spec: its preprocessing.
        properties: metadata for whoever opens the file elsewhere.

    Raises:
        InvalidBundle: a network that cannot be folded exactly, or that tf2onnx cannot convert.
    """
    steps, folded = fold(trained, activation="linear" if task == "severity" else "sigmoid")
    raw = to_onnx(rebuild(steps, spec.shape), task=task)
    *inner, last = steps
    return Converted(
        model=tidy.tidy(raw, steps, task=task, spec=spec, properties=properties),
        folded=folded,
        landmarks=tuple(
            Landmark(node=step.name, layer=step.source) for step in inner if step.comparable
        ),
        last=Landmark(node=last.name, layer=last.source),
    )
