"""What a runtime on a CPU loads: the same network, written so that it takes less memory.

Measured, by runtime and precision, in docs/rewrites.md. A network without the chain of layers that
is cut is loaded as it is.
"""

from __future__ import annotations

from ctedge.onnx_file.slabs import in_slabs

#: ONNX Runtime unrolls a convolution of a volume as a whole, into 27 times its input. Planes of the
#: second pooling that a slab makes: with two (15 slabs of the published grid) the same bits come in
#: the same time and a fifth of the memory; with one, the first layer is calculated twice.
_UNROLLED_CELLS = 2

#: OpenVINO does not unroll, so the second block stays whole. Planes of the first pooling that a
#: slab makes: the first convolution's result is a quarter of a gigabyte in float32, which int8
#: files have there too, and half of that in bfloat16. Each slab calculates two planes of it anew.
_OPENVINO_CELLS = {"fp32": 4, "bf16": 8, "int8": 8}


def for_onnx_runtime(model: bytes) -> bytes:
    """The same network, bit for bit (int8: a level of rounding), or the same bytes."""
    return in_slabs(model, cells=_UNROLLED_CELLS)


def for_openvino(model: bytes, precision: str) -> bytes:
    """The same network but for rounding, or the same bytes.

    Slabs share memory only where all sizes are known, the batch's too: compile it for one volume.
    """
    return in_slabs(model, cells=_OPENVINO_CELLS[precision], poolings=1)
