"""A bundle loads when every byte is as promised, and in no other case."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import pickle
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import (
    SLICE_SPEC,
    SPEC,
    read_document,
    replace_member,
    seal,
    tiny_model,
    write_tiny,
)
from ctedge.bundle import model_bundle as bundle_module
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import (
    BundleError,
    BundleNotFound,
    DigestMismatch,
    InvalidBundle,
    OutputError,
    UnsafeModel,
    WrongTask,
)
from patience import PATIENCE_S

MEMBERS = ("MODEL_CARD.md", "golden/noise.npy.gz", "model.onnx")


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


def test_a_file_or_an_empty_folder_is_no_bundle(tmp_path: Path) -> None:
    file = tmp_path / "model.ctedge"
    file.write_bytes(b"PK")
    with pytest.raises(InvalidBundle, match="a file"):
        ModelBundle.load(file)
    with pytest.raises(InvalidBundle, match=r"manifest\.sha256"):
        ModelBundle.load(tmp_path)


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


@pytest.mark.parametrize("name", [*MEMBERS, "manifest.json", "manifest.sha256"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InvalidBundle, match=name.replace(".", r"\.")):
        ModelBundle.load(folder)


@pytest.mark.parametrize("name", ["weights.bin", "golden/more.npy.gz", "a/b/c/d", "néw\n.txt"])
def test_a_file_that_the_manifest_does_not_name_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    with pytest.raises(InvalidBundle, match="not named"):
        ModelBundle.load(folder)


def test_engines_are_no_members(folder: Path) -> None:
    (folder / "engines" / "sm90").mkdir(parents=True)
    (folder / "engines" / "sm90" / "model.plan").write_bytes(b"x")
    assert ModelBundle.load(folder).member_names == MEMBERS


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "manifest.sha256", "golden"])
def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (folder / name).rename(outside)
    (folder / name).symlink_to(outside)
    with pytest.raises(InvalidBundle, match="symbolic link"):
        ModelBundle.load(folder)


def test_a_linked_engines_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "engines").symlink_to(tmp_path)
    with pytest.raises(InvalidBundle, match="symbolic link"):
        ModelBundle.load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "other"])
def test_a_pipe_is_refused_without_waiting(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InvalidBundle):
        ModelBundle.load(folder)


def test_very_many_files_are_refused(folder: Path) -> None:
    for i in range(1001):
        (folder / f"f{i}").touch()
    with pytest.raises(InvalidBundle, match="more than 1000"):
        ModelBundle.load(folder)


def test_a_huge_manifest_is_refused_unread(folder: Path) -> None:
    with (folder / "manifest.json").open("ab") as stream:
        stream.truncate(1 << 33)
    with pytest.raises(InvalidBundle, match="at most"):
        ModelBundle.load(folder)


def test_a_model_other_than_described_is_refused(folder: Path) -> None:
    replace_member(folder, "model.onnx", tiny_model("severity").SerializeToString())
    with pytest.raises(InvalidBundle, match="score"):
        ModelBundle.load(folder)
    fixed = tiny_model()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    replace_member(folder, "model.onnx", fixed.SerializeToString())
    with pytest.raises(InvalidBundle, match="dynamic batch"):
        ModelBundle.load(folder)


def test_an_unsafe_model_with_fitting_digests_is_refused(folder: Path) -> None:
    model = tiny_model()
    model.graph.node[0].domain = "com.evil"
    replace_member(folder, "model.onnx", model.SerializeToString())
    with pytest.raises(UnsafeModel, match=r"com\.evil"):
        ModelBundle.load(folder)


def test_every_onnx_member_is_guarded(folder: Path) -> None:
    replace_member(folder, "int8.onnx", b"\xff\xff")
    with pytest.raises(InvalidBundle, match="ONNX"):
        ModelBundle.load(folder)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


class Exploit:
    def __reduce__(self) -> tuple[object, ...]:
        return (os._exit, (77,))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x1f\x8b",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"\x93NUMPY", mtime=0),
        gzip.compress(npy(np.zeros(SPEC.shape, np.uint8)), mtime=0)[:-9],
        gzip.compress(npy(np.zeros(SPEC.shape, np.uint8)), mtime=0) + b"more",
        gzip.compress(npy(np.zeros((8, 8, 9), np.uint8))),
        gzip.compress(npy(np.zeros(SPEC.shape, np.float32)), mtime=0),
        gzip.compress(bytes(50_000_000), mtime=0),
        gzip.compress(pickle.dumps(Exploit()), mtime=0),
        gzip.compress(
            b"\x93NUMPY\x01\x00v\x00{'descr':'|O','fortran_order':False,'shape':(8,8,8)}".ljust(127)
            + b"\n"
            + pickle.dumps(Exploit())
        ),
        gzip.compress(
            b"\x93NUMPY\x01\x00v\x00{'descr':'|u1','fortran_order':False,'shape':(9**99,)}".ljust(
                127
            )
            + b"\n"
        ),
    ],
    ids=lambda data: str(len(data)),
)
def test_a_hostile_golden_input_is_refused(folder: Path, data: bytes) -> None:
    replace_member(folder, "golden/noise.npy.gz", data)
    bundle = ModelBundle.load(folder)
    with pytest.raises(InvalidBundle, match="golden"):
        bundle.golden()


def test_a_card_that_is_no_text_is_refused(folder: Path) -> None:
    replace_member(folder, "MODEL_CARD.md", b"\xff")
    bundle = ModelBundle.load(folder)
    with pytest.raises(InvalidBundle, match="UTF-8"):
        _ = bundle.card


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


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"ctedge.files.os.{call}", full)
    with pytest.raises(OutputError, match="No space"):
        write_tiny(tmp_path / "tiny.ctedge")
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_bundle_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidBundle, match="labels"):
        write_tiny(tmp_path / "tiny.ctedge", labels=["one"])
    with pytest.raises(InvalidBundle, match="ONNX"):
        write_tiny(tmp_path / "tiny.ctedge", model=b"\x00")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_not_overwritten_by_accident(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(OutputError, match="overwrite"):
        write_tiny(folder)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("name", ["tiny", "ti ny.ctedge", ".ctedge", "-x.ctedge", "é.ctedge"])
def test_a_name_that_is_no_bundle_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="NAME"):
        write_tiny(tmp_path / name)


def test_equal_bundles_have_equal_bytes(tmp_path: Path) -> None:
    one = write_tiny(tmp_path / "one" / "tiny.ctedge")
    two = write_tiny(tmp_path / "two" / "tiny.ctedge")
    assert one.digest == two.digest


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


def test_a_bundle_is_named_as_a_command_line_takes_it(folder: Path, tmp_path: Path) -> None:
    assert ModelBundle.load("pneumonia").argument == "pneumonia"
    spaced = shutil.copytree(folder, tmp_path / "two words.ctedge")
    assert shlex.split(ModelBundle.load(spaced).argument) == [str(spaced)]
