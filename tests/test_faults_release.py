"""What was closed or dropped is gone at once: nothing waits for Python's collector with a model."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from ctedge import Classifier, CTScan
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InputError


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
