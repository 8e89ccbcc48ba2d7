"""What `ctedge export build-engine` refuses, before it has made or built anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

from typer.testing import CliRunner

import precision_factory
from ctedge.bundle.manifest import ENGINES_NAME
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import record_path
from ctedge.errors import CTEdgeError, InvalidBundle, OutputError, RuntimeUnavailable, WrongTask
from ctedge_export.cli import app
from ctedge_export.engine.make import build_engine
from ctedge_export.engine.settings import Settings
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input
from ctedge_export.lock import written_by_one
from ctedge_export.precision.precision import export_precision
from engine_factory import SPEC, write_engine_bundle
from test_export_triton import lung_bundle


def build(bundle: ModelBundle, precision: str = "fp16", **options: Any) -> Path:
    return build_engine(bundle.path, precision=precision, runtime="tensorrt-rtx", **options)


@pytest.fixture(scope="module")
def network() -> bytes:
    """An FP32 file as `ctedge export onnx` writes it."""
    return precision_factory.network(precision_factory.weights()).SerializeToString()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inputs that gates draw take seconds, and have tests of their own."""
    noise = np.random.default_rng(3).random((4, *SPEC.shape))
    shown = tuple(gate_input(f"noise {n}", values, SPEC) for n, values in enumerate(noise))
    cases = tuple(Case(shown=one, positive=n > 1, score=None) for n, one in enumerate(shown))
    monkeypatch.setattr("ctedge_export.precision.precision.gate_inputs", lambda spec: shown)
    monkeypatch.setattr("ctedge_export.precision.precision.undecided_inputs", lambda *_, **__: ())
    monkeypatch.setattr("ctedge_export.precision.precision.gate_phantoms", lambda spec: cases)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


PASSED, FAILED = {"passed": True}, {"passed": False}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize(
    ("gates", "said"),
    [
        ({"onnx": FAILED, "maps": PASSED}, "no gate result"),
        ({"maps": PASSED}, "no gate result"),
        ({}, "no gate result"),
        ({"onnx": {"passed": 1}}, "no gate result"),
        ({"onnx": PASSED, "maps": FAILED}, "did not pass its maps gate"),
        ({"onnx": PASSED, "structural": {"passed": None}}, "did not pass its structural gate"),
    ],
    ids=["failed", "other", "none", "one", "maps", "unknown"],
)
def test_a_bundle_that_did_not_pass_its_gates_is_not_built(
    tmp_path: Path, network: bytes, gates: dict[str, Any], said: str, precision: str
) -> None:
    bundle = write_engine_bundle(
        tmp_path / "x.ctedge", variants=("fp16",), gates=gates, model=network
    )
    with pytest.raises(InvalidBundle, match=said) as caught:
        build(bundle, precision)
    assert "ctedge export onnx" in str(caught.value.fix)
    assert left_in(tmp_path) == ["x.ctedge"]
    assert not (bundle.path / ENGINES_NAME).exists()


