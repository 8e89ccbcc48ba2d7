"""One execution context of an engine, with a stream, buffers and a CUDA graph of its own.

The way of a batch: cast into the pinned buffer, upload, run, download, copy out; an input that was
lent is uploaded from where it is. Addresses are set once. When a shape comes for the second time in
a row, run and download are captured and from then on launched as one graph: the first time TensorRT
prepares what a capture may not hold, and a graph is good only for the state of the context that it
was captured in, so another shape ends it. The upload stays outside, since its source changes.

Source: docs.nvidia.com/deeplearning/tensorrt (IExecutionContext; "CUDA Graphs").
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import InferenceFailed
from ctedge.runtimes.cuda_memory import Cuda, CudaFailure
from ctedge.runtimes.pinned_inputs import is_lent

#: Of ILogger.Severity: internal error, error, warning. The rest is kept by nobody.
_WARNING = 2
_LINES, _LINE = 50, 500


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """What an engine takes and gives.

    Attributes:
        input: the name of its input.
        shape: of the input, without the batch axis.
        outputs: names, in order.
        dtypes: of all of them, by name.
        max_batch: the largest batch of its profile.
    """

    input: str
    shape: tuple[int, ...]
    outputs: tuple[str, ...]
    dtypes: Mapping[str, npt.DTypeLike]
    max_batch: int


class Lane:
    """Runs one batch at a time; the caller has made the GPU's context current.

    Args:
        cuda: the driver.
        context: a new execution context, owned from here on.
        tensors: of its engine.
        log: what TensorRT says goes there.

    Attributes:
        uncaptured: why its runs cannot be captured as a graph; None where they can.

    Raises:
        CudaFailure: no memory, or the GPU is lost.
        InferenceFailed: TensorRT refuses a shape or an address.
    """

    def __init__(self, cuda: Cuda, context: Any, tensors: Tensors, log: Any) -> None:
        self._cuda, self._context, self._tensors, self._log = cuda, context, tensors, log
        self.uncaptured: str | None = None
        self._kept, self._graph_kept = ExitStack(), ExitStack()
        self._graph: int | None = None
        self._shape: tuple[int, ...] | None = None
        self._warm = self._capturing = False
        self._pinned: dict[str, npt.NDArray[Any]] = {}
        self._views: dict[str, npt.NDArray[Any]] = {}
        self._addresses: dict[str, int] = {}
        try:
            self._stream = cuda.stream(self._kept)
            for name, shape in self._shapes((tensors.max_batch, *tensors.shape)).items():
                array = cuda.pinned(math.prod(shape), tensors.dtypes[name], self._kept)
                self._pinned[name] = array
                self._addresses[name] = address = cuda.allocate(array.nbytes, self._kept)
                if not context.set_tensor_address(name, address):
                    raise self._refusal(f"the address of {name}")
        except BaseException:
            self.close()
            raise

    def run(
        self, batch: npt.NDArray[np.float32], names: Sequence[str]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """The outputs named, copied out; the batch is no larger than `max_batch`."""
        self._reshape(batch.shape)
        if self._graph is None and self._warm and self.uncaptured is None:
            self._capture()
        source = batch if is_lent(batch, self._cuda) else self._copied(batch)
        self._cuda.upload(self._addresses[self._tensors.input], source, self._stream)
        if self._graph is None:
            self._submit()
        else:
            self._cuda.launch(self._graph, self._stream)
        self.wait()
        self._warm = True
        return {name: self._views[name].astype(np.float32, copy=True) for name in names}

    def enqueue(self) -> None:
        """Run once more on what is already on the GPU; `wait` waits for it."""
        context = self._context
        if not context.execute_async_v3(self._stream):
            raise self._refusal("to run")

    def replayed(self, kept: ExitStack) -> Callable[[], None]:
        """`enqueue` as a CUDA graph: what launches it again, while the stack holds it.

        Raises:
            InferenceFailed: TensorRT refuses to run.
            CudaFailure: it cannot be captured.
        """
        self._cuda.begin_capture(self._stream)
        try:
            self.enqueue()
        finally:
            graph = self._cuda.end_capture(self._stream, kept)
        return functools.partial(self._cuda.launch, graph, self._stream)

    def wait(self) -> None:
        """Until everything is done that was asked for."""
        self._cuda.wait(self._stream)

    def reset(self) -> None:
        """After a failure: wait for what is under way, and let the next run start afresh.

        Raises:
            CudaFailure: the GPU says what went wrong.
        """
        self._shape, self._warm = None, False
        if self._capturing:  # Ctrl-C came before the end of it, if there was any
            self._capturing = False
            with contextlib.suppress(CudaFailure):
                self._cuda.end_capture(self._stream, self._graph_kept)
        self.wait()
        self._drop_graph()

    def close(self) -> None:
        """Free context, graph, memory and stream.

        Raises:
            CudaFailure: the last call that failed; the others were made.
        """
        self.let_go()
        with self._kept:
            self._drop_graph()

    def let_go(self) -> None:
        """Free what TensorRT holds, and no more: all there is to do where the GPU is lost."""
        self._context = None
        self._pinned, self._views = {}, {}

    def _shapes(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors for a shape of the input, which the context keeps."""
        context, tensors = self._context, self._tensors
        if not context.set_input_shape(tensors.input, shape):
            raise self._refusal(f"the shape {shape}")
        found = {name: tuple(context.get_tensor_shape(name)) for name in tensors.outputs}
        if any(size < 0 for one in found.values() for size in one):
            raise self._refusal(f"to name the shapes of its outputs: {found}")
        return {tensors.input: shape} | found

    def _reshape(self, shape: tuple[int, ...]) -> None:
        if shape == self._shape:
            return
        self._drop_graph()
        self._shape, self._warm = None, False
        self._views = {
            name: self._pinned[name][: math.prod(one)].reshape(one)
            for name, one in self._shapes(shape).items()
        }
        self._shape = shape

    def _copied(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """A batch in the lane's own pinned memory, as the engine takes it."""
        view = self._views[self._tensors.input]
        # What overflows in half precision is infinite there: no finite answer comes of it.
        with np.errstate(over="ignore"):
            np.copyto(view, batch, casting="same_kind")
        return view

    def _submit(self) -> None:
        """Run, download: given to the stream, not waited for."""
        self.enqueue()
        for name in self._tensors.outputs:
            self._cuda.download(self._views[name], self._addresses[name], self._stream)

    def _capture(self) -> None:
        """Make a graph of one run; what cannot be captured runs without, and says so."""
        try:
            self._capturing = True  # before it does: Ctrl-C may come in between
            self._cuda.begin_capture(self._stream)
            try:
                self._submit()
            finally:  # also where TensorRT refused: until then the stream takes nothing else
                graph = self._cuda.end_capture(self._stream, self._graph_kept)
        except (CudaFailure, InferenceFailed) as error:
            self.uncaptured = f"{str(error).splitlines()[0]}: {last_words(self._log)}"
            self._drop_graph()
        else:
            self._graph = graph
        self._capturing = False

    def _drop_graph(self) -> None:
        self._graph = None
        self._graph_kept.close()

    def _refusal(self, what: str) -> InferenceFailed:
        return InferenceFailed(
            f"TensorRT refuses {what}",
            found=last_words(self._log),
            fix="free GPU memory, or use smaller batches",
        )


@functools.cache
def kept_log(trt: Any) -> Any:
    """The module's `ILogger`, which keeps the last warnings and errors in `lines`.

    There is one, and it lives as long as the process: TensorRT writes to the logger that it was
    first given for as long as anything of anybody's lives.
    """

    class Log(trt.ILogger):  # type: ignore[misc] # a class of the module that was imported
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: deque[str] = deque(maxlen=_LINES)

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= _WARNING:
                self.lines.append(text[:_LINE])

    return Log()


def last_words(log: Any) -> str:
    """What TensorRT said last, for a message."""
    return "; ".join(list(log.lines)[-3:]) or "no reason given"
