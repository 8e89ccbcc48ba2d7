"""A network cut into slabs, without its dead voxels, answers bit for bit as the file does."""

from __future__ import annotations

import importlib.util
import random
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bundle_factory import tiny_model
from ctedge.bundle.maps import CAM, LAYER_CAM
from ctedge.onnx_file.chain import chain_of
from ctedge.onnx_file.dead_voxels import MARK, without_dead_voxels
from ctedge.onnx_file.graph import read_graph
from ctedge.onnx_file.guard import inspect_model
from ctedge.onnx_file.parts import part_of
from ctedge.onnx_file.slabs import in_slabs
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.network.maps import explain
from ctedge_export.precision import half
from ctedge_export.precision.rounded import write_out_roundings
from engine_factory import chain, densenet
from precision_factory import SPEC, network, weights

ort = pytest.importorskip("onnxruntime")

#: The smallest grid; the published one's proportions; odd and unequal axes.
GRIDS = [(46, 46, 46), (64, 64, 48), (47, 51, 62), (50, 66, 49)]

#: A level of int8: a runtime draws roundings into the convolution before as its neighbours allow.
INT8_LEVEL = 1e-3
#: float32 sums of a few hundred products, in another order.
ROUNDING = 1e-5


def grown(model: onnx.ModelProto | bytes, grid: tuple[int, ...]) -> bytes:
    """The same network with an input of another size; its weights serve every size."""
    if isinstance(model, bytes):
        model = onnx.load_from_string(model)
    del model.graph.value_info[:]
    for axis, size in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], grid, strict=True):
        axis.dim_value = size
    data: bytes = model.SerializeToString()
    return data


def answers(model: bytes, batch: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: batch}))


def checked(model: bytes) -> Counter[str]:
    """Both checks of a rewritten file, and how often each operator stands in it."""
    inspect_model(model)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


def small(precision: str, grid: tuple[int, ...] = SPEC.shape) -> bytes:
    if precision == "fp32":
        return grown(network(weights()), grid)
    if precision == "int8":
        return grown(chain("int8"), grid)
    halved = half.halve(network(weights()), precision)
    return grown(halved, grid)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("cells", [1, 2, 5])
