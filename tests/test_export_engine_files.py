"""What `ctedge export build-engine` leaves on the disk, says, and refuses."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)
pytest.importorskip("tensorrt_rtx", exc_type=ImportError)

import precision_factory
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import read_record, record_path
from ctedge.errors import InvalidBundle, MissingExtra, OutputError, RuntimeUnavailable
from ctedge.runtimes.cuda_driver import find_device
from ctedge_export.engine.make import build_engine
from ctedge_export.engine.settings import Settings
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import gate_input
from ctedge_export.lock import written_by_one
from engine_factory import SPEC, write_engine_bundle
from patience import PATIENCE_S

pytestmark = pytest.mark.skipif(find_device() is not None, reason="for machines without a GPU")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    folder = tmp_path_factory.mktemp("files") / "small.ctedge"
    return write_engine_bundle(folder, variants=("fp16",))


@pytest.fixture
def bundle(shared: ModelBundle) -> ModelBundle:
    for left in (shared.path / "engines").glob("*"):
        left.unlink()
    return shared


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_engine_is_not_replaced_unasked(bundle: ModelBundle) -> None:
    path = build_engine(bundle.path, runtime="tensorrt-rtx", settings=Settings(target="sm86"))
    before = read_record(path)
    with pytest.raises(OutputError, match="already exists"):
        build_engine(bundle.path, runtime="tensorrt-rtx", settings=Settings(target="sm86"))
    path.write_bytes(b"damaged")
    again = build_engine(
        bundle.path, runtime="tensorrt-rtx", settings=Settings(target="sm86"), overwrite=True
    )
    assert again == path
    record = read_record(path)
    assert record.layers == before.layers
    # Not the size that it had: the same layers come in files of 0.6 or 1.8 MB.
    assert record.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bundle_stays_valid_with_engines_in_it(bundle: ModelBundle) -> None:
    build_engine(bundle.path, runtime="tensorrt-rtx")
    assert ModelBundle.load(bundle.path).digest == bundle.digest


def test_two_builds_of_one_engine_do_not_meet(bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "small.engine"
    with written_by_one(path), pytest.raises(OutputError, match="another build") as caught:
        build_engine(bundle.path, runtime="tensorrt-rtx", output=path)
    assert str(os.getpid()) in str(caught.value.found)
    assert left_in(tmp_path) == []
    build_engine(bundle.path, runtime="tensorrt-rtx", output=path)
    assert left_in(tmp_path) == ["small.engine", "small.json"]


def test_the_lock_of_a_dead_build_holds_nobody(bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "small.engine"
    (tmp_path / ".small.engine.lock").write_text("1\n")
    build_engine(bundle.path, runtime="tensorrt-rtx", output=path)
    assert left_in(tmp_path) == ["small.engine", "small.json"]


_PRESSED = """
import os, signal, sys
from ctedge_export.engine.make import build_engine
from ctedge_export.engine.progress import Unwatched

class Interrupting(Unwatched):
    def finish(self, phase):
        if phase == "Building engine":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    build_engine(sys.argv[1], runtime="tensorrt-rtx", output=sys.argv[2], watcher=Interrupting())
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_leaves_nothing(bundle: ModelBundle, tmp_path: Path) -> None:
    """In a process of its own, which is what Ctrl-C is pressed on."""
    command = [sys.executable, "-c", _PRESSED, str(bundle.path), str(tmp_path / "small.engine")]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (answer.returncode, answer.stdout) == (0, "interrupted\n"), answer.stderr
    assert left_in(tmp_path) == []


