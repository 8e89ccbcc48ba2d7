"""Each gate can fail, and says at what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from onnx import TensorProto, helper, numpy_helper

from ctedge.errors import DatasetError
from ctedge_export.gates import cases, numeric, structural, task
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input, gate_inputs
from ctedge_export.gates.result import Figure, GateResult
from ctedge_export.gates.runners import Runner
from ctedge_export.precision import bisect, half
from precision_factory import SPEC, network, weights

INPUTS = gate_inputs(SPEC)


def test_there_are_32_inputs_that_differ() -> None:
    assert len(INPUTS) >= 32
    assert len({shown.name for shown in INPUTS}) == len(INPUTS)
    assert len({shown.levels.tobytes() for shown in INPUTS}) == len(INPUTS)
    assert {"zeros", "ones", "noise", "chest-1", "healthy-chest"} <= {one.name for one in INPUTS}


def test_a_result_that_is_no_number_fails() -> None:
    assert not Figure(name="x", value=float("nan"), limit=1).holds
    result = GateResult(gate="numeric", figures=(Figure(name="x", value=float("inf"), limit=1),))
    assert (result.passed, result.worst) == (False, float("inf"))
    assert result.to_json()["figures"]["x"]["value"] is None
    assert "x inf > 1" in str(result)


# The structural gate


def check(model: onnx.ModelProto, precision: str = "fp32") -> GateResult:
    return structural.check(model.SerializeToString(), task="classifier", precision=precision)


def test_a_tidy_graph_passes_in_every_precision() -> None:
    assert check(network(weights())).passed
    assert structural.check(
        network(weights(), "severity").SerializeToString(), task="severity"
    ).passed
    for precision in ("fp16", "bf16"):
        data = half.halve(network(weights()), precision, keep={"conv3"})
        result = structural.check(data, task="classifier", precision=precision)
        assert result.passed, str(result)
        assert result.details["convolutions"] == {"fp32": 1, precision: 3}


def with_transpose(model: onnx.ModelProto) -> None:
    node = helper.make_node("Transpose", ["pool1"], ["turned"], "stray", perm=[0, 1, 2, 3, 4])
    model.graph.node.insert(3, node)
    model.graph.node[4].input[0] = "turned"


def with_affine(model: onnx.ModelProto) -> None:
    factor = numpy_helper.from_array(np.ones((1, 4, 1, 1, 1), np.float32), "factor")
    model.graph.initializer.append(factor)
    model.graph.node.insert(3, helper.make_node("Mul", ["pool1", "factor"], ["scaled"], "scale1"))
    model.graph.node[4].input[0] = "scaled"


def with_nan(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(model.graph.initializer[2]).copy()
    values.flat[3] = np.nan
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(values, "conv2.weight"))


def with_external_data(model: onnx.ModelProto) -> None:
    entry = model.graph.initializer[0].external_data.add()
    entry.key, entry.value = "location", "elsewhere"
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


def with_a_loop(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Loop", ["logit"], ["more"], "loop"))


def with_another_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def with_another_tool(model: onnx.ModelProto) -> None:
    model.producer_name = "pytorch"


def with_a_dynamic_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "rows"
    del model.graph.value_info[:]


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (with_transpose, "1 Transpose"),
        (with_affine, "scale1 is an affine before conv2"),
        (with_nan, "conv2.weight holds NaN"),
        (with_external_data, "another file"),
        (with_a_loop, "Loop"),
        (with_another_opset, "opset 18"),
        (with_another_tool, "written by pytorch"),
        (with_a_dynamic_size, "not static"),
    ],
)
def test_the_structural_gate_names_what_is_wrong(
    spoil: Callable[[onnx.ModelProto], None], named: str
) -> None:
    model = network(weights())
    spoil(model)
    result = check(model)
    assert not result.passed
    assert named in str(result)


def test_a_precision_that_is_not_in_the_graph_fails() -> None:
    assert "no convolution computes in int8" in str(check(network(weights()), "int8"))
    data = half.halve(network(weights()), "fp16")
    result = structural.check(data, task="classifier", precision="bf16")
    assert "computes in fp16, not bf16" in str(result)


# The numeric and the task gate, on answers made up


def runner(answers: dict[str, float]) -> Runner:
    """A runtime that answers the mean of an input, shifted by what is given for its name."""
    shifts = {shown.levels.tobytes(): answers.get(shown.name, 0.0) for shown in INPUTS}

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        levels = [np.rint(one[0] * 255).astype(np.uint8).tobytes() for one in batch]
        mean = batch.mean(axis=(1, 2, 3, 4))
        values = np.array([m + shifts[key] for m, key in zip(mean, levels, strict=True)])
        return {"score": values[:, None]}

    return Runner(name="made-up", version="0", run=run)


def test_one_input_that_is_answered_otherwise_fails_the_numeric_gate() -> None:
    reference = numeric.answers_of(runner({}), INPUTS)
    result = numeric.check(reference, runner({"noise": 0.49}), INPUTS, precision="fp16")
    assert result.passed
    result = numeric.check(reference, runner({"noise": 0.51}), INPUTS, precision="fp16")
    assert not result.passed
    assert "max |dscore| 0.51 > 0.5" in str(result)
    assert numeric.check(reference, runner({"noise": 1.9}), INPUTS, precision="int8").passed
    (worst,) = numeric.worst_inputs(reference, result, INPUTS, precision="fp16", count=1)
    assert worst.name == "noise"
    result = numeric.check(reference, runner({"ones": np.nan}), INPUTS, precision="bf16")
    assert "no number for 'ones'" in str(result)
    batch = numeric.check(reference, runner({INPUTS[-1].name: 5.0}), INPUTS, precision="int8")
    assert "in a batch" in str(batch)


def made_up_cases(positive: list[bool], scores: list[float]) -> tuple[Case, ...]:
    return tuple(
        Case(shown=INPUTS[i], positive=p, score=s)
        for i, (p, s) in enumerate(zip(positive, scores, strict=True))
    )


def verdict(before: list[float], after: list[float], precision: str, output: str) -> GateResult:
    count = len(before)
    made = made_up_cases([i >= count // 2 for i in range(count)], [10.0] * count)
    pair = [
        {case.shown.name: {output: value} for case, value in zip(made, values, strict=True)}
        for values in (before, after)
    ]
    threshold = 0.5 if output == "probability" else None
    return task.check(*pair, made, precision=precision, threshold=threshold, source="made up")


def test_a_label_that_changes_fails_unless_fp32_was_undecided() -> None:
    before = [0.1, 0.2, 0.505, 0.8]
    assert verdict(before, [0.1, 0.2, 0.499, 0.8], "fp16", "probability").passed
    result = verdict([0.1, 0.2, 0.52, 0.8], [0.1, 0.2, 0.499, 0.8], "int8", "probability")
    assert "labels changed 1 > 0" in str(result)


def test_a_changed_order_changes_the_auc() -> None:
    before, after = [0.1, 0.7, 0.71, 0.9], [0.1, 0.71, 0.7, 0.9]
    result = verdict(before, after, "fp16", "probability")
    assert not result.passed
    assert result.details["auc"] == {"fp32": 1.0, "found": 0.75}


def test_the_auc_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(4)
    scores, positive = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.4
    pairs = [(p > n) + (p == n) / 2 for p in scores[positive] for n in scores[~positive]]
    assert task.auc(scores, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(task.auc(scores, np.ones(60, bool)))


def test_a_score_that_drifts_fails() -> None:
    assert verdict([8.0, 12.0], [8.2, 12.3], "int8", "score").passed
    assert "|dMAE|" in str(verdict([12.0, 12.0], [12.4, 12.3], "int8", "score"))


@pytest.mark.parametrize("output", ["probability", "score"])
def test_what_is_no_number_fails_the_task_gate(output: str) -> None:
    """Also where all scans are of one class, and there is no AUC to lose."""
    made = made_up_cases([False, False], [10.0, 10.0])
    said = [{case.shown.name: {output: 0.1} for case in made} for _ in range(2)]
    said[1][made[1].shown.name][output] = np.nan
    threshold = 0.5 if output == "probability" else None
    result = task.check(*said, made, precision="fp16", threshold=threshold, source="made up")
    assert not result.passed
    assert f"no number for {made[1].shown.name!r}" in str(result)


def test_the_culprit_is_found_among_many() -> None:
    layers = [f"conv{n}" for n in range(1, 121)]
    for bad in ("conv1", "conv57", "conv120"):
        asked: list[frozenset[str]] = []

        def passes(kept: frozenset[str], bad: str = bad, asked: list = asked) -> bool:
            asked.append(kept)
            return bad in kept

        assert bisect.culprit(layers, passes) == bad
        assert len(asked) <= 7  # of 120, halved


# A user's own scans


def table(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("path,label\n", "no scan"),
        ("name\nx\n", "no path"),
        ("path,label\nx.nii.gz,\n", "no label"),
        ("path,label\nx.nii.gz,normal\n", "no such scan"),
        ("path,label\n.,ill\n", "label that the bundle does not know"),
        ("path,label,score\n.,normal,101\n", "no score"),
        ("path,label\n.,normal,1\n", "cannot be read"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(DatasetError, match=named):
        cases.read_cases(
            table(tmp_path, text), SPEC, task="classifier", labels=("normal", "abnormal")
        )


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        cases.read_cases(tmp_path, SPEC, task="classifier", labels=("normal", "abnormal"))


def test_inputs_are_rounded_to_levels() -> None:
    shown = gate_input("x", np.full(SPEC.shape, 0.5), SPEC)
    assert shown.values.flat[0] == np.float32(128 / 255)