def test_the_answers_keep_every_bit(grid, cells, rng):
    model = small("fp32", grid)
    cut = in_slabs(model, cells=cells)
    for count in (1, 3):
        batch = rng.random((count, 1, *grid), dtype=np.float32)
        for found, expected in zip(answers(cut, batch), answers(model, batch), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("poolings", [1, 2, 3])
def test_along_each_axis_to_each_pooling(axis, poolings, rng):
    model = small("fp32", (47, 51, 62))
    cut = in_slabs(model, cells=2, poolings=poolings, axis=axis)
    operators = checked(cut)
    assert operators["Slice"] > 1
    assert operators["Concat"] == 1
    batch = rng.random((1, 1, 47, 51, 62), dtype=np.float32)
    np.testing.assert_array_equal(answers(cut, batch)[0], answers(model, batch)[0])


def test_half_precision_and_its_written_out_roundings(rng):
    batch = rng.random((2, 1, *SPEC.shape), dtype=np.float32)
    for model in (small("fp16"), write_out_roundings(small("fp16"))):
        cut = in_slabs(model, cells=2)
        assert checked(cut)["Slice"] > 1
        np.testing.assert_array_equal(answers(cut, batch)[0], answers(model, batch)[0])


def test_int8_within_a_level(rng):
    model = small("int8")
    cut = in_slabs(model, cells=2)
    operators = checked(cut)
    assert operators["QuantizeLinear"] > 4
    batch = rng.random((3, 1, *SPEC.shape), dtype=np.float32)
    np.testing.assert_allclose(answers(cut, batch)[0], answers(model, batch)[0], atol=INT8_LEVEL)
    bare = without_dead_voxels(model)
    np.testing.assert_array_equal(answers(bare, batch)[0], answers(model, batch)[0])


@pytest.mark.parametrize(
    ("grid", "live"),
    [
        ((128, 128, 64), (126, 126, 62)),
        ((64, 128, 128), (62, 126, 126)),
        ((46, 46, 46), (46, 46, 46)),
        ((47, 61, 62), (46, 46, 62)),
    ],
    ids=str,
)
def test_what_is_read_of_the_input(grid, live):
    graph = read_graph(small("fp32", grid))
    assert graph is not None
    found = chain_of(graph)
    assert found is not None
    assert found.live() == live


def test_dead_voxels_change_nothing_and_cut_what_nobody_reads(rng):
    model = small("fp32", (47, 61, 62))
    cut = without_dead_voxels(model)
    assert checked(cut)["Slice"] == 1
    batch = rng.random((2, 1, 47, 61, 62), dtype=np.float32)
    expected = answers(model, batch)[0]
    np.testing.assert_array_equal(answers(cut, batch)[0], expected)
    batch[..., 46:, :] = np.nan  # rows that nobody reads
    np.testing.assert_array_equal(answers(cut, batch)[0], expected)
    whole = small("fp32")
    assert without_dead_voxels(whole) is whole


def test_how_many_nodes_there_are():
    model = small("fp32", (64, 64, 48))  # 14 planes behind the second pooling
    before = checked(model)
    after = checked(in_slabs(model, cells=4))
    slabs = 4
    added = {"Slice": slabs, "Concat": 1, "Conv": 2 * (slabs - 1)}
    added |= {"Relu": 2 * (slabs - 1), "MaxPool": 2 * (slabs - 1)}
    assert after - before == Counter(added)


def test_twice_is_once():
    once = in_slabs(small("fp32"), cells=2)
    assert in_slabs(once, cells=2) is once
    assert without_dead_voxels(once) is once


def of_unknown_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "rows"


def with_a_second_input(model: onnx.ModelProto) -> None:
    other = helper.make_tensor_value_info("conv1.bias", TensorProto.FLOAT, [4])
    model.graph.input.append(other)


def weighed(model: onnx.ModelProto) -> None:
    """By what the input decides."""
    model.graph.node.insert(0, helper.make_node("Identity", ["volume"], ["w"], "w"))
    model.graph.node[1].input[1] = "w"


def marked(model: onnx.ModelProto) -> None:
    """With a name that a rewrite would take."""
    model.graph.node[-1].name = f"{MARK}0"


class TestLeftAsItIs:
    def test_other_networks(self):
        for model in (tiny_model().SerializeToString(), densenet(), b"", b"\x3a\x05\x00", b"text"):
            assert in_slabs(model, cells=2) is model
            assert without_dead_voxels(model) is model

    @pytest.mark.parametrize(
        "attribute",
        [
            {"pads": [1] * 6},
            {"auto_pad": "SAME_UPPER"},
            {"kernel_shape": [0, 3, 3]},
            {"kernel_shape": [99, 3, 3]},
            {"kernel_shape": [3, 3]},
            {"strides": [-1, 1, 1]},
            {"dilations": [1 << 62] * 3},
        ],
        ids=str,
    )
    def test_a_first_layer_that_is_not_understood(self, attribute):
        model = network(weights())
        (name,) = attribute
        first = model.graph.node[0]
        kept = [one for one in first.attribute if one.name != name]
        del first.attribute[:]
        first.attribute.extend([*kept, helper.make_attribute(name, attribute[name])])
        data = model.SerializeToString()
        assert in_slabs(data, cells=2) is data

    @pytest.mark.parametrize("spoil", [of_unknown_size, with_a_second_input, weighed, marked])
    def test_what_could_be_misread(self, spoil):
        model = network(weights())
        spoil(model)
        data = model.SerializeToString()
        assert in_slabs(data, cells=2) is data

    def test_a_scale_along_an_axis(self):
        model = network(weights())
        model.graph.initializer.append(numpy_helper.from_array(np.full(46, 0.1, "f"), "scale"))
        nodes = [
            helper.make_node("QuantizeLinear", ["volume", "scale"], ["q"], "q", axis=2),
            helper.make_node("DequantizeLinear", ["q", "scale"], ["dq"], "dq", axis=2),
        ]
        model.graph.node[0].input[0] = "dq"
        model.graph.node.extend(nodes)
        data = model.SerializeToString()
        assert in_slabs(data, cells=2) is data


def test_mutated_files_end():
    original = small("fp32")
    random_bytes = random.Random(3)
    for _ in range(150):
        data = bytearray(original)
        for _ in range(3):
            data[random_bytes.randrange(2000)] ^= 1 << random_bytes.randrange(8)
        assert isinstance(in_slabs(bytes(data), cells=2), bytes)


def test_maps_are_drawn_from_the_same_numbers(rng):
    """Grad-CAM reads the last pooling, LayerCAM the first: what lies before is cut, no more."""
    plain = onnx.shape_inference.infer_shapes(network(weights()))
    model = explain(plain, task="classifier").model.SerializeToString()
    runtime = OnnxRuntime(model, name="with maps")
    assert runtime.maps == (CAM, LAYER_CAM)
    names = ["logit", CAM, LAYER_CAM]
    batch = rng.random((2, 1, *SPEC.shape), dtype=np.float32)
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    for found, expected in zip(
        runtime.run(batch, outputs=names).values(),
        session.run(names, {"volume": batch}),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    runtime.close()
    cut = onnx.load_from_string(in_slabs(part_of(model, names), cells=4))
    reads = [node.input[0] for node in cut.graph.node if node.op_type == "Conv"]
    assert reads.count("pool1") == 1  # the second layer is whole: LayerCAM looks at it


class TestOpenVino:
    @pytest.mark.parametrize("precision", ["fp32", "int8"])
    def test_batches_are_run_volume_after_volume(self, precision, rng):
        if importlib.util.find_spec("openvino") is None:  # importing it would send a message
            pytest.skip("OpenVINO is not installed")
        from ctedge.runtimes.cpu_flags import why_int8_saturates
        from ctedge.runtimes.openvino_runtime import OpenVinoRuntime

        if precision == "int8" and why_int8_saturates():
            pytest.skip("int8 saturates on this CPU")

        model = small(precision, (64, 64, 48))
        batch = rng.random((3, 1, 64, 64, 48), dtype=np.float32)
        runtime = OpenVinoRuntime(model, name="small", precision=precision)
        found = runtime.run(batch)["logit"]
        np.testing.assert_array_equal(found[1:2], runtime.run(batch[1:2])["logit"])
        limit = ROUNDING if precision == "fp32" else INT8_LEVEL
        np.testing.assert_allclose(found, answers(model, batch)[0], atol=limit)


def test_a_long_chain_is_read_once():
    """Of ten thousand layers before the first pooling nobody wants a copy for each slab."""
    model = network(weights())
    first = model.graph.node[0]
    previous = "volume"
    for number in range(10_000):
        model.graph.node.append(helper.make_node("Relu", [previous], [f"r{number}"]))
        previous = f"r{number}"
    first.input[0] = previous
    data = model.SerializeToString()
    assert len(in_slabs(data, cells=1)) < 2 * len(data)
