"""ImageNet's DenseNet121 from the file that Keras hands out, read by our own layer map.

Source: `densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5` of keras.applications. It names
its layers otherwise than Keras 3 does ("conv1/bn", "conv1_bn"), so the order tells which is which,
and the shape of every array is checked.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ctedge.errors import InvalidBundle, counted
from ctedge_training.legacy import hdf5

if TYPE_CHECKING:
    import keras

#: MD5 of the published file, as keras.applications checks it. HDF5's library was not written for
#: hostile files, so no other file is opened.
PUBLISHED_MD5 = "30ee3e1110167f948a6b9946edeeb738"

#: The published file has 29 MB.
_MAX_BYTES = 64 << 20


def load_imagenet(body: list[keras.layers.Layer], path: Path) -> None:
    """Give the layers of a DenseNet121 the weights of a file, in place.

    Args:
        body: the network's layers without its head, in Keras' order.
        path: Keras' weights without the top.

    Raises:
        InvalidBundle: no such file, or another one.
        MissingExtra: h5py is absent.
    """
    data = read_published(path)
    weighted = [layer for layer in body if layer.weights]
    with hdf5.open_hdf5(data, path.name) as root:
        groups = [hdf5.subgroup(root, name) for name in hdf5.names_attribute(root, "layer_names")]
        named = [(group, hdf5.names_attribute(group, "weight_names")) for group in groups]
        filled = [(group, names) for group, names in named if names]
        if [len(names) for _, names in filled] != [len(layer.weights) for layer in weighted]:
            raise InvalidBundle(
                f"{path.name} holds another network than DenseNet121 without its top",
                found=f"{counted(len(filled), 'layer')} with weights",
                expected=f"{len(weighted)}",
                fix="give Keras' file densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
            )
        values = [
            [
                hdf5.read_weight(group, name, tuple(variable.shape))[0]
                for name, variable in zip(names, layer.weights, strict=True)
            ]
            for (group, names), layer in zip(filled, weighted, strict=True)
        ]
    for layer, arrays in zip(weighted, values, strict=True):
        layer.set_weights(arrays)


def read_published(path: Path) -> bytes:
    """All of the file that Keras hands out.

    Raises:
        InvalidBundle: no such file, or another one.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InvalidBundle(
                f"{path} is too large to be DenseNet121",
                found=f"{path.stat().st_size} bytes",
                expected=f"at most {_MAX_BYTES}",
                fix="give Keras' file of DenseNet121 without its top",
            )
        data = path.read_bytes()
    except OSError as error:
        raise InvalidBundle(
            f"{path} cannot be read", found=error.strerror, fix="check the path of --imagenet"
        ) from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != PUBLISHED_MD5:
        raise InvalidBundle(
            f"{path} is not the file that Keras hands out",
            found=f"md5 {found}",
            expected=f"md5 {PUBLISHED_MD5}",
            fix="download densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5 again; to start"
            " from other weights, train or import them and use --start-from",
        )
    return data
