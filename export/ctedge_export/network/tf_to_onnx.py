"""A TensorFlow function to ONNX, through tf2onnx.

Opset 17: from 18 on tf2onnx writes a global average as Transpose and ReduceMean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ctedge.errors import InvalidBundle

if TYPE_CHECKING:
    import onnx

OPSET = 17


def from_function(
    function: Callable[[Any], Any], *, name: str, shape: tuple[int, ...]
) -> onnx.ModelProto:
    """Convert a function of one float32 tensor, with a dynamic batch, as tf2onnx writes it.

    Args:
        function: takes (N, *shape), gives its outputs by name.
        name: of the input.
        shape: of the input, without the batch axis.

    Raises:
        InvalidBundle: tf2onnx cannot convert it.
    """
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec((None, *shape), tf.float32, name=name)]
    with tf.device("/CPU:0"):
        try:
            model: onnx.ModelProto
            model, _ = tf2onnx.convert.from_function(
                tf.function(function), input_signature=signature, opset=OPSET
            )
        except (ValueError, RuntimeError, KeyError, TypeError) as error:
            raise InvalidBundle(
                "tf2onnx cannot convert this network",
                found=f"{type(error).__name__}: {str(error)[:300]}",
                fix="export a network built by `ctedge train`",
            ) from error
    return model


def refusal(found: object, expected: object) -> InvalidBundle:
    """tf2onnx wrote another graph than its known versions write."""
    return InvalidBundle(
        "tf2onnx wrote a graph that ctedge does not recognise",
        found=found,
        expected=expected,
        fix="export with the versions that ctedge's `export` extra names",
    )
