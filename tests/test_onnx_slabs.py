"""What a CPU loads of the shipped networks is cut into slabs, as many as were measured."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx

from ctedge.bundle.files import shipped_bundles
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.onnx_file.for_cpu import for_onnx_runtime, for_openvino

#: Of 63 planes behind the first pooling, and of 31 behind the second: four to a slab.
SLABS, INT8_SLABS = 16, 8


def operators(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


@pytest.mark.parametrize("name", shipped_bundles())
@pytest.mark.parametrize("rewrite", [for_onnx_runtime, for_openvino])
def test_the_first_block_runs_in_slabs(name, rewrite):
    model = ModelBundle.load(name).model_bytes()
    added = operators(rewrite(model, "fp32")) - operators(model)
    again = dict.fromkeys(("Conv", "Relu", "MaxPool"), SLABS - 1)
    assert added == Counter({"Slice": SLABS, "Concat": 1, **again})


@pytest.mark.parametrize("name", shipped_bundles())
def test_onnx_runtime_takes_two_blocks_of_int8_in_slabs(name):
    model = ModelBundle.load(name).model_bytes("int8")
    added = operators(for_onnx_runtime(model, "int8")) - operators(model)
    assert (added["Slice"], added["Concat"]) == (INT8_SLABS, 1)
    assert added["Conv"] == added["MaxPool"] == 2 * (INT8_SLABS - 1)


@pytest.mark.parametrize("name", shipped_bundles())
def test_openvino_takes_int8_whole_without_its_dead_voxels(name):
    model = ModelBundle.load(name).model_bytes("int8")
    assert operators(for_openvino(model, "int8")) - operators(model) == Counter({"Slice": 1})
