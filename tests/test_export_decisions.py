"""The task gate of a conversion: the ONNX file decides on labelled scans as Keras does."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("tensorflow", exc_type=ImportError)
pytest.importorskip("tf2onnx", exc_type=ImportError)

from onnx import numpy_helper
from typer.testing import CliRunner

from bundle_factory import read_document, seal
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import GateFailed, InvalidBundle
from ctedge.runtimes import verification
from ctedge_export.cli import app
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.gates.recorded import recorded_decisions
from ctedge_export.network import tidy_volumes as tidy
from ctedge_export.onnx_bundle import export_onnx
from ctedge_export.reference import require_gates
from ctedge_export.verify import Row, verify_bundle
from run_factory import (
    SMALL,
    few_cases,
    few_inputs,
    logit_of,
    small_bundle,
    small_network,
    small_run,
    write_run,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def few(base: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """The same on few inputs and two phantoms."""
    with few_inputs():
        return export_onnx(small_run(base), tmp_path_factory.mktemp("few") / "few.ctedge")


def probability_of(trained: Any, batch: np.ndarray) -> float:
    return float(1 / (1 + np.exp(-logit_of(trained, batch))))


def test_the_manifest_and_the_card_say_how_it_decides(base: Path) -> None:
    bundle = small_bundle(base)
    gate = bundle.gates["task"]
    assert gate["passed"] is True
    assert (gate["scans"], gate["positive"], gate["source"]) == (24, 12, "24 phantoms")
    assert gate["figures"]["labels changed"] == {"value": 0.0, "limit": 0}
    assert gate["figures"]["|dAUC|"] == {"value": 0.0, "limit": 0.001}
    assert gate["reference"].startswith("keras ")
    assert set(gate["auc"]) == {"keras", "found"}
    assert "Decisions against those of Keras on 24 phantoms: labels changed 0" in bundle.card


def test_the_answers_on_record_are_those_of_keras(few: ModelBundle) -> None:
    gate = few.gates["task"]
    assert gate["output"] == "probability"
    for record, case in zip(gate["inputs"], few_cases(SMALL), strict=True):
        assert record["name"] == case.shown.name
        expected = probability_of(small_network(), case.shown.batch)
        # Float32 sums in another order: 1e-4 in the logit, a quarter of that here.
        assert record["keras"] == pytest.approx(expected, abs=3e-5)
        assert record["found"] == pytest.approx(expected, abs=3e-5)


def test_a_model_that_decides_otherwise_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numeric gate made blind, since nothing is known that passes it and decides otherwise."""
    original = tidy.tidy

    def shifted(*arguments: Any, **options: Any) -> Any:
        model = original(*arguments, **options)
        (bias,) = [one for one in model.graph.initializer if one.name == "dense2.bias"]
        away = numpy_helper.to_array(bias) + np.float32(5)
        bias.CopyFrom(numpy_helper.from_array(away, bias.name))
        return model

    monkeypatch.setattr(tidy, "tidy", shifted)
    for output in ("logit", "probability"):
        monkeypatch.setitem(verification.TOLERANCES, output, 100.0)
    # Its answers are just below 0.38: no, and well away from the threshold.
    run = write_run(tmp_path / "run", small_network(), SMALL, threshold=0.5)
    command = ["onnx", str(run), "-o", str(tmp_path / "x.ctedge")]
    with few_inputs():
        result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 3
    assert "the task gate failed" in str(result.exception)
    assert "labels changed 2 > 0" in str(result.exception)
    assert list(tmp_path.iterdir()) == [run]
    with few_inputs(), pytest.raises(GateFailed):
        export_onnx(run, tmp_path / "x.ctedge", keep_failed=True)
    kept = json.loads((tmp_path / "x.failed" / "gate.json").read_text())
    assert kept["gates"]["onnx"]["passed"]
    assert kept["gates"]["task"]["figures"]["labels changed"]["value"] == 2


def test_given_scans_take_the_place_of_the_phantoms(base: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    rows = ["path,label"]
    for number, label in enumerate(("normal", "abnormal"), start=1):
        voxels = rng.integers(-1000, 400 * number, (48, 48, 48)).astype(np.int16)
        image = nib.Nifti1Image(voxels, np.diag([-6.0, 6.0, 6.0, 1.0]))
        nib.save(image, tmp_path / f"{number}.nii.gz")
        rows.append(f"{number}.nii.gz,{label}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    target = tmp_path / "x.ctedge"
    arguments = ["onnx", str(small_run(base)), "-o", str(target), "--data", str(tmp_path)]
    with few_inputs():
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "on 2 given scans: labels changed 0 <= 0" in done.stderr
    gate = ModelBundle.load(target).gates["task"]
    assert (gate["scans"], gate["positive"]) == (2, 1)
    assert gate["source"] == "2 given scans"
    assert "inputs" not in gate  # what a network said of a patient does not travel


# What `verify` makes of it


def verified(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    shown: list[Row] = []
    module = "ctedge_export.precision.precision"
    monkeypatch.setattr(f"{module}.gate_inputs", lambda spec: gate_inputs(spec)[:2])
    monkeypatch.setattr(f"{module}.gate_phantoms", few_cases)
    verify_bundle(bundle, show=shown.extend)
    return [row for row in shown if row.gate == "task" and row.runtime == "onnxruntime-cpu-fp32"]


def copied(few: ModelBundle, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    path = tmp_path / "copy.ctedge"
    shutil.copytree(few.path, path)
    return path, read_document(path)


def test_verify_holds_the_file_against_keras_answers(
    few: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = verified(few.path, monkeypatch)
    assert row.passed
    assert "labels changed 0" in row.text
    path, document = copied(few, tmp_path)
    one = document["gates"]["task"]["inputs"][1]
    one["keras"] = 0.01 if one["found"] > document["threshold"] else 0.99
    seal(path, document)
    with pytest.raises(GateFailed, match="does not pass the task gate on onnxruntime") as caught:
        verified(path, monkeypatch)
    assert "labels changed 1 > 0" in str(caught.value.found)


def test_a_bundle_from_before_this_gate_is_as_good_as_it_was(
    few: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, document = copied(few, tmp_path)
    del document["gates"]["task"]
    seal(path, document)
    require_gates(ModelBundle.load(path))
    assert verified(path, monkeypatch) == []


def test_a_bundle_that_failed_this_gate_is_no_reference(few: ModelBundle, tmp_path: Path) -> None:
    path, document = copied(few, tmp_path)
    document["gates"]["task"]["passed"] = False
    seal(path, document)
    with pytest.raises(InvalidBundle, match="did not pass its task gate"):
        require_gates(ModelBundle.load(path))


def test_answers_to_other_scans_are_not_taken(few: ModelBundle) -> None:
    cases, gate = few_cases(SMALL), few.gates["task"]

    def taken(document: object, seen: Sequence[Case] = cases) -> bool:
        return recorded_decisions(document, seen, output="probability") is not None

    assert taken(gate)
    wrong = (("name", "other"), ("mean_level", 200.0), ("keras", None), ("keras", 10**400))
    for key, value in wrong:
        changed = copy.deepcopy(gate)
        changed["inputs"][1][key] = value
        assert not taken(changed)
    assert not taken({**gate, "output": "score"})
    for inputs in (None, {}, [None] * 2, [[]] * 2, gate["inputs"][:1]):
        assert not taken({**gate, "inputs": inputs})
    for other in (None, [], {}, "passed"):
        assert not taken(other)
    assert not taken(gate, cases[:-1])
