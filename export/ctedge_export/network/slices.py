"""A network for slices, Keras to ONNX: DenseNet121 with an NCHW input and a dynamic batch.

tf2onnx converts everything up to the last ReLU: it takes the BatchNorm that follows a convolution
into that convolution, and leaves those before a ReLU as Mul and Add. The head (global average and
Dense) is written here from Keras' weights, so that the logit is an output beside its sigmoid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from ctedge.bundle.manifest import TASK_INPUTS
from ctedge.errors import InvalidBundle, counted
from ctedge.spec import SliceSpec
from ctedge_export.network import tidy_slices
from ctedge_export.network.onnx_model import Converted, Landmark, finished_model
from ctedge_export.network.tf_to_onnx import from_function

if TYPE_CHECKING:
    import keras
    import onnx

TASK = "slices"

#: What the trunk may consist of: layers that do the same to every picture of a batch, at rest.
_TRUNK_KINDS = frozenset(
    (
        "Activation",
        "AveragePooling2D",
        "BatchNormalization",
        "Concatenate",
        "Conv2D",
        "InputLayer",
        "MaxPooling2D",
        "ZeroPadding2D",
    )
)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Parts:
    """The trunk's layers, the last of which is the ReLU before the average, and the head's."""

    trunk: tuple[Any, ...]
    dense: Any

    @property
    def activations(self) -> tuple[str, ...]:
        return self._names("Activation")

    @property
    def batch_norms(self) -> tuple[str, ...]:
        return self._names("BatchNormalization")

    def _names(self, kind: str) -> tuple[str, ...]:
        return tuple(layer.name for layer in self.trunk if type(layer).__name__ == kind)


def convert_slices(
    trained: keras.Model, *, spec: SliceSpec, properties: Mapping[str, str]
) -> Converted:
    """Convert and tidy a network for slices.

    Args:
        trained: the Keras model as loaded: DenseNet121 without its top, GlobalAveragePooling2D,
            Dense 1 with a sigmoid; (N, rows, columns, 3) to (N, 1), float32.
        spec: its preprocessing.
        properties: metadata for whoever opens the file elsewhere.

    Raises:
        InvalidBundle: a network of other layers, or one that tf2onnx cannot convert.
    """
    parts = _parts(trained)
    written = tidy_slices.tidy_trunk(_trunk_to_onnx(trained, parts, spec))
    if len(written.activations) != len(parts.activations):
        _refuse(
            parts.trunk[-1],
            f"{counted(len(written.activations), 'ReLU')} in the ONNX graph",
            f"{len(parts.activations)}, as in Keras",
        )
    nodes, weights = tidy_slices.head(parts.dense, after=written.features)
    return Converted(
        model=finished_model(
            [*written.nodes, *nodes],
            [*written.weights, *weights],
            task=TASK,
            spec=spec,
            properties=properties,
        ),
        folded=len(parts.batch_norms) - written.scales,
        landmarks=tuple(
            Landmark(node=node, layer=layer)
            for node, layer in zip(written.activations, parts.activations, strict=True)
        ),
        last=Landmark(node=tidy_slices.DENSE, layer=parts.dense.name),
    )


def _parts(trained: keras.Model) -> _Parts:
    """Take the network apart, refusing what is not a trunk, an average and a Dense."""
    *trunk, average, dense = trained.layers
    for layer in trunk:
        if type(layer).__name__ not in _TRUNK_KINDS:
            _refuse(layer, type(layer).__name__, f"one of {', '.join(sorted(_TRUNK_KINDS))}")
        if layer.get_config().get("activation", "relu") not in ("relu", "linear"):
            _refuse(layer, layer.get_config()["activation"], "relu")
    for layer in trained.layers:
        if layer.compute_dtype != "float32":
            _refuse(layer, f"computation in {layer.compute_dtype}", "float32")
        if layer.get_config().get("data_format", "channels_last") != "channels_last":
            _refuse(layer, layer.get_config()["data_format"], "channels_last")
    for layer, kind, before in (
        (average, "GlobalAveragePooling2D", trunk[-1]),
        (dense, "Dense", average),
    ):
        if type(layer).__name__ != kind or layer.input is not before.output:
            _refuse(layer, type(layer).__name__, f"{kind} behind {before.name!r}")
    config = dense.get_config()
    found = (config["units"], config["activation"])
    if found != (1, "sigmoid") or trained.outputs[0] is not dense.output:
        _refuse(dense, f"Dense({found[0]}), activation {found[1]!r}", "Dense(1), 'sigmoid'")
    if type(trunk[-1]).__name__ != "Activation":
        _refuse(trunk[-1], type(trunk[-1]).__name__, "a ReLU before the average")
    return _Parts(trunk=tuple(trunk), dense=dense)


def _trunk_to_onnx(trained: keras.Model, parts: _Parts, spec: SliceSpec) -> onnx.ModelProto:
    import keras
    import tensorflow as tf

    trunk = keras.Model(trained.inputs, parts.trunk[-1].output)

    def graph(image: Any) -> dict[str, Any]:
        features = trunk(tf.transpose(image, [0, 2, 3, 1]), training=False)
        # With both transposes tf2onnx finds that every layer can stay NCHW, and drops them.
        return {tidy_slices.FEATURES: tf.transpose(features, [0, 3, 1, 2])}

    return from_function(graph, name=TASK_INPUTS[TASK], shape=(3, *spec.shape))


def _refuse(layer: Any, found: object, expected: object) -> NoReturn:
    raise InvalidBundle(
        f"the layer {layer.name!r} cannot be exported",
        found=found,
        expected=expected,
        fix="export a network built by `ctedge train slices`",
    )
