"""A machine with a GPU and a TensorRT, both played, and a bundle with an engine for it."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.engines.files import engine_name
from ctedge.engines.record import EngineRecord
from ctedge.runtimes.tensorrt_engine import TensorrtEngine
from ctedge.runtimes.tensorrt_runtime import open_engine
from cuda_fake import FakeDriver
from cuda_header import FakeNvml
from engine_factory import SIZE, put_engine, record_for, write_engine_bundle
from tensorrt_fake import SURFACES, Network, fake_tensorrt

SHAPE = (1, SIZE, SIZE, SIZE)
PLAN = b"an engine"
_WEIGHTS = np.random.default_rng(7).standard_normal(SHAPE).astype(np.float32)


def expected(batch: np.ndarray) -> dict[str, np.ndarray]:
    """What the engine answers: a sample's answer does not depend on its neighbours."""
    logit = np.array([[np.vdot(one, _WEIGHTS) / 100] for one in batch], np.float32)
    return {"logit": logit, "probability": 1 / (1 + np.exp(-logit))}


def volumes(count: int, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *SHAPE), np.float32)


@dataclass
class Stage:
    """What `set_stage` made; `trt` is the module."""

    driver: FakeDriver
    network: Network
    trt: Any
    bundle: ModelBundle
    record: EngineRecord
    opened: list[TensorrtEngine] = field(default_factory=list)

    def open(self, **changes: Any) -> TensorrtEngine:
        """The engine, from its bytes and its record with these changes."""
        found = TensorrtEngine(self.trt, PLAN, replace(self.record, **changes))
        self.opened.append(found)
        return found

    def put(self, precision: str = "fp16", *, plan: bytes = PLAN, **changes: Any) -> Path:
        """Lay an engine of a precision into the bundle, as its builder does."""
        record = record_for(self.bundle, plan, runtime=self.record.runtime, precision=precision)
        record = replace(record, runtime_version=self.trt.__version__, **changes)
        if precision == "fp32":
            record = replace(record, onnx_member="model.onnx", onnx_sha256=_digest(self.bundle))
        name = engine_name(
            precision=precision,
            runtime=record.runtime,
            version=record.runtime_version,
            target=record.target.name,
        )
        return put_engine(self.bundle, name, plan, record)

    def load(self, precision: str | None = None) -> TensorrtEngine:
        """The engine, from the bundle."""
        found = open_engine(self.bundle, runtime=self.record.runtime, precision=precision)
        self.opened.append(found)
        return found

    def clear(self) -> None:
        """Close everything; nothing may be left, and nothing may have been misused."""
        for one in self.opened:
            one.close()
        assert self.driver.misuse == []
        assert self.driver.left() == {} or self.driver.lost


def set_stage(
    patch: pytest.MonkeyPatch, folder: Path, version: str, *, with_driver: bool = True
) -> Stage:
    """Play the driver and a version of TensorRT, "10.3" or "rtx-1.7" and so on."""
    driver = FakeDriver()
    outputs = {"logit": (1,), "probability": (1,)}
    network = Network(input="volume", shape=SHAPE, outputs=outputs, answer=expected)
    trt = fake_tensorrt(version, driver, network)
    real, played = ctypes.CDLL, {"libcuda.so.1": driver, "libnvidia-ml.so.1": FakeNvml()}
    if with_driver:
        patch.setattr(ctypes, "CDLL", lambda name, *a, **k: played.get(name) or real(name, *a, **k))
    rtx = version.startswith("rtx")
    for module in ("tensorrt", "tensorrt_rtx"):
        patch.setitem(sys.modules, module, trt if rtx is module.endswith("rtx") else None)
    bundle = write_engine_bundle(folder / "small.ctedge", variants=("fp16", "int8"))
    record = record_for(bundle, PLAN, runtime_version=SURFACES[version]["version"])
    record = replace(record, runtime="tensorrt-rtx" if rtx else "tensorrt")
    return Stage(driver, network, trt, bundle, record)


def stage_of(*versions: str) -> Any:
    """A fixture: the stage of a version, or of each of several in turn, cleared after the test."""

    @pytest.fixture(params=versions if len(versions) > 1 else None)
    def stage(
        request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> Iterator[Stage]:
        made = set_stage(monkeypatch, tmp_path, getattr(request, "param", versions[0]))
        yield made
        made.clear()

    return stage


def _digest(bundle: ModelBundle) -> str:
    return hashlib.sha256(bundle.model).hexdigest()
