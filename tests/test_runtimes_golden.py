"""Golden cases decide whether a runtime is trusted: missing, unreadable, wide, dependent ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest
from onnx import helper

from bundle_factory import read_document, replace_member, seal, tiny_model, write_tiny
from ctedge import Classifier, ModelBundle, RuntimeUnavailable, SliceClassifier, diagnosis
from ctedge.runtimes.choice import survey

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"
)

PLAINEST = "onnxruntime-cpu-fp32"


@pytest.fixture(params=["none", "unreadable"])
def without_cases(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = write_tiny(tmp_path / "tiny.ctedge").path
    if request.param == "none":
        document = read_document(folder)
        for case in document.pop("golden"):
            (folder / case["input"]).unlink()
            del document["members"][case["input"]]
        seal(folder, {**document, "golden": []})
    else:
        replace_member(folder, "golden/noise.npy.gz", b"no gzip")
    return folder


def test_without_cases_the_plainest_runs_and_nothing_else(without_cases):
    with Classifier.load(without_cases, device="cpu") as classifier:
        assert classifier.runtime == PLAINEST
    with pytest.raises(Exception, match="golden"):
        Classifier.load(without_cases, device="cpu", runtime="openvino")


def test_the_doctor_says_what_the_doors_do(without_cases):
    states = {one.candidate: one.state for one in survey(ModelBundle.load(without_cases))}
    assert states[PLAINEST] == "taken"
    assert states["openvino-cpu-fp32"] == "failed"
    first, *others = diagnosis._bundle(str(without_cases))
    assert (first.state, first.fix) == ("ok", None)
    assert PLAINEST in first.detail
    assert any("golden" in row.detail for row in others)


def test_the_doctor_does_not_tell_to_install_what_is_there(tmp_path):
    folder = write_tiny(tmp_path / "tiny.ctedge").path
    document = read_document(folder)
    document["golden"][0]["outputs"]["logit"] += 0.5
    seal(folder, document)
    first, *_ = diagnosis._bundle(str(folder))
    assert first.state == "broken"
    assert "pip install" not in str(first.fix)


def renamed(model: onnx.ModelProto, name: str) -> str:
    """Let another node give this output; what gave it gives what is returned."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, one in enumerate(names):
                if one == name:
                    names[place] = f"{name}_before"
    return f"{name}_before"


@pytest.mark.parametrize("axis", [0, 1])
def test_more_than_one_number_an_input_is_no_answer(tmp_path, axis):
    model = tiny_model()
    for name in ("logit", "probability"):
        before = renamed(model, name)
        model.graph.node.append(helper.make_node("Concat", [before] * 2, [name], axis=axis))
    folder = write_tiny(tmp_path / "wide.ctedge", model=model.SerializeToString()).path
    with pytest.raises(RuntimeUnavailable, match="does not give one number an input"):
        Classifier.load(folder, device="cpu")


def test_slices_that_see_each_other_are_no_answers(tmp_path):
    model = tiny_model("slices")
    before = renamed(model, "logit")
    (sigmoid,) = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    sigmoid.input[0] = "logit"
    place = list(model.graph.node).index(sigmoid)
    for number, node in enumerate(
        (
            helper.make_node("ReduceMean", [before], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", [before, before], ["nothing"]),
            helper.make_node("Add", ["nothing", "mean"], ["logit"]),
        )
    ):
        model.graph.node.insert(place + number, node)
    data = model.SerializeToString()
    folder = write_tiny(tmp_path / "mean.ctedge", task="slices", model=data).path
    with pytest.raises(RuntimeUnavailable, match="'noise' of mean is answered otherwise"):
        SliceClassifier.load(folder, device="cpu")
    alone = write_tiny(tmp_path / "alone.ctedge", task="slices").path
    with SliceClassifier.load(alone, device="cpu") as classifier:
        assert classifier.runtime == "openvino-cpu-fp32"
