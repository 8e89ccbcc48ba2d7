"""A manifest with a fitting digest is still read with suspicion, key by key."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle_factory import SPEC, read_document, seal, write_tiny
from ctedge.bundle.manifest import manifest_bytes, parse_manifest
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InvalidBundle


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return read_document(write_tiny(tmp_path_factory.mktemp("m") / "tiny.ctedge").path)


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(document)
    *parents, last = path.split("|")
    target: Any = result
    for key in parents:
        target = target[int(key) if isinstance(target, list) else key]
    target[int(last) if isinstance(target, list) else last] = value
    return result


GOOD = {"sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("schema_version", 1, "schema version"),
        ("schema_version", 4, "schema version"),
        ("schema_version", "2", "schema version"),
        ("schema_version", True, "schema version"),
        ("schema_version", None, "schema version"),
        ("more", 1, "more"),
        ("name", "../x", "'name'"),
        ("name", "", "'name'"),
        ("name", 3, "'name'"),
        ("name", "x\n", "'name'"),
        ("task", "diagnosis", "'task'"),
        ("task", ["classifier"], "'task'"),
        ("labels", ["a"], "'labels'"),
        ("labels", ["a", "a"], "'labels'"),
        ("labels", ["a", 1], "labels[1]"),
        ("labels", ["a", "b\x1b[31m"], "labels[1]"),
        ("labels", "ab", "'labels'"),
        ("labels", ["a"] * 1000, "'labels'"),
        ("threshold", None, "'threshold'"),
        ("threshold", 0.0, "'threshold'"),
        ("threshold", 1.0, "'threshold'"),
        ("threshold", 1, "'threshold'"),
        ("threshold", -0.5, "'threshold'"),
        ("threshold", "0.5", "'threshold'"),
        ("threshold", True, "'threshold'"),
        ("spec", {}, "spec"),
        ("spec", [], "'spec'"),
        ("spec|shape", ["8", "8", "8"], "'spec'"),
        ("spec|shape", [8, 8], "spec"),
        ("spec|shape", [8, 8, -8], "spec"),
        ("spec|shape", [8, 8, 10**9], "spec"),
        ("spec|axes", "XYZ", "spec"),
        ("spec|lungs_only", "no", "'spec'"),
        ("spec|evil", 1, "spec"),
        ("model", None, "'model'"),
        ("model|member", "other.onnx", "model.member"),
        ("model|opset", 17.0, "model.opset"),
        ("model|opset", True, "model.opset"),
        ("model|opset", 18, "17"),
        ("model|input|shape", [1, 8, 8], "model.input.shape"),
        ("model|input|shape", [1, 8, 8, 0], "model.input.shape"),
        ("model|input|shape", [1, 8, 8, True], "model.input.shape"),
        ("model|input|name", "other", "volume"),
        ("model|outputs", [], "model.outputs"),
        ("model|outputs|0|name", "score", "model.outputs"),
        ("model|outputs|0|shape", [2], "logit"),
        ("members", {}, "members"),
        ("members", [], "members"),
        ("members", {f"f{i}": GOOD for i in range(65)}, "members"),
        ("members|../evil", GOOD, "../evil"),
        ("members|/etc/passwd", GOOD, "/etc/passwd"),
        ("members|a//b", GOOD, "a//b"),
        ("members|a/../b", GOOD, "a/../b"),
        ("members|a\\b", GOOD, "members"),
        ("members|C:evil", GOOD, "C:evil"),
        ("members|.hidden", GOOD, ".hidden"),
        ("members|a\0b", GOOD, "members"),
        ("members|a/b/c/d", GOOD, "a/b/c/d"),
        ("members|" + "x" * 500, GOOD, "members"),
        ("members|manifest.json", GOOD, "manifest.json"),
        ("members|engines/model.plan", GOOD, "engines"),
        ("members|Model.onnx", GOOD, "case"),
        ("members|model.onnx|sha256", "0" * 63, "sha256"),
        ("members|model.onnx|sha256", "A" * 64, "sha256"),
        ("members|model.onnx|sha256", "0" * 64 + "\n", "sha256"),
        ("members|model.onnx|bytes", -1, "bytes"),
        ("members|model.onnx|bytes", 1 << 62, "bytes"),
        ("members|model.onnx|bytes", 1.5, "bytes"),
        ("members|model.onnx|more", 1, "more"),
        ("golden", {}, "golden"),
        ("golden|0|input", "model.json", "golden[0].input"),
        ("golden|0|input", ["model.onnx"], "golden[0].input"),
        ("golden|0|outputs|logit", "1", "golden[0].outputs.logit"),
        ("golden|0|outputs|logit", True, "golden[0].outputs.logit"),
        ("golden|0|outputs|logit", 10**400, "golden[0].outputs.logit"),
        ("golden|0|outputs", {"logit": 1.0}, "golden[0].outputs"),
        ("golden|0|name", "\u202e", "golden[0].name"),
        ("metrics", [], "metrics"),
        ("provenance", None, "provenance"),
        ("gates", 1, "gates"),
    ],
)
def test_a_wrong_key_is_refused_by_name(
    document: dict[str, Any], tmp_path: Path, path: str, value: Any, named: str
) -> None:
    folder = write_tiny(tmp_path / "tiny.ctedge").path
    seal(folder, changed(document, path, value))
    with pytest.raises(InvalidBundle) as caught:
        ModelBundle.load(folder)
    assert named in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("threshold", None, "'threshold'"),
        ("labels", ["a", "b", "c"], "'labels'"),
        ("spec", SPEC.to_json(), "spec"),
        ("spec|shape", [24, 20, 1], "spec"),
        ("spec|shape", [24, 10**9], "spec"),
        ("spec|deviation", [0.0, 1.0, 1.0], "deviation"),
        ("spec|deviation", [1.0, 1.0, 1.0, 1.0], "spec"),
        ("spec|mean", [0.0, 0.0], "spec"),
        ("spec|mean", [0.0, 0.0, 11.0], "mean"),
        ("model|input|name", "volume", "model.input.name"),
        ("model|input|shape", [24, 20, 3], "model.input.shape"),
        ("task", "classifier", "spec"),
    ],
)
def test_a_wrong_key_of_a_slice_model_is_refused(
    tmp_path: Path, path: str, value: Any, named: str
) -> None:
    folder = write_tiny(tmp_path / "tiny.ctedge", task="slices").path
    seal(folder, changed(read_document(folder), path, value))
    with pytest.raises(InvalidBundle) as caught:
        ModelBundle.load(folder)
    assert named in str(caught.value)


def test_a_score_has_no_threshold(tmp_path: Path) -> None:
    folder = write_tiny(tmp_path / "tiny.ctedge", task="severity").path
    seal(folder, changed(read_document(folder), "threshold", 0.5))
    with pytest.raises(InvalidBundle, match="severity has no probability"):
        ModelBundle.load(folder)


def test_every_key_is_required(document: dict[str, Any]) -> None:
    for key in document:
        with pytest.raises(InvalidBundle, match=key.replace("_", ".")):
            parse_manifest(manifest_bytes({k: v for k, v in document.items() if k != key}))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"[]",
        b"null",
        b"1",
        b"{",
        b"{} {}",
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
        b'{"schema_version": 2, "schema_version": 2}',
        b'{"schema_version": 2, "spec": {"a": 1, "a": 2}}',
        b'{"schema_version": NaN}',
        b'{"schema_version": -Infinity}',
        b'{"schema_version": 2e999}',
        b'{"schema_version": 2, "name": "\\ud800"}',
        b"{'schema_version': 1}",
    ],
)
def test_doubtful_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidBundle):
        parse_manifest(raw)


def test_a_manifest_survives_its_own_writer(document: dict[str, Any]) -> None:
    raw = manifest_bytes(document)
    manifest = parse_manifest(raw)
    assert manifest_bytes(manifest.document) == raw
    assert raw.endswith(b"}\n")


_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)
_VALUES = _LEAVES | st.lists(_LEAVES, max_size=3) | st.dictionaries(st.text(max_size=9), _LEAVES)


@settings(max_examples=150, deadline=None, database=None)
@given(index=st.integers(0, 10_000), value=_VALUES)
def test_any_value_anywhere_is_read_or_refused(
    document: dict[str, Any], index: int, value: Any
) -> None:
    places = list(_places(document))
    raw = json.dumps(changed(document, places[index % len(places)], value)).encode()
    with contextlib.suppress(InvalidBundle):
        parse_manifest(raw)


def _places(node: Any, path: str = "") -> Any:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        here = f"{path}|{key}" if path else str(key)
        yield here
        if isinstance(value, dict | list):
            yield from _places(value, here)