def test_an_engine_without_its_record_does_not_stay(bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "small.engine"
    record_path(path).mkdir()
    with pytest.raises(OutputError, match=r"small\.json"):
        build_engine(bundle.path, runtime="tensorrt-rtx", output=path)
    assert left_in(tmp_path) == ["small.json"]


_FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a disk that is full by then
sys.argv = ["ctedge", "export", "build-engine", *sys.argv[1:]]
from ctedge.cli import main
main()
"""


def test_a_full_disk_leaves_nothing(bundle: ModelBundle, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(bundle.path), "-o", str(tmp_path / "x.engine")]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.returncode == 1
    assert "cannot write" in answer.stderr
    assert "free space" in answer.stderr
    assert left_in(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named(bundle: ModelBundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write in") as caught:
        build_engine(bundle.path, runtime="tensorrt-rtx", output=tmp_path / "file" / "x.engine")
    assert "--output" in str(caught.value.fix)


def test_a_name_that_is_no_engine_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no name for an engine") as caught:
        build_engine(bundle.path, runtime="tensorrt-rtx", output=tmp_path / "x.onnx")
    assert caught.value.exit_code == 2


def test_a_bundle_without_a_gate_result_is_refused(tmp_path: Path) -> None:
    bundle = write_engine_bundle(tmp_path / "raw.ctedge", gates={"onnx": {"passed": False}})
    for precision in ("fp32", "fp16"):
        with pytest.raises(InvalidBundle, match=r"gate") as caught:
            build_engine(bundle.path, precision=precision, runtime="tensorrt-rtx")
        assert "ctedge export onnx" in str(caught.value.fix)
    assert not (bundle.path / "engines").exists()


def test_a_missing_precision_is_made_and_gated_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(3).random((4, *SPEC.shape))
    shown = tuple(gate_input(f"noise {n}", values, SPEC) for n, values in enumerate(noise))
    cases = tuple(Case(shown=one, positive=n > 1, score=None) for n, one in enumerate(shown))
    # The gates' own inputs take seconds to draw, and have tests of their own.
    monkeypatch.setattr("ctedge_export.precision.precision.gate_inputs", lambda spec: shown)
    monkeypatch.setattr("ctedge_export.precision.precision.undecided_inputs", lambda *_, **__: ())
    monkeypatch.setattr("ctedge_export.precision.precision.gate_phantoms", lambda spec: cases)
    model = precision_factory.network(precision_factory.weights()).SerializeToString()
    bundle = write_engine_bundle(tmp_path / "new.ctedge", model=model)
    said: list[str] = []
    path = build_engine(bundle.path, precision="fp16", runtime="tensorrt-rtx", say=said.append)
    after = ModelBundle.load(bundle.path)
    assert after.variants == ("fp16",)
    record = read_record(path)
    assert record.onnx_sha256 == hashlib.sha256(after.model_bytes("fp16")).hexdigest()
    assert record.layers.convolutions == {"fp16": 1.0}
    assert record.gates["structural"]["passed"]
    assert "has no fp16 member: it is made and gated now" in said[0]


def test_a_missing_tensorrt_names_its_extra(bundle: ModelBundle) -> None:
    code = f"""
import sys
sys.modules["tensorrt"] = sys.modules["tensorrt_rtx"] = None
from ctedge_export.engine.make import build_engine
for runtime in ("tensorrt", "tensorrt-rtx", None):
    try: build_engine({str(bundle.path)!r}, runtime=runtime)
    except Exception as error: print(type(error).__name__, error.fix)
"""
    lines = subprocess.check_output(
        [sys.executable, "-c", code], text=True, timeout=PATIENCE_S
    ).splitlines()
    assert all(line.startswith(MissingExtra.__name__) for line in lines)
    assert [line.partition("ctedge[")[2].partition("]")[0] for line in lines] == [
        "tensorrt",
        "tensorrt-rtx",
        "tensorrt-rtx",
    ]


def test_tensorrt_without_a_gpu_says_so_and_what_does_without(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    (tmp_path / "tensorrt.py").write_text("__version__ = '11.4.0.106'\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from ctedge_export.engine.flavours import"
        " load_flavour\ntry: load_flavour('tensorrt')\nexcept Exception as e: print(repr(e), e.fix)"
    )
    answer = subprocess.check_output(
        [sys.executable, "-c", code, str(tmp_path)], text=True, timeout=PATIENCE_S
    )
    assert RuntimeUnavailable.__name__ in answer
    assert "needs an NVIDIA GPU" in answer
    assert "--runtime tensorrt-rtx" in answer


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "fp8"}, "no such precision"),
        ({"runtime": "onnxruntime"}, "no such runtime"),
        ({"timing_cache": "x.cache"}, "times nothing"),
    ],
)
def test_what_is_not_offered_is_refused(
    bundle: ModelBundle, options: dict[str, str], said: str
) -> None:
    with pytest.raises((RuntimeUnavailable, OutputError), match=said):
        build_engine(bundle.path, **{"runtime": "tensorrt-rtx", **options})  # type: ignore[arg-type]
