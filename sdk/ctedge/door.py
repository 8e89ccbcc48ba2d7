"""What the three doors share: load a bundle, prepare a scan, run the network, time each stage."""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ctedge.bundle import ModelBundle
from ctedge.errors import InferenceFailed, InvalidBundle
from ctedge.preprocessing import resample
from ctedge.quality import judge
from ctedge.readers import read_scan
from ctedge.runtimes import Device, Runtime, RuntimeName, open_runtime
from ctedge.scan import CTScan

Source = str | os.PathLike[str] | CTScan | npt.ArrayLike
Result = TypeVar("Result")
Self = TypeVar("Self", bound="Door[Any]")


class Door(ABC, Generic[Result]):
    """A loaded model that judges one scan at a time. Threads may share it."""

    #: The task a bundle must have to be opened by this door.
    task: ClassVar[str]

    def __init__(self, bundle: ModelBundle, runtime: Runtime) -> None:
        if bundle.spec.lungs_only:
            raise InvalidBundle(
                f"{bundle.name}: its network sees the lungs only, and nothing here finds them yet",
                fix="use a bundle whose spec has lungs_only false",
            )
        self.bundle = bundle
        self._runtime = runtime

    @classmethod
    def load(
        cls: type[Self],
        bundle: str | os.PathLike[str],
        *,
        device: Device | None = None,
        runtime: RuntimeName | None = None,
    ) -> Self:
        """Verify a bundle and load its network.

        Args:
            bundle: a folder NAME.ctedge, or the bare name of a shipped bundle.
            device: "cpu", "cuda", or "auto" (None means the same), in this version always the
                CPU. What is named is strict.
            runtime: "onnxruntime", or None, which means the same in this version.

        Raises:
            BundleError: not there, damaged, tampered with, unsafe, or made for another door.
            RuntimeUnavailable: the device or runtime cannot be had on this machine.
        """
        verified = ModelBundle.load(bundle, task=cls.task)
        return cls(verified, open_runtime(verified, device=device, runtime=runtime))

    @property
    def runtime(self) -> str:
        """Runtime, device and precision, for instance "onnxruntime-cpu-fp32"."""
        return self._runtime.name

    def predict(self, source: Source) -> Result:
        """Judge one scan.

        Args:
            source: a NIfTI file, a folder with one axial DICOM series, a CTScan, or an
                (X, Y, Z) array of HU whose axes grow towards Left, Anterior and Superior.

        Raises:
            InputError: the scan cannot be read or is not fit to be judged.
            InferenceFailed: the network's answer is not a finite number.
        """
        clock = _Clock()
        with clock.stage("read"):
            scan = _as_scan(source)
        with clock.stage("preprocess"):
            prepared = resample(scan, self.bundle.spec)
            quality = judge(scan, prepared)
        with clock.stage("inference"):
            outputs = self._run(prepared.volume)
        return self._result(
            outputs,
            {
                "source": scan.source,
                "timings_ms": clock.finish(),
                "runtime": self.runtime,
                "model": self.bundle.name,
                "model_digest": self.bundle.digest,
                "quality": quality,
            },
        )

    def predict_batch(self, sources: Iterable[Source]) -> list[Result]:
        """Judge several scans, in order. The first that fails raises, as `predict` does."""
        return [self.predict(source) for source in sources]

    def warm_up(self) -> None:
        """Run the network once on air, so that the first scan is not the slow one.

        Raises:
            InferenceFailed: the network cannot run, or its answer is not a finite number.
        """
        self._run(np.zeros(self.bundle.spec.shape, np.float32))

    def close(self) -> None:
        """Free the runtime; the object cannot predict afterwards."""
        self._runtime.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, volume: npt.NDArray[np.float32]) -> dict[str, float]:
        answers = self._runtime.run(volume[np.newaxis, np.newaxis])
        outputs = {
            name: float(a.item()) if a.size == 1 else math.nan for name, a in answers.items()
        }
        if not self._plausible(outputs):
            raise InferenceFailed(
                f"the answer of {self.bundle.name} is none: not finite, or not what it should be",
                found={name: answer.ravel()[:4].tolist() for name, answer in answers.items()},
                fix="run `ctedge export verify` on the bundle, and report the scan",
            )
        return outputs

    def _plausible(self, outputs: dict[str, float]) -> bool:
        """Whether the network's outputs can be an answer at all."""
        return all(math.isfinite(value) for value in outputs.values())

    @abstractmethod
    def _result(self, outputs: dict[str, float], context: dict[str, Any]) -> Result:
        """Make the door's own result of the network's outputs and what every result says."""


def _as_scan(source: Source) -> CTScan:
    if isinstance(source, CTScan):
        return source
    if isinstance(source, str | os.PathLike):
        return read_scan(source)
    return CTScan.from_array(source)


class _Clock:
    """Wall time of named stages, in milliseconds."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._stages[name] = (time.perf_counter() - start) * 1e3

    def finish(self) -> dict[str, float]:
        total = (time.perf_counter() - self._start) * 1e3
        return {name: round(ms, 3) for name, ms in {**self._stages, "total": total}.items()}
