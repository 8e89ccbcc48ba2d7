"""What the three doors share: load a verified bundle, run its network, free it."""

from __future__ import annotations

import functools
import operator
import os
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Generic, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from ctedge.bundle.maps import MapRecord
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.clock import Clock
from ctedge.doors.sources import Source, several
from ctedge.errors import CTEdgeError, InferenceFailed, RuntimeUnavailable
from ctedge.lifetime import given_to_runtime
from ctedge.runtimes import Device, Runtime, RuntimeName, open_runtime
from ctedge.runtimes.verification import is_answer, warm_up
from ctedge.tensor import network_batch
from ctedge.uses import Loaded, Uses, holding

Result = TypeVar("Result")
Self = TypeVar("Self", bound="Door[Any]")


class Door(Loaded, ABC, Generic[Result]):
    """A loaded model. Threads may share it; a process that is forked from this one may not."""

    #: The task a bundle must have to be opened by this door.
    task: ClassVar[str]

    def __init__(self, bundle: ModelBundle, runtime: Runtime) -> None:
        self.bundle = bundle
        self._runtime = runtime
        self._uses = Uses(runtime)

    @classmethod
    def load(
        cls: type[Self],
        bundle: str | os.PathLike[str],
        *,
        device: Device | None = None,
        runtime: RuntimeName | None = None,
        precision: str | None = None,
    ) -> Self:
        """Verify a bundle and load its network with the fastest runtime that may be trusted here.

        What is named is strict; how the rest is chosen says `ctedge.runtimes.choice`. It is warm
        afterwards, since the choice has run the golden cases; only "onnxruntime-cpu-fp32" is not:
        `warm_up` would cost two answers there, and save the first scan a part of one.

        Args:
            bundle: a folder NAME.ctedge, or the bare name of a shipped bundle.
            device: "cpu"; "cuda", an NVIDIA GPU; "gpu", an Intel GPU; or "auto" (None means the
                same): an NVIDIA GPU, else the CPU.
            runtime: "onnxruntime", "openvino", "tensorrt" or "tensorrt-rtx".
            precision: "fp32", "fp16", "bf16" or "int8".

        Raises:
            BundleError: not there, damaged, tampered with, unsafe, or made for another door.
            RuntimeUnavailable: the device, runtime or precision cannot be had on this machine.
        """
        verified = ModelBundle.load(bundle, task=cls.task)
        opened = open_runtime(verified, device=device, runtime=runtime, precision=precision)
        return holding(cls, verified, opened)

    @property
    def runtime(self) -> str:
        """Runtime, device and precision, for instance "onnxruntime-cpu-fp32"."""
        return self._runtime.name

    @abstractmethod
    def predict(
        self, source: Source, *, assess: bool = False, strict: bool = False, explain: bool = False
    ) -> Result:
        """Judge one source."""

    async def predict_async(
        self, source: Source, *, assess: bool = False, strict: bool = False, explain: bool = False
    ) -> Result:
        """The same as `predict`, off the event loop, in one of as many threads as there are CPUs.

        Cancelled while it waits for a thread, it never runs; later, it runs to its end unheard.
        """
        asked = {"assess": assess, "strict": strict, "explain": explain}
        answer = self._uses.off_loop(functools.partial(self.predict, source, **asked))
        del source  # an error that is kept would hold it
        return await answer

    @overload
    def predict_batch(
        self,
        sources: Iterable[Source],
        *,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
        errors: Literal["raise"] = "raise",
    ) -> list[Result]: ...

    @overload
    def predict_batch(
        self,
        sources: Iterable[Source],
        *,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
        errors: Literal["return"],
    ) -> list[Result | CTEdgeError]: ...

    def predict_batch(
        self,
        sources: Iterable[Source],
        *,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
        errors: Literal["raise", "return"] = "raise",
    ) -> Any:
        """Judge several sources: what `predict_iter` yields, as a list."""
        asked: Any = {"assess": assess, "strict": strict, "explain": explain, "errors": errors}
        return list(self.predict_iter(sources, **asked))

    @overload
    def predict_iter(
        self,
        sources: Iterable[Source],
        *,
        ahead: int = 1,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
        errors: Literal["raise"] = "raise",
    ) -> Generator[Result, None, None]: ...

    @overload
    def predict_iter(
        self,
        sources: Iterable[Source],
        *,
        ahead: int = 1,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
        errors: Literal["return"],
    ) -> Generator[Result | CTEdgeError, None, None]: ...

    def predict_iter(  # noqa: PLR0913
        self,
        sources: Iterable[Source],
        *,
        ahead: int = 1,
        assess: bool = False,
        strict: bool = False,
        explain: bool = False,
        errors: Literal["raise", "return"] = "raise",
    ) -> Any:
        """Judge sources in order, the next read while this one is inferred; closing it ends that.

        Args:
            sources: as `predict` takes them, also without end; asked in a thread, errors raised.
            ahead: prepared scans that may wait while one is judged; 0 takes the least memory.
            assess, strict, explain: as `predict` takes them.
            errors: "raise": the first source that fails raises as `predict` does, after the
                answers before it. "return": its CTEdgeError stands in the place of its answer.

        Raises:
            InputError: one scan, where several are asked for.
            InferenceFailed: closed, forked after `load`, or there is no thread to be had; also with
                errors="return", as is all that is not `of_one_scan`: a lost device, a missing
                package.
        """
        if errors not in ("raise", "return") or operator.index(ahead) < 0:
            raise ValueError(f"errors is 'raise' or 'return', ahead 0 or more: {errors!r}, {ahead}")
        record = self._finest_map() if explain else None
        prepare = functools.partial(self._prepare, assess=assess, strict=strict, record=record)
        keep = errors == "return"
        return self._uses.answers(several(sources), prepare, self._judge, ahead=ahead, keep=keep)

    def warm_up(self) -> None:
        """Answer the bundle's golden cases, so that the first scan is not the slow one.

        Raises:
            GateFailed: one is answered otherwise here than when it was exported.
            InferenceFailed: the network cannot run.
        """
        self._uses.run(given_to_runtime, warm_up, self.bundle, self._runtime)

    def close(self) -> None:
        """Wait for predictions that run, then free the runtime; others raise InferenceFailed.

        Raises:
            InferenceFailed: this thread predicts: a signal handler came in between. Set a flag
                there, or call sys.exit(), and close behind the prediction.
        """
        if self._uses.end():
            given_to_runtime(self._runtime.close)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def _prepare(
        self, source: Source, *, assess: bool, strict: bool, record: MapRecord | None
    ) -> Any:
        """All that needs no network: what `_judge` takes, and no more of the scan than that."""

    @abstractmethod
    def _judge(self, prepared: Any) -> Result:
        """Run the network."""

    def _run(self, inputs: npt.NDArray[np.float32]) -> list[dict[str, float]]:
        """The network's outputs by name, for each of (N, *spec.shape) inputs."""
        batch = network_batch(inputs, self.bundle.spec)
        return self._checked(len(inputs), given_to_runtime(self._runtime.run, batch))

    def _run_explained(
        self, inputs: npt.NDArray[np.float32], record: MapRecord
    ) -> tuple[list[dict[str, float]], npt.NDArray[np.float32]]:
        """The same, and a map (N, *record.shape) of each answer."""
        names = [*self.bundle.output_names, record.name]
        batch = network_batch(inputs, self.bundle.spec)
        answers = given_to_runtime(self._runtime.run, batch, outputs=names)
        cells = answers.pop(record.name)
        if cells.shape != (len(inputs), *record.shape) or not np.isfinite(cells).all():
            raise InferenceFailed(
                f"the map of {self.bundle.name} is none: not finite, or of another shape",
                found=cells.shape,
                expected=(len(inputs), *record.shape),
                fix="run `ctedge export verify` on the bundle, and report the scan",
            )
        return self._checked(len(inputs), answers), cells

    def _finest_map(self) -> MapRecord:
        """The finest map that this network draws on this runtime.

        Raises:
            RuntimeUnavailable: it draws none.
        """
        drawn = [record for record in self.bundle.maps if record.name in self._runtime.maps]
        if not drawn:
            raise RuntimeUnavailable(
                f"{self.bundle.name} does not explain its answers on {self.runtime}",
                found=f"maps of its network: {[one.name for one in self.bundle.maps]}",
                fix="export it again with `ctedge export onnx`, or take the runtime onnxruntime",
            )
        return drawn[-1]

    def _checked(
        self, count: int, answers: Mapping[str, npt.NDArray[np.float32]]
    ) -> list[dict[str, float]]:
        """Answers, one a row; raises InferenceFailed where one is none."""
        # Of another size it is no answer: the last check below refuses NaN.
        numbers = {
            name: answer.ravel() if answer.size == count else np.full(count, np.nan)
            for name, answer in answers.items()
        }
        outputs = [
            {name: float(values[index]) for name, values in numbers.items()}
            for index in range(count)
        ]
        if not all(is_answer(output) for output in outputs):
            raise InferenceFailed(
                f"the answer of {self.bundle.name} is none: not finite, or not what it should be",
                found={name: answer.ravel()[:4].tolist() for name, answer in answers.items()},
                fix="run `ctedge export verify` on the bundle, and report the scan",
            )
        return outputs

    def _context(self, source: str, clock: Clock) -> dict[str, Any]:
        """What every result says of its making."""
        return {
            "source": source,
            "timings_ms": clock.finish(),
            "runtime": self.runtime,
            "model": self.bundle.name,
            "model_digest": self.bundle.digest,
        }