def test_fp32_is_built_of_a_file_as_export_writes_it(tmp_path: Path, network: bytes) -> None:
    good = write_engine_bundle(tmp_path / "good.ctedge", model=network)
    assert build(good, "fp32").name.startswith("fp32-tensorrt-rtx-")

    drawn = precision_factory.weights()
    drawn["conv2.weight"][0] = np.nan
    model = precision_factory.network(drawn).SerializeToString()
    spoilt = write_engine_bundle(tmp_path / "nan.ctedge", model=model)
    with pytest.raises(InvalidBundle, match="not as `ctedge export onnx`") as caught:
        build(spoilt, "fp32")
    assert "conv2.weight holds NaN" in str(caught.value.found)
    foreign = write_engine_bundle(tmp_path / "foreign.ctedge")  # a graph of other nodes
    with pytest.raises(InvalidBundle, match="not as `ctedge export onnx`"):
        build(foreign, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_engine_is_built_of_a_network_that_finds_lungs(tmp_path: Path, precision: str) -> None:
    lungs = ModelBundle.load(lung_bundle(tmp_path / "lungs.ctedge"))
    with pytest.raises(WrongTask, match="no engine is made for this task") as caught:
        build(lungs, precision)
    assert "classifier or severity or slices" in str(caught.value.expected)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("refusals") / "small.ctedge"
    return write_engine_bundle(folder, variants=("fp16",))


@pytest.fixture
def bundle(shared: ModelBundle) -> Iterator[ModelBundle]:
    yield shared
    shutil.rmtree(shared.path / ENGINES_NAME, ignore_errors=True)


def test_a_map_that_the_network_has_not_is_not_drawn(bundle: ModelBundle) -> None:
    with pytest.raises(InvalidBundle, match="no Grad-CAM for --explain") as caught:
        build(bundle, settings=Settings(explain=True))
    assert "leave --explain out" in str(caught.value.fix)
    assert not (bundle.path / ENGINES_NAME).exists()


def test_an_engine_elsewhere_says_where_it_has_to_lie(bundle: ModelBundle, tmp_path: Path) -> None:
    said: list[str] = []
    there = build(bundle, say=said.append)
    assert "has to lie" not in said[-1]
    build(bundle, output=tmp_path / "x.engine", say=said.append)
    assert f"To be verified and loaded it has to lie, with its .json, as {there}" in said[-1]


def test_a_timing_cache_is_refused_before_a_member_is_made(tmp_path: Path) -> None:
    bundle = write_engine_bundle(tmp_path / "new.ctedge")
    said: list[str] = []
    with pytest.raises(RuntimeUnavailable, match="times nothing"):
        build(bundle, timing_cache=tmp_path / "t.cache", say=said.append)
    assert said == []
    assert ModelBundle.load(bundle.path).variants == ()


def test_a_folder_that_cannot_be_written_is_refused_before_the_gates(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bundle = write_engine_bundle(tmp_path / "x.ctedge")
    said: list[str] = []
    with pytest.raises(OutputError, match="cannot write") as caught:
        export_precision(
            bundle.path, ["fp16"], output=tmp_path / "file" / "y.ctedge", say=said.append
        )
    assert "name another output" in str(caught.value.fix)
    assert said == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_bundle_that_cannot_be_changed_is_written_elsewhere(tmp_path: Path) -> None:
    bundle = write_engine_bundle(tmp_path / "x.ctedge")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(OutputError) as caught:
            export_precision(bundle.path, ["fp16"])
        wanted = f"ctedge export precision {bundle.path} --to fp16 -o OTHER.ctedge"
        assert wanted in str(caught.value.fix)
        with pytest.raises(OutputError, match=r"beside x\.ctedge"):
            build(bundle)
    finally:
        tmp_path.chmod(0o755)


def test_one_process_at_a_time_writes_a_bundle(bundle: ModelBundle, tmp_path: Path) -> None:
    with written_by_one(bundle.path):
        held = bundle.path.with_name(f".{bundle.path.name}.lock")
        assert held.is_file()
        for change in (build, lambda b: export_precision(b.path, ["bf16"])):
            with pytest.raises(
                OutputError, match=r"another build or export of small\.ctedge"
            ) as no:
                change(bundle)
            assert str(os.getpid()) in str(no.value.found)
        build(bundle, output=tmp_path / "x.engine")  # another file, of a bundle that stays as it is
        (tmp_path / "other-name.ctedge").symlink_to(bundle.path)
        with pytest.raises(OutputError, match="another build"):
            build_engine(tmp_path / "other-name.ctedge", runtime="tensorrt-rtx")
    assert not held.exists()
    assert not (bundle.path / ENGINES_NAME).exists()


def test_the_lock_outlives_the_folder_that_a_member_is_written_into(
    tmp_path: Path, network: bytes, few: None
) -> None:
    """A member takes the bundle's place whole, `engines/` with it; nobody builds meanwhile."""
    bundle = write_engine_bundle(tmp_path / "x.ctedge", model=network)
    first = bundle.path / ENGINES_NAME / "of-before.engine"
    first.parent.mkdir()
    first.write_bytes(b"an engine")
    refused: list[str] = []

    def meanwhile(line: str) -> None:
        if "manifest" in line or "digests verified" in line:  # before and after the change
            try:
                build(ModelBundle.load(bundle.path), settings=Settings(target="sm86"))
            except CTEdgeError as error:
                refused.append(error.what)

    path = build(bundle, say=meanwhile)
    assert refused == ["another build or export of x.ctedge is going on"] * 3
    assert left_in(path.parent) == sorted([path.name, record_path(path).name, first.name])
    assert left_in(tmp_path) == ["x.ctedge"]


def test_an_engine_that_another_build_wrote_meanwhile_stays(
    bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears after the first look at the output, and before the lock is had."""
    first = build(bundle)
    kept = first.read_bytes()
    record = record_path(first).read_bytes()
    first.unlink()
    record_path(first).unlink()

    def late(*arguments: Any, **options: Any) -> Any:
        first.write_bytes(kept)
        record_path(first).write_bytes(record)
        return written_by_one(*arguments, **options)

    monkeypatch.setattr("ctedge_export.engine.make.written_by_one", late)
    with pytest.raises(OutputError, match="already exists"):
        build(bundle)
    assert first.read_bytes() == kept


@pytest.mark.parametrize(
    "words",
    [
        ["build-engine", "x.ctedge", "--precision", "fp8"],
        ["build-engine", "x.ctedge", "--runtime", "onnxruntime"],
        ["precision", "x.ctedge", "--to", "fp8"],
    ],
)
def test_a_word_that_is_none_of_the_choices_is_wrong_usage(words: list[str]) -> None:
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 2
    assert "is not one of" in answer.stderr
