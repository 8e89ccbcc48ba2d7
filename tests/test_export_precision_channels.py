"""INT8's preparation: channels on scales of their own, weights that make up for each other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from onnx import numpy_helper

from ctedge.bundle.maps import CAM
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates import structural
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.gates.keras_layers import with_outputs
from ctedge_export.gates.runners import onnx_runner
from ctedge_export.network.maps import explain
from ctedge_export.precision import calibration, half, weights
from ctedge_export.precision.channels import STEP, ZERO, rescaled, sources
from ctedge_export.precision.quantised import quantised
from ctedge_export.precision.seen import look
from ctedge_export.precision.trunk import convolutions, multiplications
from engine_factory import densenet
from precision_factory import SPEC, network
from precision_factory import weights as drawn_weights

CHESTS = gate_inputs(SPEC)[-3:]

#: Float32 through some twenty nodes: 1e-6 of a logit of some units.
ROUNDING = 2e-5


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return network(drawn_weights())


def ranges_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Of the network for volumes, from 1 to 9 by channel; only that they differ matters."""
    channels = {node.input[0]: 0 for node in model.graph.node if node.op_type == "Conv"}
    sizes = {one.name: one.dims for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv":
            channels[node.input[0]] = sizes[node.input[1]][1]
    return {tensor: np.linspace(1, 9, count) for tensor, count in channels.items()}


def run(model: onnx.ModelProto, batch: np.ndarray) -> dict[str, np.ndarray]:
    return OnnxRuntime(model.SerializeToString(), name="x").run(batch)


def test_other_scales_inside_are_the_same_network(model: onnx.ModelProto) -> None:
    changed = rescaled(model, ranges_of(model))
    assert set(sources(model)) == changed.shifted == {"pool1", "pool2", "pool3"}
    assert [n.name for n in changed.model.graph.node] == [n.name for n in model.graph.node]
    assert structural.check(changed.model.SerializeToString(), task="classifier").passed
    for shown in CHESTS:
        expected, found = run(model, shown.batch), run(changed.model, shown.batch)
        np.testing.assert_allclose(found["logit"], expected["logit"], rtol=0, atol=ROUNDING)
    data = changed.model.SerializeToString()
    inside = OnnxRuntime(with_outputs(data, ["pool1"]), name="x").run(CHESTS[0].batch)["pool1"]
    before = OnnxRuntime(with_outputs(model.SerializeToString(), ["pool1"]), name="x").run(
        CHESTS[0].batch
    )["pool1"]
    widths = ranges_of(model)["pool1"].reshape(1, -1, 1, 1, 1)
    np.testing.assert_allclose(inside, before / widths + ZERO, rtol=0, atol=1e-6)
    # Nothing and everything are the ends of int8, and nothing is one of its levels.
    assert inside.min() == np.float32(ZERO)
    assert pytest.approx(-128) == ZERO / STEP


def test_a_dense_network_is_scaled_where_that_changes_nothing() -> None:
    dense = onnx.load_from_string(densenet())
    changed = rescaled(dense, ranges_of(dense))
    found = sources(dense)
    # The stem reads the picture, which nothing makes; what pads with zeros is not shifted.
    assert len(found) == len(convolutions(dense)) - 1
    assert {source.shifts for source in found.values()} == {True, False}
    batch = np.random.default_rng(1).random((2, 3, 32, 32), dtype=np.float32)
    expected, answers = run(dense, batch), run(changed.model, batch)
    np.testing.assert_allclose(answers["logit"], expected["logit"], rtol=0, atol=ROUNDING)


def test_what_something_else_reads_keeps_its_scale(model: onnx.ModelProto) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    other.graph.node.append(onnx.helper.make_node("Relu", ["relu2"], ["seen"], "seen"))
    assert set(sources(other)) == {"pool1", "pool3"}
    changed = rescaled(other, ranges_of(other))
    assert changed.tops["pool2"] == 9
    expected, found = run(model, CHESTS[0].batch), run(changed.model, CHESTS[0].batch)
    np.testing.assert_allclose(found["logit"], expected["logit"], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_grad_cam_stays_in_float_beside_the_average(model: onnx.ModelProto, precision: str) -> None:
    """The last pooling has two readers then."""
    explained = explain(model, task="classifier", finest=CAM)  # as `export precision` takes it
    if precision == "int8":
        data = quantised(explained.model, look(model, CHESTS), "min-max").write()
    else:
        data = half.halve(explained.model, precision)
    written = onnx.load_from_string(data)
    kinds = structural.element_types(written)
    maps = [node for node in written.graph.node if node.name.split(".")[0] == "cam"]
    assert maps
    assert {kinds[name] for node in maps for name in node.output} == {onnx.TensorProto.FLOAT}
    assert structural.check(data, task="classifier", precision=precision).passed
    expected = OnnxRuntime(explained.model.SerializeToString(), name="x").run(
        CHESTS[0].batch, outputs=["cam"]
    )["cam"]
    if precision != "bf16":  # which ONNX Runtime cannot run as it is
        found = OnnxRuntime(data, name="x").run(CHESTS[0].batch, outputs=["cam"])["cam"]
        assert np.abs(found - expected).max() < 0.1 * max(float(expected.max()), 1e-3)
    answers = onnx_runner(data, precision).run(CHESTS[0].batch)
    assert set(answers) == {"logit", "probability"}


def test_multiplications_are_those_of_every_place(model: onnx.ModelProto) -> None:
    counted = multiplications(model)
    assert list(counted) == ["conv1", "conv2", "conv3", "conv4"]
    assert counted["conv1"] == 44**3 * 27 * 4  # 46 less two, valid; 4 channels from 1
    assert counted["conv2"] == 20**3 * 27 * 4 * 4


def test_moments_are_those_of_what_a_result_reads() -> None:
    dense = onnx.load_from_string(densenet(blocks=(1,)))
    shown = gate_inputs(SPEC)[-1]
    picture = np.repeat(shown.values[:, :, :1], 3, axis=2)[:32, :32]

    class Picture:
        batch = np.ascontiguousarray(picture.transpose(2, 0, 1)[np.newaxis])

    found = look(dense, [Picture()])  # type: ignore[list-item]
    stem = next(node for node in dense.graph.node if node.op_type == "Conv")
    moments = found.moments[stem.name]
    assert moments.shape == (3 * 49, 3 * 49)
    # Every place of the stem is drawn, fewer than eight for each of its 147 inputs.
    windows = np.lib.stride_tricks.sliding_window_view(Picture.batch[0], (7, 7), axis=(1, 2))
    rows = windows[:, ::2, ::2].transpose(1, 2, 0, 3, 4).reshape(-1, 147).astype(np.float64)
    np.testing.assert_allclose(moments, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)


def test_compensating_weights_change_results_less_than_nearest_ones() -> None:
    rng = np.random.default_rng(5)
    hidden = rng.standard_normal((6, 54))
    inputs = np.maximum(rng.standard_normal((4000, 6)) @ hidden, 0)
    values = rng.standard_normal((16, 2, 27)).astype(np.float32)
    rounded = {
        "nearest": weights.nearest(values),
        "compensating": weights.compensating(values, inputs.T @ inputs / len(inputs)),
    }
    lost = {}
    for name, (levels, scales) in rounded.items():
        assert levels.dtype == np.int8
        assert np.abs(levels.astype(int)).max() == 127
        difference = levels * scales[:, np.newaxis, np.newaxis] - values
        lost[name] = float(np.square(inputs @ difference.reshape(16, -1).T).mean())
    # Six hidden causes of 54 inputs: a small part of the error is left.
    assert lost["compensating"] < lost["nearest"] / 4


def test_a_channel_that_calibration_never_saw_alive_does_no_harm() -> None:
    drawn = drawn_weights()
    drawn["conv2.bias"][0] = -100
    dead = network(drawn)
    ready = quantised(dead, look(dead, CHESTS), "error")
    answers = onnx_runner(ready.write(), "int8").run(CHESTS[0].batch)
    expected = onnx_runner(dead.SerializeToString()).run(CHESTS[0].batch)
    # A twentieth of what the answers of these weights spread over.
    assert abs(answers["logit"].item() - expected["logit"].item()) < 0.1


def test_corrected_biases_give_the_mean_of_float(model: onnx.ModelProto) -> None:
    ready = quantised(model, look(model, CHESTS), "percentile")
    after = ready.corrected(CHESTS[:1])
    assert set(calibration.METHODS) == {"min-max", "percentile", "entropy", "error"}
    found = {}
    for name, one in (("before", ready), ("after", after)):
        data = one.write()
        ran = OnnxRuntime(with_outputs(data, ["conv4"]), name="x")
        whole = OnnxRuntime(with_outputs(one.model.SerializeToString(), ["conv4"]), name="x")
        means = [
            session.run(CHESTS[0].batch)["conv4"].mean(axis=(0, 2, 3, 4))
            for session in (ran, whole)
        ]
        found[name] = float(np.abs(means[0] - means[1]).max())
    assert found["after"] < 1e-4 < found["before"] or found["after"] < found["before"] / 5
    assert {numpy_helper.to_array(w).dtype for w in after.model.graph.initializer} == {
        np.dtype(np.float32)
    }
