"""Every runtime that is here, from many threads: the same bits, closed under them, forked."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

import onnx
from onnx import TensorProto, helper, numpy_helper

from bundle_factory import put_member, read_document, seal, variant_of, write_tiny
from conftest import LAS_AFFINE
from ctedge import Classifier, InferenceFailed
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InputError, RuntimeUnavailable
from ctedge.runtimes.cpu_flags import require_native
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge_export.precision import half, int8
from forked import in_forked_child, needs_fork
from patience import PATIENCE_S
from tensorrt_stage import set_stage

THREADS, PREDICTIONS = 16, 200
CLOSED_UNDER = 8

SIZE = 8
RUNTIMES = [
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("tensorrt", "fp16"),
]


def network() -> onnx.ModelProto:
    """Two convolutions with a pooling between them, so that each precision has what to round."""
    rng = np.random.default_rng(11)
    make = helper.make_node
    values = {
        "conv1.weight": rng.normal(0, 0.3, (4, 1, 3, 3, 3)),
        "conv1.bias": rng.normal(0, 0.1, 4),
        "conv2.weight": rng.normal(0, 0.2, (4, 4, 2, 2, 2)),
        "conv2.bias": rng.normal(0, 0.1, 4),
        "dense.weight": rng.normal(0, 1, (4, 1)),
        "dense.bias": np.zeros(1),
    }
    nodes = [
        make("Conv", ["volume", "conv1.weight", "conv1.bias"], ["conv1"], "conv1"),
        make("Relu", ["conv1"], ["relu1"], "relu1"),
        make("MaxPool", ["relu1"], ["pool1"], "pool1", kernel_shape=[2] * 3, strides=[2] * 3),
        make("Conv", ["pool1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2"),
        make("Relu", ["conv2"], ["relu2"], "relu2"),
        make("GlobalAveragePool", ["relu2"], ["average"], "average"),
        make("Flatten", ["average"], ["flatten"], "flatten", axis=1),
        make("Gemm", ["flatten", "dense.weight", "dense.bias"], ["logit"], "dense"),
        make("Sigmoid", ["logit"], ["probability"], "sigmoid"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "two",
        [value("volume", TensorProto.FLOAT, ["batch", 1, SIZE, SIZE, SIZE])],
        [value(name, TensorProto.FLOAT, ["batch", 1]) for name in ("logit", "probability")],
        [numpy_helper.from_array(one.astype(np.float32), name) for name, one in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The network in three precisions, said to be gated on all runtimes."""
    model = network()
    path = tmp_path_factory.mktemp("threads") / "two.ctedge"
    written = write_tiny(path, model=model.SerializeToString())
    document = read_document(path)
    (case,) = written.golden()
    answers = OnnxRuntime(written.model, name="two").run(case.input[np.newaxis, np.newaxis])
    document["golden"][0]["outputs"] = {name: one.item() for name, one in answers.items()}
    tops = dict.fromkeys(int8.quantised_inputs(model), 1.5)
    document["variants"] = {}
    for precision, data in (
        ("int8", int8.quantise(model, tops)),
        ("bf16", half.halve(model, "bf16")),
    ):
        put_member(path, document, f"model.{precision}.onnx", data)
        names = (f"{name}-cpu-{precision}" for name in ("onnxruntime", "openvino"))
        document["variants"][precision] = variant_of(precision, dict.fromkeys(names, True))
    seal(path, document)
    return ModelBundle.load(path)


Opens = Callable[[], Classifier]


