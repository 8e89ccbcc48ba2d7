"""The gate of the maps, where a cell of a map is no number: not the first one that is drawn."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import onnx

from ctedge.onnx_file.parts import answers_of
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.gates import keras_maps
from ctedge_export.gates.inputs import NOISE, gate_inputs
from ctedge_export.network.grad_cam import grad_cam
from ctedge_export.network.layer_cam import layer_cam
from ctedge_export.network.volumes import convert_volumes
from run_factory import SMALL, small_bundle, small_network


@pytest.mark.parametrize("kind", ["cam", "layer_cam"])
@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_holds_what_is_no_number_does_not_pass(
    tmp_path_factory, monkeypatch, kind, which, value
):
    bundle = small_bundle(tmp_path_factory.getbasetemp())
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(answers_of(bundle.model)))
    coarse = grad_cam(inferred, answer="logit")
    looked_at = coarse if kind == "cam" else layer_cam(inferred, coarse)
    converted = convert_volumes(small_network(), task="classifier", spec=SMALL, properties={})
    shown = [one for one in gate_inputs(SMALL) if one.name in NOISE][:2]
    run, drawn = OnnxRuntime.run, []

    def broken(runtime, batch, *, outputs=None):
        answers = run(runtime, batch, outputs=outputs)
        drawn.append(1)
        if len(drawn) == which:
            next(iter(answers.values())).flat[0] = value
        return answers

    monkeypatch.setattr(OnnxRuntime, "run", broken)
    result = keras_maps.check(small_network(), bundle.model, converted, (looked_at,), shown)
    assert len(drawn) == 2
    assert not result.passed, result
