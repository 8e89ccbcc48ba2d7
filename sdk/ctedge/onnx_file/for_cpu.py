"""What a runtime on a CPU loads: the same network, written so that it takes less memory.

Measured, by runtime and precision, in docs/rewrites.md. A network without the chain of layers that
is cut is loaded as it is.
"""

from __future__ import annotations

from ctedge.onnx_file.dead_voxels import without_dead_voxels
from ctedge.onnx_file.rounded_pooling import rounded_before_pooling
from ctedge.onnx_file.slabs import in_slabs

#: Planes of the first pooling that a slab of the first block makes: the first convolution's result
#: is a quarter of a gigabyte in float32. Each slab calculates two planes of it anew.
_CELLS = 4

#: ONNX Runtime unrolls a convolution of int8 as a whole, into 27 times its input: the second block
#: is in slabs too. Planes of the second pooling that a slab makes.
_INT8_CELLS = 4


def for_onnx_runtime(model: bytes, precision: str) -> bytes:
    """The same network, bit for bit (int8: a level of rounding), or the same bytes."""
    if precision == "int8":
        return in_slabs(model, cells=_INT8_CELLS)
    return in_slabs(model, cells=_CELLS, poolings=1)


def for_openvino(model: bytes, precision: str) -> bytes:
    """The same network but for rounding, or the same bytes.

    Slabs share memory only where all sizes are known, the batch's too: compile it for one volume.
    An int8 file needs none, once its first convolution gives bytes.
    """
    if precision == "int8":
        return rounded_before_pooling(without_dead_voxels(model))
    return in_slabs(model, cells=_CELLS, poolings=1)
