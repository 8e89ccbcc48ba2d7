"""Keras to a bundle: folding is exact, the graph is tidy, and the gate is no ornament."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", exc_type=ImportError)
pytest.importorskip("tf2onnx", exc_type=ImportError)

import onnx
from onnx import numpy_helper
from typer.testing import CliRunner

from ctedge import verification
from ctedge.bundle import ModelBundle
from ctedge.errors import (
    BundleNotFound,
    DigestMismatch,
    GateFailed,
    InvalidBundle,
    OutputError,
)
from ctedge.onnx_guard import inspect_model
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.spec import KERAS_EXAMPLE
from ctedge_export import fold, gate, layers, tidy, volumes
from ctedge_export.cli import app
from ctedge_export.convert import rebuild
from ctedge_export.onnx_bundle import export_onnx
from ctedge_export.quiet import import_tensorflow
from ctedge_export.verify import verify_bundle
from run_factory import LABELS, SMALL, build, read_document, write_document, write_run

# Keras 3.15 copies TensorFlow variables by np.array, which NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:__array__ implementation doesn't accept a copy keyword"
    r":DeprecationWarning:keras\.src\.backend\.tensorflow\.core"
)

NODES = [
    *(f"{kind}{n}" for n in range(1, 5) for kind in ("conv", "relu", "pool")),
    *("average", "flatten", "dense1", "relu5", "dense2"),
]


@pytest.fixture(scope="module")
def trained() -> Any:
    import_tensorflow()
    return build(SMALL.shape)


@pytest.fixture(scope="module")
def run_folder(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), trained, SMALL)


@pytest.fixture(scope="module")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return export_onnx(run_folder, tmp_path_factory.mktemp("out") / "small.ctedge")


@pytest.fixture(scope="module")
def model(bundle: ModelBundle) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.model)


def logit_of(trained: Any, volume: np.ndarray) -> float:
    last = trained.layers[-1]
    probe = layers.KerasProbe(trained, [last.input])
    (features,) = probe.run(volume)
    return float((features @ np.asarray(last.kernel) + np.asarray(last.bias)).item())


# The fold


def test_folding_is_exact(trained: Any) -> None:
    steps, folded = fold.fold(trained, activation="sigmoid")
    assert folded == 4
    assert [step.name for step in steps] == [
        name for name in NODES if not name.startswith(("relu", "flatten"))
    ]
    network = rebuild(steps, SMALL.shape)
    assert not any("norm" in layer.name or "drop" in layer.name for layer in network.layers)
    for volume in volumes.gate_volumes(SMALL)[:5]:
        found = network(volume.values[None, ..., None], training=False).numpy().item()
        assert found == pytest.approx(logit_of(trained, volume.values), abs=2e-5)


def test_two_batch_norms_in_a_row_fold_into_one() -> None:
    import keras
    from keras import layers as keras_layers

    inputs = keras.Input((4, 4, 4, 1))
    tensor = keras_layers.Conv3D(3, 3, activation="relu", use_bias=False)(inputs)
    for _ in range(2):
        tensor = keras_layers.BatchNormalization(scale=False)(tensor)
    tensor = keras_layers.GlobalAveragePooling3D()(tensor)
    network = keras.Model(inputs, keras_layers.Dense(1, use_bias=False)(tensor))
    rng = np.random.default_rng(0)
    network.set_weights([rng.uniform(0.5, 2, w.shape) for w in network.get_weights()])
    steps, folded = fold.fold(network, activation="linear")
    assert folded == 2
    volume = rng.random((1, 4, 4, 4, 1), np.float32)
    np.testing.assert_allclose(
        rebuild(steps, (4, 4, 4))(volume), network(volume, training=False), rtol=1e-5
    )


def chain(*middle: Any, end: Any = None) -> Any:
    import keras

    tensor = inputs = keras.Input((6, 6, 6, 2))
    last = keras.layers.Dense(1) if end is None else end
    for layer in (*middle, keras.layers.GlobalAveragePooling3D(), last):
        tensor = layer(tensor)
    return keras.Model(inputs, tensor)


def test_what_does_not_fold_exactly_is_refused_by_name() -> None:
    import keras
    from keras.layers import Add, BatchNormalization, Conv3D, Dense, MaxPooling3D, UpSampling3D

    norm = BatchNormalization
    for network, found in (
        (chain(norm(), Conv3D(2, 3, padding="same", name="here")), "here"),
        (chain(norm(), MaxPooling3D(2, name="here")), "before a maximum"),
        (chain(Conv3D(2, 3, groups=2, name="here")), "2 groups"),
        (chain(UpSampling3D(2, name="here")), "UpSampling3D"),
        (chain(Conv3D(2, 3, dtype="mixed_bfloat16", name="here")), "bfloat16"),
        (chain(end=Dense(2)), r"Dense\(2\)"),
        (chain(end=Dense(1, activation="sigmoid")), "sigmoid"),
        (chain(Conv3D(2, 3), norm(axis=1)), "axis 1"),
    ):
        with pytest.raises(InvalidBundle, match=found):
            fold.fold(network, activation="linear")
    branch = chain(Conv3D(2, 3))
    merged = Add()([branch.layers[-1].output, branch.layers[-1].output])
    with pytest.raises(InvalidBundle, match=r"chain|Add"):
        fold.fold(keras.Model(branch.inputs, merged), activation="linear")


# The graph


def test_the_graph_reads_well(model: onnx.ModelProto) -> None:
    assert [node.name for node in model.graph.node] == [*NODES, "sigmoid"]
    assert len(model.graph.node) == 18
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"Transpose", "BatchNormalization", "Mul", "Add", "Reshape"}
    assert sorted(weight.name for weight in model.graph.initializer) == sorted(
        f"{layer}.{kind}"
        for layer in ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2")
        for kind in ("weight", "bias")
    )
    (source,) = model.graph.input
    shape = source.type.tensor_type.shape.dim
    assert source.name == "volume"
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 1, *SMALL.shape]
    assert [output.name for output in model.graph.output] == ["logit", "probability"]


def test_the_file_says_what_it_is(model: onnx.ModelProto) -> None:
    assert model.ir_version <= 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.producer_name == "ctedge"
    assert "Not a medical device" in model.doc_string
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["task"] == "classifier"
    assert set(properties) == {"task", "labels", "spec", "keras_sha256"}


def test_checker_shape_inference_and_guard_agree(
    bundle: ModelBundle, model: onnx.ModelProto
) -> None:
    onnx.checker.check_model(model, full_check=True)
    assert {value.name for value in model.graph.value_info} >= set(NODES[:-1])
    facts = inspect_model(bundle.model)
    assert sum(facts.operators.values()) == 18


def test_the_weights_are_those_of_the_fold(trained: Any, model: onnx.ModelProto) -> None:
    steps, _ = fold.fold(trained, activation="sigmoid")
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    for step in steps:
        if step.kernel is not None:
            kernel = step.kernel
            if step.name.startswith("conv"):
                kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
            np.testing.assert_array_equal(weights[f"{step.name}.weight"], kernel)
            np.testing.assert_array_equal(weights[f"{step.name}.bias"], step.bias)


@pytest.mark.parametrize("count", [1, 3])
def test_the_batch_is_dynamic(bundle: ModelBundle, trained: Any, count: int) -> None:
    batch = np.random.default_rng(1).random((count, 1, *SMALL.shape), np.float32)
    answers = OnnxRuntime(bundle.model, name="tiny").run(batch)
    assert answers["logit"].shape == answers["probability"].shape == (count, 1)
    for volume, logit, probability in zip(batch[:, 0], *answers.values(), strict=True):
        assert logit.item() == pytest.approx(logit_of(trained, volume), abs=1e-4)
        assert probability.item() == pytest.approx(1 / (1 + np.exp(-logit.item())), abs=1e-6)


def test_an_unexpected_graph_is_refused(trained: Any) -> None:
    from ctedge_export.convert import to_onnx

    steps, _ = fold.fold(trained, activation="sigmoid")
    raw = to_onnx(rebuild(steps, SMALL.shape), task="classifier")
    options: dict[str, Any] = {
        "input_shape": (1, *SMALL.shape),
        "task": "classifier",
        "properties": {},
    }
    tidy.tidy(raw, steps, **options)
    with pytest.raises(InvalidBundle, match="does not recognise"):
        tidy.tidy(raw, steps[1:], **options)
    with pytest.raises(InvalidBundle, match="reshape"):
        tidy.tidy(raw, steps, **{**options, "input_shape": (1, 48, 46, 50)})
    spare = onnx.ModelProto.FromString(raw.SerializeToString())
    spare.graph.node.append(onnx.helper.make_node("Neg", ["logit"], ["spare"]))
    with pytest.raises(InvalidBundle, match="branch"):
        tidy.tidy(spare, steps, **options)


# The gate


def test_the_gate_passes_with_its_figures(bundle: ModelBundle) -> None:
    record = bundle.gates["onnx"]
    assert record["passed"] is True
    assert record["output"] == "logit"
    assert record["tolerance"] == 1e-4
    assert record["max_abs_difference"] <= 2e-5
    assert len(record["volumes"]) >= 8
    answers = [volume["keras"] for volume in record["volumes"]]
    assert max(answers) - min(answers) > 0.1


def test_the_golden_cases_hold_keras_answers(bundle: ModelBundle, trained: Any) -> None:
    cases = bundle.golden()
    assert [case.name for case in cases] == list(volumes.GOLDEN_NAMES)
    for case in cases:
        assert case.input.shape == SMALL.shape
        assert case.outputs["logit"] == pytest.approx(logit_of(trained, case.input), abs=1e-4)
    assert verify_bundle(bundle.path) <= 2e-5


def spoilt(name: str, factor: float) -> Any:
    original = tidy.tidy

    def spoil(*arguments: Any, **options: Any) -> onnx.ModelProto:
        model = original(*arguments, **options)
        for weight in model.graph.initializer:
            if weight.name == name:
                values = numpy_helper.to_array(weight) * np.float32(factor)
                weight.CopyFrom(numpy_helper.from_array(values, name))
        return model

    return spoil


@pytest.mark.parametrize(
    ("weight", "factor", "layer"),
    [
        ("conv1.weight", 1.01, "conv1 (conv_1 in Keras)"),
        ("conv3.bias", 2.0, "conv3 (conv_3 in Keras)"),
        ("dense1.weight", 0.9, "dense1 (dense in Keras)"),
        ("dense2.weight", 1.5, "dense2 (output in Keras)"),
        ("conv2.weight", np.nan, "conv2 (conv_2 in Keras)"),
    ],
)
def test_a_failed_gate_names_the_layer_and_leaves_nothing(
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weight: str,
    factor: float,
    layer: str,
) -> None:
    monkeypatch.setattr(tidy, "tidy", spoilt(weight, factor))
    result = CliRunner().invoke(app, ["onnx", str(run_folder), "-o", str(tmp_path / "x.ctedge")])
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 3
    assert layer in str(result.exception)
    assert "1e-0" in str(result.exception) or "0.0001" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_model_can_be_kept_but_is_no_bundle(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidy, "tidy", spoilt("conv4.bias", 3.0))
    for _ in range(2):
        with pytest.raises(GateFailed, match="conv4"):
            export_onnx(run_folder, tmp_path / "x.ctedge", keep_failed=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x.failed"]
    assert {path.name for path in (tmp_path / "x.failed").iterdir()} == {"gate.json", "model.onnx"}
    with pytest.raises(InvalidBundle):
        ModelBundle.load(tmp_path / "x.failed")


def test_a_difference_without_a_number_fails() -> None:
    result = gate.GateResult(
        output="logit",
        tolerance=1e-4,
        comparisons=(gate.Comparison(volume="zeros", keras=float("nan"), onnx=0.0),),
        batch_difference=0.0,
        probability_difference=0.0,
        outputs={},
        versions={"keras": "", "onnxruntime": ""},
    )
    assert not result.passed
    assert result.to_json()["max_abs_difference"] is None


def test_all_layers_of_a_good_model_agree(trained: Any, bundle: ModelBundle) -> None:
    steps, _ = fold.fold(trained, activation="sigmoid")
    place = layers.first_deviation(trained, bundle.model, steps, volumes.gate_volumes(SMALL)[2])
    assert place.startswith("dense2")


def test_verify_finds_a_changed_answer(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(verification.TOLERANCES, "logit", -1.0)
    result = CliRunner().invoke(app, ["verify", str(bundle.path)])
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 3


# The command, the card and the provenance


def test_the_command_tells_each_step(run_folder: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("Trained for a *test*.\n")
    target = tmp_path / "named.ctedge"
    arguments = ["onnx", str(run_folder), "-o", str(target), "--card-notes", str(notes)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    for words in ("digest verified", "18 nodes", "gate passed: max |dlogit|", "written"):
        assert words in done.stderr
    assert done.stdout == ""
    written = ModelBundle.load(target, task="classifier")
    assert (written.name, written.labels) == ("named", tuple(LABELS["classifier"]))
    assert written.card.endswith("## Notes\n\nTrained for a *test*.\n")
    with pytest.raises(OutputError, match="--overwrite"):
        export_onnx(run_folder, target)
    again = export_onnx(run_folder, target, overwrite=True, card_notes=notes)
    assert again.digest == written.digest
    done = CliRunner().invoke(app, ["verify", str(target)], catch_exceptions=False)
    assert "digests verified" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["named.ctedge", "notes.md"]


def test_the_card_warns_and_quotes_the_metrics(bundle: ModelBundle) -> None:
    for words in (
        "Not a medical device",
        "Synthetic training data",
        "Intended use",
        "auc: 0.9123 (95 % interval 0.8 to 0.95)",
    ):
        assert words in bundle.card


def test_provenance_names_run_and_versions(bundle: ModelBundle, run_folder: Path) -> None:
    document = read_document(run_folder)
    origin = bundle.provenance
    assert origin["run"]["model_sha256"] == document["model_sha256"]
    assert origin["run"]["data"]["digest"] == document["data"]["digest"]
    export = origin["export"]
    assert (export["nodes"], export["batch_norms_folded"], export["opset"]) == (18, 4, 17)
    assert set(export["versions"]) >= {"keras", "tensorflow", "tf2onnx", "onnx", "onnxruntime"}
    assert bundle.metrics == document["metrics"]
    assert str(run_folder) not in (bundle.path / "manifest.json").read_text()


def test_severity_has_a_score(tmp_path: Path) -> None:
    run_folder = write_run(tmp_path / "run", build(SMALL.shape, "severity"), SMALL, "severity")
    bundle = export_onnx(run_folder, tmp_path / "s.ctedge")
    assert (bundle.task, bundle.output_names) == ("severity", ("score",))
    assert len(onnx.load_from_string(bundle.model).graph.node) == 17
    assert bundle.gates["onnx"]["tolerance"] == 1e-2
    assert bundle.gates["onnx"]["max_abs_difference"] <= 2e-5


def test_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, task = KERAS_EXAMPLE, "classifier"
    chosen = tuple(v for v in volumes.gate_volumes(spec) if v.name in volumes.GOLDEN_NAMES)
    monkeypatch.setattr(volumes, "gate_volumes", lambda spec: chosen)
    run_folder = write_run(tmp_path / "run", build(spec.shape, task), spec, task)
    bundle = export_onnx(run_folder, tmp_path / "full.ctedge")
    assert bundle.input_shape == (1, *spec.shape)
    size = sum(file.stat().st_size for file in bundle.path.rglob("*") if file.is_file())
    assert 5e6 < size < 7.5e6


# What is refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", 2),
        ("task", "slices"),
        ("labels", "normal"),
        ("labels", ["normal"]),
        ("spec", {}),
        ("input_shape", [1, 46, 48, 50]),
        ("data", None),
        ("metrics", []),
        ("metrics", {"auc": float("nan")}),
        ("training", {"note": "\ud800"}),
    ],
)
def test_a_broken_run_is_refused(run_folder: Path, tmp_path: Path, key: str, value: Any) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "model.keras").symlink_to(run_folder / "model.keras")
    write_document(copy, {**read_document(run_folder), key: value})
    with pytest.raises(InvalidBundle, match=r"model\.json|spec"):
        export_onnx(copy, tmp_path / "x.ctedge")
    assert not (tmp_path / "x.ctedge").exists()


def test_another_keras_file_is_refused_unread(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    write_document(copy, read_document(run_folder))
    with pytest.raises(InvalidBundle, match=r"model\.keras"):
        export_onnx(copy, tmp_path / "x.ctedge")
    (copy / "model.keras").write_bytes(b"other")
    with pytest.raises(DigestMismatch, match=r"model\.keras"):
        export_onnx(copy, tmp_path / "x.ctedge")


def test_a_keras_file_that_is_none_is_refused(run_folder: Path, tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "model.keras").write_bytes(b"other")
    digest = hashlib.sha256(b"other").hexdigest()
    write_document(tmp_path, {**read_document(run_folder), "model_sha256": digest})
    with pytest.raises(InvalidBundle, match="Keras cannot read"):
        export_onnx(tmp_path, tmp_path / "x.ctedge")


def test_a_network_of_another_shape_is_refused(tmp_path: Path) -> None:
    run_folder = write_run(tmp_path / "run", build((46, 46, 46)), SMALL)
    with pytest.raises(InvalidBundle, match="input"):
        export_onnx(run_folder, tmp_path / "x.ctedge")


def test_paths_that_do_not_fit_are_refused_early(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleNotFound):
        export_onnx(tmp_path / "nowhere", tmp_path / "x.ctedge")
    with pytest.raises(OutputError, match="NAME"):
        export_onnx(run_folder, tmp_path / "x.onnx")
    (tmp_path / "data.ctedge").mkdir()
    with pytest.raises(OutputError, match="no bundle"):
        export_onnx(run_folder, tmp_path / "data.ctedge", overwrite=True)
    with pytest.raises(OutputError, match="card notes"):
        export_onnx(run_folder, tmp_path / "x.ctedge", card_notes=tmp_path / "none.md")


def test_a_full_disk_leaves_nothing(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("ctedge.files.os.fsync", full)
    with pytest.raises(OutputError, match="No space"):
        export_onnx(run_folder, tmp_path / "x.ctedge")
    assert list(tmp_path.iterdir()) == []
