"""Slabs: the first blocks of a network calculated one slab of the volume after the other.

The results of the first convolutions are the largest tensors of a 3D network, and a runtime that
unrolls them needs several times that. Up to the second pooling each cell sees a small box of the
input, so the volume is cut into slabs that overlap by what their edges see, the layers run on each
of them with the same weights, and what they make is put together again: every cell is calculated
from the same numbers as before. Only the first convolution's values in the overlaps are
calculated twice.
"""

from __future__ import annotations

from ctedge.onnx_file.chain import SPATIAL, Chain, read
from ctedge.onnx_file.dead_voxels import MARK, cuttable, slice_of, without_dead_voxels
from ctedge.onnx_file.graph import node, replace_nodes

#: Nodes that slabs may add up to: ten times what the published network needs, with room for
#: finer slabs of larger grids. Where it would take more, there are none.
_MAX_NODES = 4096


def in_slabs(model: bytes, *, cells: int, poolings: int = 2, axis: int | None = None) -> bytes:
    """The same network, its first blocks in slabs, without its dead voxels.

    Args:
        model: an ONNX file that the guard passed. What is not understood is left as it is.
        cells: how many planes of the last block's result a slab makes, at most.
        poolings: how many blocks run slab-wise, each to the end of its pooling; fewer where the
            chain behind the input is shorter.
        axis: the spatial axis that is cut, 0 to 2; None takes the longest, of which the slabs are
            the smallest.
    """
    found = cuttable(model)
    if found is None:
        return model
    chain = found[1]
    depth = _depth(chain, poolings)
    if depth == 0:
        return without_dead_voxels(model)
    layers = chain.layers[:depth]
    size = chain.live(depth)
    if axis is None:
        axis = max(range(SPATIAL), key=lambda place: size[place])
    count = -(-size[axis] // cells)
    if count < 2 or count * depth > _MAX_NODES:
        return without_dead_voxels(model)
    made: list[bytes] = []
    weights: list[bytes] = []
    parts: list[str] = []
    for place in range(count):
        planes = [(0, length) for length in size]
        planes[axis] = size[axis] * place // count, size[axis] * (place + 1) // count
        bounds = [read(layers, along, *planes[along]) for along in range(SPATIAL)]
        tensor = f"{MARK}{place}"
        cut, constants = slice_of(chain.input, tensor, bounds)
        made.append(cut)
        weights += constants
        for layer in layers:
            makes = f"{MARK}{place}.{layer.node.outputs[0]}"
            made.append(layer.node.copy(reads=tensor, makes=makes))
            tensor = makes
        parts.append(tensor)
    made.append(node("Concat", parts, layers[-1].node.outputs[0], axis=2 + axis))
    return replace_nodes(model, [layer.node for layer in layers], made, weights)


def _depth(chain: Chain, poolings: int) -> int:
    """How many layers run slab-wise: to that pooling, or the last before it; 0 where none does.

    A quantisation behind the pooling goes with it: runtimes draw it into the convolution before,
    and would calculate that one in float if something stood between.
    """
    ends = [place for place, layer in enumerate(chain.layers, start=1) if layer.pools]
    if not ends:
        return 0
    depth = ends[min(len(ends), poolings) - 1]
    following = chain.layers[depth : depth + 1]
    return depth + any(layer.node.operator == "QuantizeLinear" for layer in following)
