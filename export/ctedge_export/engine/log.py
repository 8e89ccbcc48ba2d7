"""What a builder says, kept; and what its complaints mean, in words that say what to do."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from typing import Any

from ctedge.errors import BuildFailed, CTEdgeError, RuntimeUnavailable

#: Of ILogger.Severity: internal error, error, warning. The rest is kept by nobody.
_WARNING = 2
_MOST_LINES = 200
_LINE = 500

_MEMORY = re.compile(
    r"could not find any implementation|no tactics to implement the operation within workspace"
    r"|out of memory|outofmemory|insufficient memory|insufficient workspace|bad_alloc"
    r"|cudaError 2\b",
    re.IGNORECASE,
)
_TURING = re.compile(r"for Turing \(SM75\)")
_DRIVER = re.compile(r"driver version is insufficient|no CUDA-capable device|cudaError (35|100)\b")
_LEAN = re.compile(r"unable to load library: (\S*lean\S*):", re.IGNORECASE)
_TARGET = re.compile(
    r"unsupported (SM|compute capability)|compute capability .* not supported", re.I
)


#: The logger of each TensorRT module, by the module's id; with the module, so that this stays its.
_LOGS: dict[int, tuple[Any, Any]] = {}
_ONE_MAKES = threading.Lock()


def captured_log(trt: Any) -> Any:
    """The module's `ILogger`: it keeps warnings and errors in `lines`, as (severity, text).

    There is one, and it lives as long as the process: TensorRT writes to the logger that it was
    first given for as long as a builder of anybody's lives.
    """
    with _ONE_MAKES:
        if id(trt) not in _LOGS:
            _LOGS[id(trt)] = (trt, _new_log(trt))
        return _LOGS[id(trt)][1]


def _new_log(trt: Any) -> Any:
    class Log(trt.ILogger):  # type: ignore[misc] # a class of the module that was imported
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[int, str]] = []
            self.turn = threading.Lock()

        def log(self, severity: Any, text: str) -> None:
            if int(severity) <= _WARNING and len(self.lines) < _MOST_LINES:
                self.lines.append((int(severity), text[:_LINE]))

    return Log()


@contextlib.contextmanager
def log_of_build(trt: Any) -> Iterator[Any]:
    """The module's logger, whose `lines` are those of the build within; builds take turns.

    Two at once could not be told apart in the one log, and would spoil each other's timings.
    """
    log = captured_log(trt)
    with log.turn:
        log.lines = []
        yield log


def build_error(lines: list[tuple[int, str]], *, workspace_bytes: int | None) -> CTEdgeError:
    """The error that these lines of a builder mean.

    Args:
        lines: severity and text, as `captured_log` keeps them.
        workspace_bytes: the limit that was set; None means all of the GPU's memory.
    """
    errors = [text for severity, text in lines if severity < _WARNING]
    said = "; ".join(errors[-3:]) or "; ".join(text for _, text in lines[-3:]) or "nothing"
    everything = "\n".join(text for _, text in lines)
    if _DRIVER.search(everything):
        return RuntimeUnavailable(
            "TensorRT asked for a GPU and its driver",
            found=said,
            fix="build on the machine that shall run the engine, or name a --target",
        )
    if _TURING.search(everything):
        return BuildFailed(
            "TensorRT-RTX cannot build this model for Turing (compute capability 7.5):"
            " it has no FP32 convolution or matrix product there",
            found=said,
            expected="a model in half precision throughout, or a GPU from 8.0 on",
            fix="on that GPU build with --runtime tensorrt",
        )
    if lean := _LEAN.search(everything):
        return BuildFailed(
            "a version-compatible engine carries a lean runtime, which is not installed",
            found=said,
            expected=lean.group(1),
            fix="leave --version-compatible out, or install TensorRT's lean runtime",
        )
    if _TARGET.search(everything):
        return BuildFailed(
            "this TensorRT does not build for that GPU",
            found=said,
            fix="name another --target, or use the TensorRT that this GPU is served by",
        )
    if _MEMORY.search(everything):
        return _too_little_memory(said, workspace_bytes)
    return BuildFailed(
        "TensorRT built no engine", found=said, fix="report this with the versions `doctor` shows"
    )


def _too_little_memory(said: str, workspace_bytes: int | None) -> BuildFailed:
    limit = "all of the GPU's memory"
    fix = "free GPU memory (nvidia-smi shows who has it), or lower --max-batch"
    if workspace_bytes is not None:
        limit = f"--workspace {workspace_bytes / (1 << 20):g} (MiB)"
        fix = f"raise --workspace or leave it out; then {fix}"
    return BuildFailed(
        "too little memory to build the engine: no way to compute a layer fits in it",
        found=said,
        expected=f"scratch memory for every layer within {limit}",
        fix=fix,
    )
