"""A written repository against Triton's own schema, and its ensemble tied by hand.

No server is here. The schema is that of the package `tritonclient`; of the server itself only the
few names that a Python model uses are stood in for, and ONNX Runtime runs the copied file.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("onnxruntime", exc_type=ImportError)
pytest.importorskip("tritonclient", exc_type=ImportError)

import onnxruntime as ort
import tritonclient
from google.protobuf import json_format, text_format

import ctedge
import engine_factory
from bundle_factory import SPEC, write_tiny
from ctedge import Classifier, SeverityRegressor, SliceClassifier, preprocess
from ctedge.errors import RuntimeUnavailable
from ctedge.phantom import draw_patient, render
from ctedge.scan import CTScan
from ctedge_export.triton.export import export_triton
from ctedge_export.triton.pbtxt import Word
from ctedge_export.triton.pbtxt import render as render_text

#: ONNX Runtime with its own session options sums in another order.
SAME_ANSWER = 1e-5

#: The same for a score, whose points go to 100, of a network of 1.4 million parameters.
SAME_SCORE = 1e-3


def load(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# By its path: the package around it wants gRPC, and another protobuf than TensorFlow.
SCHEMA = load(
    Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py", "triton_model_config"
)


def read_config(repo: Path, name: str) -> Any:
    text = (repo / name / "config.pbtxt").read_text(encoding="ascii")
    config = text_format.Parse(text, SCHEMA.ModelConfig())
    assert config.name == name
    assert (repo / name / "1").is_dir()
    return config


@dataclass
class Tensor:
    name: str
    values: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.values


@dataclass
class TritonError:
    INTERNAL, INVALID_ARG = 1, 3
    message: str
    code: int


@dataclass
class InferenceResponse:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


def get_input_tensor_by_name(request: Any, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs if tensor.name == name), None)


def request(**inputs: np.ndarray) -> Any:
    return SimpleNamespace(inputs=[Tensor(name, values) for name, values in inputs.items()])


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = ModuleType("triton_python_backend_utils")
    for part in (Tensor, TritonError, InferenceResponse, get_input_tensor_by_name):
        setattr(stand_in, part.__name__, part)
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)


def start(repo: Path, name: str) -> Any:
    """The Python model, told its configuration as the server tells it."""
    module = load(repo / name / "1" / "model.py", f"model_of_{name}")
    told = json_format.MessageToJson(read_config(repo, name), preserving_proto_field_name=True)
    model = module.TritonPythonModel()
    model.initialize({"model_config": told})
    return model


def check(tensors: Any, given: dict[str, np.ndarray], max_batch: int) -> None:
    """Types and shapes as the server checks them."""
    kinds = {"TYPE_INT16": np.int16, "TYPE_FP32": np.float32, "TYPE_FP64": np.float64}
    for tensor in tensors:
        if tensor.name not in given:
            assert tensor.optional
            continue
        array = given[tensor.name]
        kind = SCHEMA.DataType.Name(tensor.data_type)
        assert array.dtype == kinds.get(kind, np.object_), tensor.name
        if max_batch:
            assert 1 <= len(array) <= max_batch
        dims = [*[-1] * bool(max_batch), *tensor.dims]
        assert len(dims) == array.ndim, tensor.name
        assert all(n in (-1, size) for n, size in zip(dims, array.shape, strict=True)), tensor.name
    assert set(given) <= {tensor.name for tensor in tensors}


def run(repo: Path, name: str, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    config = read_config(repo, name)
    check(config.input, given, config.max_batch_size)
    if config.backend == "python":
        (response,) = start(repo, name).execute([request(**given)])
        assert response.error is None
        answers = {tensor.name: tensor.values for tensor in response.output_tensors}
    elif config.backend == "onnxruntime":
        session = ort.InferenceSession(repo / name / "1" / "model.onnx")
        names = [output.name for output in config.output]
        answers = dict(zip(names, session.run(names, given), strict=True))
    else:
        assert config.platform == "ensemble"
        tensors = dict(given)
        for step in config.ensemble_scheduling.step:
            inputs = {to: tensors[of] for to, of in step.input_map.items() if of in tensors}
            outputs = run(repo, step.model_name, inputs)
            tensors |= {to: outputs[of] for of, to in step.output_map.items()}
        answers = {output.name: tensors[output.name] for output in config.output}
    check(config.output, answers, config.max_batch_size)
    return answers


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    for task in ("classifier", "severity", "slices"):
        write_tiny(folder / f"{task}.ctedge", task=task)
        export_triton(folder / f"{task}.ctedge", folder / "models", instances=2)
    return folder


def test_the_ensemble_answers_as_the_classifier(tiny, backend, chest, las_affine):
    scan = CTScan.from_oriented(chest[::-1], las_affine @ np.diag([-1, 1, 1, 1]), source="scan")
    with Classifier.load(tiny / "classifier.ctedge", runtime="onnxruntime") as classifier:
        expected, assumed = classifier.predict(scan), classifier.predict(chest)
    given = {"hu": chest[::-1], "affine": las_affine @ np.diag([-1.0, 1, 1, 1])}
    for inputs, prediction in ((given, expected), ({"hu": chest}, assumed)):
        answers = run(tiny / "models", "classifier", inputs)
        assert answers["logit"].item() == pytest.approx(prediction.logit, abs=SAME_ANSWER)
        probability = answers["probability"].item()
        assert probability == pytest.approx(prediction.probability, abs=SAME_ANSWER)
        told = json.loads(answers["quality"].item())
        assert told == json.loads(json.dumps(prediction.to_json()["quality"]))
    assert expected.quality != assumed.quality


def test_the_shipped_network_answers_as_it_does_beside_the_scanner(tmp_path, backend, chest):
    export_triton("severity", tmp_path / "models")
    answers = run(tmp_path / "models", "severity", {"hu": chest})
    with SeverityRegressor.load("severity", runtime="onnxruntime") as regressor:
        expected = regressor.predict(chest).raw_score
    assert answers["score"].item() == pytest.approx(expected, abs=SAME_SCORE)


def test_slices_of_a_scan_share_a_batch(tiny, backend, chest):
    answers = run(tiny / "models", "slices", {"hu": chest[:, :, :8]})
    with SliceClassifier.load(tiny / "slices.ctedge", runtime="onnxruntime") as classifier:
        expected = classifier.predict(chest[:, :, :8]).slices
    logits = [answer.logit for answer in expected]
    np.testing.assert_allclose(answers["logit"][:, 0], logits, rtol=0, atol=SAME_ANSWER)
    (response,) = start(tiny / "models", "slices_preprocess").execute([request(hu=chest)])
    assert "at most 8 a request" in response.error.message


def test_a_network_for_lungs_only_gets_lungs(tmp_path, backend):
    pytest.importorskip("scipy.ndimage", exc_type=ImportError)
    spec = SPEC.to_json() | {"lungs_only": True}
    bundle = write_tiny(tmp_path / "lungs.ctedge", task="severity", spec=spec).path
    voxels = render(draw_patient(5, lesion_share=0.1), shape=(64, 64, 32)).voxels
    export_triton(bundle, tmp_path / "models", voxels="float32", say=(said := []).append)
    assert any('pip install "ctedge[lungs]==' in line for line in said)
    answers = run(tmp_path / "models", "lungs", {"hu": voxels.astype(np.float32)})
    with SeverityRegressor.load(bundle, runtime="onnxruntime") as regressor:
        expected = regressor.predict(voxels)
    assert answers["score"].item() == pytest.approx(expected.raw_score, abs=SAME_ANSWER)
    assert json.loads(answers["quality"].item())["lungs"]["complete"] is True


def test_a_bad_volume_fails_its_own_request_alone(tiny, backend, chest, monkeypatch):
    model = start(tiny / "models", "classifier_preprocess")
    bad = {
        "too few slices": {"hu": chest[:, :, :3]},
        "no Hounsfield units": {"hu": np.ones_like(chest)},
        "NaN or infinity": {"hu": np.full(chest.shape, np.nan, np.float32)},
        "three axes": {"hu": chest[0]},
        "does not describe a volume": {"hu": chest, "affine": np.zeros((4, 4))},
        "AttributeError": {"affine": np.eye(4)},
    }
    requests = [request(hu=chest), *(request(**inputs) for inputs in bad.values())]
    first, *refusals, last = model.execute([*requests, request(hu=chest[:, :, ::-1])])
    for words, response in zip(bad, refusals, strict=True):
        assert words in response.error.message
        assert response.output_tensors == []
        code = TritonError.INTERNAL if words == "AttributeError" else TritonError.INVALID_ARG
        assert response.error.code == code
    for response, voxels in ((first, chest), (last, chest[:, :, ::-1])):
        assert response.error is None
        assert np.array_equal(response.output_tensors[0].values[0, 0], preprocess(voxels, SPEC))
    monkeypatch.setattr(ctedge, "__version__", "0.0.1")
    with pytest.raises(RuntimeUnavailable, match="another version of ctedge"):
        start(tiny / "models", "classifier_preprocess")


@pytest.mark.parametrize("task", ["classifier", "severity", "slices"])
def test_the_configurations_say_what_the_server_needs(tiny, task):
    repo = tiny / "models"
    whole, before, network = (
        read_config(repo, f"{task}{part}") for part in ("", "_preprocess", "_network")
    )
    assert (whole.platform, before.backend, network.backend) == (
        "ensemble",
        "python",
        "onnxruntime",
    )
    assert not whole.instance_group  # the server refuses one in an ensemble
    for config in (before, network):
        (group,) = config.instance_group
        assert (group.count, group.kind) == (2, SCHEMA.ModelInstanceGroup.KIND_CPU)
    batch = 8 if task == "slices" else 1
    assert (network.max_batch_size, before.max_batch_size, whole.max_batch_size) == (batch, 0, 0)
    assert network.HasField("dynamic_batching") is (task == "slices")
    # How the server connects a model without batches to one with them.
    connected = list(before.output[0].dims)
    assert connected[1:] == list(network.input[0].dims)
    assert connected[0] == (-1 if task == "slices" else 1)
    labelled = {output.name: output.label_filename for output in whole.output}
    assert labelled.get("probability") == (None if task == "severity" else "labels.txt")
    assert json.loads(whole.parameters["labels"].string_value) == ["normal", "abnormal"]
    assert ("threshold" in whole.parameters) is (task != "severity")


def test_an_engine_and_a_gpu(tmp_path):
    bundle = engine_factory.write_engine_bundle(tmp_path / "small.ctedge", variants=("fp16",))
    record = engine_factory.record_for(bundle, b"plan")
    engine_factory.put_engine(bundle, "fp16-tensorrt-10.3.0.engine", b"plan", record)
    export_triton(bundle.path, tmp_path / "plan", runtime="tensorrt", instances=3)
    plan = read_config(tmp_path / "plan", "small_network")
    assert (plan.platform, plan.max_batch_size) == ("tensorrt_plan", 4)
    assert plan.HasField("dynamic_batching")
    (group,) = plan.instance_group
    assert (group.count, group.kind) == (3, SCHEMA.ModelInstanceGroup.KIND_GPU)
    export_triton(bundle.path, tmp_path / "onnx", device="cuda", max_batch=2)
    onnx = read_config(tmp_path / "onnx", "small_network")
    (cuda,) = onnx.optimization.execution_accelerators.gpu_execution_accelerator
    assert (cuda.name, dict(cuda.parameters)) == ("cuda", {"use_tf32": "0"})


def test_the_text_format_is_that_of_protocol_buffers(tiny):
    said = 'a "quoted" \\ line\nand ümläute \x01'
    text = render_text(
        {"name": said, "input": [{"optional": True, "data_type": Word("TYPE_FP64")}]}
    )
    config = text_format.Parse(text, SCHEMA.ModelConfig())
    assert (config.name, config.input[0].optional, config.input[0].data_type) == (said, True, 12)
    written = (tiny / "models" / "classifier" / "config.pbtxt").read_text()
    for wrong in ("max_batch", "max_batch_sizes"):
        with pytest.raises(text_format.ParseError, match=wrong):
            text_format.Parse(written.replace("max_batch_size", wrong, 1), SCHEMA.ModelConfig())
    with pytest.raises(TypeError, match="float"):
        render_text({"priority": 0.5})
