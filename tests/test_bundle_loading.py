"""What a loaded bundle shows, by which names it is found, and how quickly."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import (
    MEMBERS,
    SLICE_SPEC,
    SPEC,
    read_document,
    replace_member,
    seal,
    write_tiny,
)
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    BundleError,
    BundleNotFound,
    WrongTask,
)
from patience import PATIENCE_S


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


def test_what_a_bundle_shows(folder: Path) -> None:
    bundle = ModelBundle.load(str(folder))
    raw = (folder / "manifest.json").read_bytes()
    assert bundle.path == folder
    assert (bundle.name, bundle.task, bundle.labels) == (
        "tiny",
        "classifier",
        ("normal", "abnormal"),
    )
    assert bundle.spec == bundle.volume_spec == SPEC
    assert bundle.threshold == 0.5
    assert bundle.digest == hashlib.sha256(raw).hexdigest()
    assert (folder / "manifest.sha256").read_bytes() == bundle.digest.encode() + b"\n"
    assert (bundle.input_name, bundle.input_shape) == ("volume", (1, 8, 8, 8))
    assert bundle.output_names == ("logit", "probability")
    assert bundle.model == (folder / "model.onnx").read_bytes() == bundle.member("model.onnx")
    assert bundle.member_names == MEMBERS
    assert bundle.card == "# tiny\n"
    assert bundle.manifest == json.loads(raw)
    assert bundle.metrics["auc"]["value"] == 0.9
    assert bundle.gates["onnx"]["passed"] is True
    assert bundle.provenance == {"run": {}}
    assert bundle.digest[:12] in repr(bundle)
    bundle.manifest["labels"].clear()
    assert bundle.manifest["labels"], "what is given out is a copy"


def test_golden_cases_are_float32_levels_of_255(folder: Path) -> None:
    (case,) = ModelBundle.load(folder).golden()
    assert case.name == "noise"
    assert case.input.dtype == np.float32
    assert case.input.shape == SPEC.shape
    levels = np.random.default_rng(3).integers(0, 256, SPEC.shape, dtype=np.uint8)
    np.testing.assert_array_equal(case.input, levels.astype(np.float32) / np.float32(255))
    assert case.outputs["logit"] == pytest.approx(2 * case.input.mean() - 1, abs=1e-6)
    assert 0 < case.outputs["probability"] < 1


def test_the_task_is_checked(folder: Path) -> None:
    assert ModelBundle.load(folder, task="classifier").task == "classifier"
    with pytest.raises(WrongTask, match="severity"):
        ModelBundle.load(folder, task="severity")
    with pytest.raises(WrongTask, match="slices"):
        _ = ModelBundle.load(folder).slice_spec


def test_severity_has_one_output(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "s.ctedge", task="severity", labels=["Low", "High", "Worst"])
    assert bundle.output_names == ("score",)
    assert bundle.labels == ("Low", "High", "Worst")
    with pytest.raises(WrongTask, match="classifier or slices"):
        _ = bundle.threshold


def test_slices_have_a_spec_of_their_own(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "s.ctedge", task="slices", threshold=0.25)
    assert bundle.spec == bundle.slice_spec == SLICE_SPEC
    assert bundle.threshold == 0.25
    assert (bundle.input_name, bundle.input_shape) == ("image", (3, 24, 20))
    with pytest.raises(WrongTask, match="classifier or severity"):
        _ = bundle.volume_spec
    (case,) = bundle.golden()
    assert case.input.shape == SLICE_SPEC.shape


def test_a_bundle_may_lack_card_and_golden_cases(folder: Path) -> None:
    document = read_document(folder)
    document["golden"] = []
    for name in ("MODEL_CARD.md", "golden/noise.npy.gz"):
        del document["members"][name]
        (folder / name).unlink()
    seal(folder, document)
    bundle = ModelBundle.load(folder)
    assert bundle.card == ""
    assert bundle.golden() == ()


def test_a_bare_name_is_a_shipped_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny(tmp_path / "models" / "tiny.ctedge")
    monkeypatch.setattr("ctedge.bundle.files._SHIPPED", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert ModelBundle.load("tiny").path == tmp_path / "models" / "tiny.ctedge"
    for missing in ("other", "models/tiny", "../tiny", "tiny.ctedge", "", "a\0b", "x" * 5000):
        with pytest.raises(BundleError) as caught:
            ModelBundle.load(missing)
        assert str(caught.value).isprintable() or "\n" in str(caught.value)
    with pytest.raises(BundleNotFound, match="tiny"):
        ModelBundle.load("nowhere")


def test_a_bundle_is_named_as_a_command_line_takes_it(folder: Path, tmp_path: Path) -> None:
    assert ModelBundle.load("pneumonia").argument == "pneumonia"
    spaced = shutil.copytree(folder, tmp_path / "two words.ctedge")
    assert shlex.split(ModelBundle.load(spaced).argument) == [str(spaced)]


def test_loading_six_megabytes_is_quick(folder: Path) -> None:
    replace_member(folder, "padding.bin", bytes(6_000_000))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        ModelBundle.load(folder)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.06


def test_loading_imports_numpy_and_the_standard_library_only(folder: Path) -> None:
    script = (
        "import sys; from ctedge import ModelBundle; ModelBundle.load(sys.argv[1]).golden();"
        "heavy = ('onnx', 'onnxruntime', 'nibabel', 'scipy', 'google');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout.strip() == "[]"
