"""What was closed or dropped is gone at once: nothing waits for Python's collector with a model."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from ctedge import Classifier, CTScan
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InputError, UnreadableScan
from ctedge.planes import PlanesInFiles
from ctedge.resampling import Resampling


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def bundle(tmp_path) -> ModelBundle:
    return write_tiny(tmp_path / "tiny.ctedge")


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_closed_model_is_gone(bundle, runtime, chest, device):
    """`device=None` finds no GPU first; that error's frames must not keep the model."""
    door = Classifier.load(bundle.path, runtime=runtime, device=device, precision="fp32")
    door.predict(chest)
    there = [weakref.ref(one) for one in (door, door._runtime, door.bundle)]
    door.close()
    del door
    assert [one() for one in there] == [None] * len(there)


def test_scans_are_gone_whatever_came_of_them(bundle, runtime, chest, las_affine):
    def scans() -> Iterator[CTScan]:
        for voxels in (chest, (chest % 7).astype(np.uint8), chest[:, :, :12], chest):
            scan = CTScan.from_oriented(voxels.copy(), las_affine, source="memory")
            seen.append(weakref.ref(scan))
            yield scan

    seen: list[weakref.ref[CTScan]] = []
    with Classifier.load(bundle.path, runtime=runtime, device="cpu", precision="fp32") as door:
        found = door.predict_batch(scans(), errors="return")
        assert [isinstance(one, InputError) for one in found] == [False, True, True, False]
        for scan in scans():
            with contextlib.suppress(InputError):
                door.predict(scan)
        del scan
        assert len(seen) == 8
        assert [one() for one in seen] == [None] * len(seen)


@pytest.fixture(params=["DICOM", "NIfTI"])
def cut(request: pytest.FixtureRequest, tmp_path: Path, rng: np.random.Generator) -> Path:
    """A scan that ends within its pixels, which is found where they are decoded."""
    voxels = rng.integers(-1000, 1200, (20, 16, 16)).astype(np.int16)
    if request.param == "NIfTI":
        nibabel = pytest.importorskip("nibabel", exc_type=ImportError)
        path = tmp_path / "scan.nii.gz"
        nibabel.save(nibabel.Nifti1Image(voxels.T, np.diag([-16.0, 16.0, 10.0, 1.0])), path)
        path.write_bytes(path.read_bytes()[:-60])
        return path
    pytest.importorskip("pydicom", exc_type=ImportError)
    pytest.importorskip("imagecodecs", exc_type=ImportError)
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    from dicom_factory import CHEST, save, slices
    from dicom_frames import put_frames

    for number, one in enumerate(slices(voxels, syntax=RLELossless, **CHEST)):
        if number > 5:
            frame = get_frame(one.PixelData, 0, number_of_frames=1)
            put_frames(one, [frame[: len(frame) // 2]], RLELossless)
        save(tmp_path / "series" / f"{number}.dcm", one)
    return tmp_path / "series"


@pytest.mark.parametrize("asked", ["batch", "async"])
def test_a_kept_error_of_a_file_holds_nothing_of_its_scan(bundle, cut, monkeypatch, asked):
    """An empty frame still holds what its function closes over: a slice, or the network's input."""
    seen: list[weakref.ref[object]] = []
    for kind in (PlanesInFiles, Resampling):

        def watched(one: object, *args: Any, made: Any = kind.__init__, **named: Any) -> None:
            seen.append(weakref.ref(one))
            made(one, *args, **named)

        monkeypatch.setattr(kind, "__init__", watched)

    async def asynchronously() -> list[object]:
        return await asyncio.gather(door.predict_async(cut), return_exceptions=True)

    with Classifier.load(bundle.path, device="cpu", precision="fp32") as door:
        batch = asked == "batch"
        (kept,) = (
            door.predict_batch([cut], errors="return") if batch else asyncio.run(asynchronously())
        )
        gc.collect()  # an event loop leaves cycles
        assert isinstance(kept, UnreadableScan), kept
        assert len(seen) == 2
        assert [one() for one in seen] == [None] * len(seen)
        assert cut.name in str(kept)
        assert (kept.__cause__ is None) == cut.is_file()  # what the codec said