@pytest.fixture(params=RUNTIMES, ids="-".join)
def opens(
    request: pytest.FixtureRequest,
    bundle: ModelBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Opens]:
    """Opens a classifier on this runtime; what the played GPU gave is back at the end."""
    runtime, precision = request.param
    if runtime == "tensorrt":
        stage = set_stage(monkeypatch, tmp_path, "11")
        yield lambda: Classifier(stage.bundle, stage.open())
        stage.clear()
        return
    if importlib.util.find_spec(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    if runtime == "openvino":
        try:
            require_native(precision)
        except RuntimeUnavailable as refused:
            pytest.skip(refused.what)
    yield lambda: Classifier.load(bundle.path, device="cpu", runtime=runtime, precision=precision)


@pytest.fixture
def scans(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(-1000, 800, (16, 16, 16)).astype(np.int16) for _ in range(4)]


def test_sixteen_threads_answer_bit_for_bit_as_one(opens: Opens, rng: np.random.Generator) -> None:
    """Of the runtime alone; that doors share nothing else is seen in test_doors_batches.py."""
    together = threading.Barrier(THREADS)
    with opens() as door:
        shape = (4, 1, *door.bundle.input_shape)
        batches = list(rng.random(shape, np.float32))
        alone = [door._runtime.run(batch) for batch in batches]
        assert len({answer["logit"].item() for answer in alone}) == len(batches)

        def judge(number: int) -> list[int]:
            together.wait(PATIENCE_S)
            order = [(number + n) % len(batches) for n in range(PREDICTIONS)]
            found = [door._runtime.run(batches[n]) for n in order]
            return [n for n, one in zip(order, found, strict=True) if not same(one, alone[n])]

        with ThreadPoolExecutor(THREADS) as pool:
            assert list(pool.map(judge, range(THREADS))) == [[]] * THREADS


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return list(one) == list(other) and all(
        one[name].tobytes() == other[name].tobytes() for name in one
    )


def test_closing_while_eight_threads_predict(opens: Opens, scans: list[np.ndarray]) -> None:
    """Each hears of it at its next scan, has whole answers until then, and close comes back."""
    door = opens()
    expected = door.predict(scans[0]).logit
    begun, wrong = threading.Semaphore(0), list[float]()

    def until_closed(_number: int) -> str:
        begun_here = False
        while True:
            try:
                found = door.predict(scans[0]).logit
            except InferenceFailed as error:
                return error.what
            if found != expected:
                wrong.append(found)
            if not begun_here:
                begun_here = True
                begun.release()

    with ThreadPoolExecutor(CLOSED_UNDER) as pool:
        running = [pool.submit(until_closed, number) for number in range(CLOSED_UNDER)]
        for _ in running:
            assert begun.acquire(timeout=PATIENCE_S)
        door.close()
        said = [one.result(PATIENCE_S) for one in running]
    assert said == ["the model was closed"] * CLOSED_UNDER
    assert wrong == []
    with pytest.raises(InferenceFailed, match="was closed"):
        door.predict(scans[0])
    door.close()
    with opens() as again:
        assert again.predict(scans[0]).logit == expected


@needs_fork
def test_a_child_of_a_fork_is_refused_and_the_parent_goes_on(
    opens: Opens, scans: list[np.ndarray]
) -> None:
    with opens() as door:
        expected = door.predict(scans[0]).logit
        said = in_forked_child(lambda: said_of_inherited(door, scans[0]))
        assert said.count("load the model in the child") == 2
        assert said.endswith("closed")
        assert door.predict(scans[0]).logit == expected


def said_of_inherited(door: Classifier, scan: np.ndarray) -> str:
    said = []
    for use in (lambda: door.predict(scan), door.warm_up):
        try:
            use()
            said.append("answered")
        except InferenceFailed as error:
            said.append(str(error))
    door.close()
    return "|".join([*said, "closed"])


def test_scans_that_cannot_be_read_cost_the_others_nothing(
    opens: Opens, scans: list[np.ndarray], tmp_path: Path
) -> None:
    import nibabel as nib

    whole, cut, eight_bit, empty = (
        tmp_path / name for name in ("whole.nii.gz", "cut.nii.gz", "eight_bit.nii.gz", "empty")
    )
    nib.save(nib.Nifti1Image(scans[0], LAS_AFFINE), whole)
    cut.write_bytes(whole.read_bytes()[:-2000])
    nib.save(nib.Nifti1Image((scans[1] % 7).astype(np.uint8), LAS_AFFINE), eight_bit)
    empty.mkdir()
    spoilt = [cut, eight_bit, empty, tmp_path / "none.nii.gz"]
    with opens() as door:
        alone = [replace(door.predict(one), timings_ms={}) for one in (whole, scans[2])]
        first, *errors, last = door.predict_batch([whole, *spoilt, scans[2]], errors="return")
        assert [replace(one, timings_ms={}) for one in (first, last)] == alone
        for source, error in zip(spoilt, errors, strict=True):
            assert isinstance(error, InputError), source
            with pytest.raises(type(error)):
                door.predict(source)
