"""Every byte is as its digest promises, and nothing is read before that is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle_factory import (
    MEMBERS,
    write_tiny,
)
from ctedge.bundle import model_bundle as bundle_module
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    DigestMismatch,
    InvalidBundle,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.ctedge").path


@pytest.mark.parametrize("name", [*MEMBERS, "manifest.json", "manifest.sha256"])
def test_every_changed_byte_is_found(folder: Path, name: str) -> None:
    original = (folder / name).read_bytes()
    positions = {0, len(original) - 1, *range(0, len(original), max(1, len(original) // 40))}
    for position in positions:
        changed = bytearray(original)
        changed[position] ^= 1 << position % 8
        (folder / name).write_bytes(changed)
        with pytest.raises((DigestMismatch, InvalidBundle)) as caught:
            ModelBundle.load(folder)
        if name != "manifest.sha256":
            assert type(caught.value) is DigestMismatch
            assert name in str(caught.value)
    (folder / name).write_bytes(original)
    ModelBundle.load(folder)


@pytest.mark.parametrize("change", [b"", b"\n", b" "])
def test_a_longer_or_shorter_member_is_found(folder: Path, change: bytes) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes() + change if change else path.read_bytes()[:-1])
    with pytest.raises((DigestMismatch, InvalidBundle), match=r"model\.onnx"):
        ModelBundle.load(folder)


def test_the_digest_is_compared_before_the_manifest_is_parsed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(raw: bytes) -> None:
        raise AssertionError("parsed before its digest was compared")

    monkeypatch.setattr(bundle_module, "parse_manifest", never)
    (folder / "manifest.json").write_bytes(b"[" * 100_000)
    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        ModelBundle.load(folder)


def test_digests_are_compared_before_the_model_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(data: bytes) -> None:
        raise AssertionError("read before its digest was compared")

    monkeypatch.setattr(bundle_module, "inspect_model", never)
    (folder / "golden/noise.npy.gz").write_bytes(b"other")
    with pytest.raises((DigestMismatch, InvalidBundle)):
        ModelBundle.load(folder)


@pytest.mark.parametrize(
    "line", [b"", b"0" * 64, b"0" * 64 + b"\r\n", b"A" * 64 + b"\n", b"0" * 1000]
)
def test_a_broken_digest_file_is_refused(folder: Path, line: bytes) -> None:
    (folder / "manifest.sha256").write_bytes(line)
    with pytest.raises(InvalidBundle, match=r"manifest\.sha256"):
        ModelBundle.load(folder)
