"""Keras to ONNX through tf2onnx: the folded network, NCDHW, with a dynamic batch.

Opset 17: from 18 on tf2onnx writes the global average as Transpose and ReduceMean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ctedge.errors import InvalidBundle
from ctedge_export.fold import Step

if TYPE_CHECKING:
    import keras
    import onnx

OPSET = 17
INPUT_NAME = "volume"


def rebuild(steps: tuple[Step, ...], shape: tuple[int, int, int]) -> keras.Model:
    """A Keras network of the folded steps: float32 (N, *shape, 1) to (N, 1), the last one linear.

    The sigmoid of a classifier is left off; the graph adds it behind the logit.
    """
    import keras

    tensor = source = keras.Input((*shape, 1), name=INPUT_NAME)
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
    import tf2onnx

    shape = network.input_shape[1:4]

    def graph(volume: Any) -> dict[str, Any]:
        # (N, 1, A, B, C) to (N, A, B, C, 1). One channel: tf2onnx turns it into a reshape.
        raw = network(tf.transpose(volume, [0, 2, 3, 4, 1]), training=False)
        if task == "severity":
            return {"score": raw}
        return {"logit": raw, "probability": tf.sigmoid(raw)}

    signature = [tf.TensorSpec((None, 1, *shape), tf.float32, name=INPUT_NAME)]
    with tf.device("/CPU:0"):
        try:
            model: onnx.ModelProto
            model, _ = tf2onnx.convert.from_function(
                tf.function(graph), input_signature=signature, opset=OPSET
            )
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise InvalidBundle(
                "tf2onnx cannot convert this network",
                found=f"{type(error).__name__}: {str(error)[:300]}",
                fix="export a network built by `ctedge train`",
            ) from error
    return model
