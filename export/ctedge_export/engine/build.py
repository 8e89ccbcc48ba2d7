"""One build path for every TensorRT: ONNX bytes in, a serialised engine out.

Precision is in the ONNX file. A strongly typed builder keeps to it; a weakly typed one (8.5, 8.6)
gets the same file and the flag that lets it.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from ctedge.engines.record import Layers, Target
from ctedge.errors import BuildFailed, InvalidBundle, OutputError
from ctedge.lifetime import forget_frames
from ctedge_export.engine.flavours import Flavour
from ctedge_export.engine.log import build_error, log_of_build
from ctedge_export.engine.progress import Unwatched, Watcher, monitor
from ctedge_export.engine.settings import Settings
from ctedge_export.engine.tactics import allow_what_opens
from ctedge_export.engine.typed_network import layers_of, require_share

#: Flags of weakly typed builders that let them use a precision the graph asks for.
_PERMITS = {"fp16": ("FP16",), "int8": ("INT8", "FP16")}

_WAKE_S = 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class Built:
    """A serialised engine, and what is known of it.

    Attributes:
        plan: the engine's bytes.
        layers: in which precision they work.
        input_name, input_shape: of the input, without the batch axis.
        outputs: names, in order.
        settings: what the builder was told, as JSON values.
        timings: the timing cache afterwards; None where nothing is timed.
    """

    plan: bytes
    layers: Layers
    input_name: str
    input_shape: tuple[int, ...]
    outputs: tuple[str, ...]
    settings: Mapping[str, Any]
    timings: bytes | None


def build_plan(  # noqa: PLR0913 (keyword-only options)
    flavour: Flavour,
    onnx_bytes: bytes,
    *,
    precision: str,
    settings: Settings,
    target: Target,
    timings: bytes = b"",
    kept_float: Collection[str] = (),
    bundle: str = "BUNDLE",
    watcher: Watcher | None = None,
) -> Built:
    """Build an engine. Ctrl-C ends it at the builder's next step. Builds of one process take turns.

    Args:
        flavour: the TensorRT that builds.
        onnx_bytes: the ONNX file, whose digest and operators were checked.
        precision: what most of its convolutions must work in.
        settings: the builder's options.
        target: what the engine is to run on, as `choose_target` says.
        timings: the timing cache of earlier builds; empty starts a new one.
        kept_float: convolutions that the file keeps in float.
        bundle: what names the file's bundle on a command line.
        watcher: told of the progress.

    Raises:
        BuildFailed: too little memory, an operation or target that TensorRT lacks.
        RuntimeUnavailable: the builder needs a GPU or a driver that is not there.
        OutputError: the timings are none that this TensorRT takes; nothing is built.
        GateFailed: fewer than 95 % of the convolutions work in the precision; nothing is built.
        KeyboardInterrupt: Ctrl-C; the builder has ended.
    """
    with log_of_build(flavour.trt) as log, _natives(flavour, log) as natives:
        layers = _parse(natives, onnx_bytes, strongly_typed=flavour.strongly_typed)
        require_share(layers, precision, kept_float=kept_float, bundle=bundle)
        recorded = _configure(flavour, natives, precision, settings=settings, target=target)
        name, shape = _profile(natives, settings.max_batch)
        if not flavour.ahead_of_time:
            _take_timings(natives, timings, log)
        plan = _run(flavour, natives, watcher or Unwatched())
        if plan is None:
            raise build_error(log.lines, workspace_bytes=settings.workspace_bytes)
        return Built(
            plan=plan,
            layers=layers,
            input_name=name,
            input_shape=shape,
            outputs=natives.outputs(),
            settings=recorded,
            timings=None if flavour.ahead_of_time else natives.timings(),
        )


class _Natives:
    """TensorRT's objects of one build. Nobody else holds one for longer than a call.

    They are released by `close`, in this order: an error that somebody keeps holds the frames it
    came through, and what those held would be freed by a garbage collection, anywhere: inside the
    native code of the next build, for one.
    """

    def __init__(self) -> None:
        self.builder: Any = None
        self.network: Any = None
        self.parser: Any = None
        self.config: Any = None
        self.monitor: Any = None

    def close(self) -> None:
        """Release what there is. The parser holds the network's weights, and outlives it."""
        for name in ("config", "monitor", "network", "parser", "builder"):
            setattr(self, name, None)

    def plan(self) -> bytes | None:
        """Build."""
        builder = self.builder
        plan = builder.build_serialized_network(self.network, self.config)
        return None if plan is None else bytes(plan)

    def outputs(self) -> tuple[str, ...]:
        """The names of the network's outputs, in order."""
        network = self.network
        count = network.num_outputs
        return tuple(str(network.get_output(index).name) for index in range(count))

    def timings(self) -> bytes | None:
        """The timing cache after the build."""
        config = self.config
        timings = config.get_timing_cache()
        return None if timings is None else bytes(timings.serialize())


@contextlib.contextmanager
def _natives(flavour: Flavour, log: Any) -> Iterator[_Natives]:
    """A builder with what belongs to one build; released at the end, however that comes."""
    natives = _Natives()
    try:
        _open(natives, flavour, log)
        yield natives
    except BaseException as error:
        forget_frames(error)  # what a call had in its hand
        raise
    finally:
        natives.close()


def _open(natives: _Natives, flavour: Flavour, log: Any) -> None:
    trt = flavour.trt
    try:
        natives.builder = builder = trt.Builder(log)
    except Exception as error:  # pybind11 raises TypeError and RuntimeError of its own
        log.lines.append((1, str(error)))
        raise build_error(log.lines, workspace_bytes=None) from error
    natives.network = builder.create_network(flavour.network_flags)
    natives.parser = trt.OnnxParser(natives.network, log)
    natives.config = builder.create_builder_config()


def _parse(natives: _Natives, onnx_bytes: bytes, *, strongly_typed: bool) -> Layers:
    """Fill the network; the precision of its layers."""
    parser, network = natives.parser, natives.network
    if not parser.parse(onnx_bytes) or not network.num_layers:
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise BuildFailed(
            "TensorRT does not take the ONNX file",
            found="; ".join(errors)[:1000] or "no reason given",
            fix="export the bundle again with the versions of the `export` extra",
        )
    return layers_of(network, strongly_typed=strongly_typed)


def _configure(
    flavour: Flavour, natives: _Natives, precision: str, *, settings: Settings, target: Target
) -> dict[str, Any]:
    """Set what was asked for; what was set, as JSON values."""
    trt, config = flavour.trt, natives.config
    # TF32 rounds products to 10 bits; what is called fp32 must be fp32.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    permits = () if flavour.strongly_typed else _PERMITS.get(precision, ())
    for permit in permits:
        config.set_flag(getattr(trt.BuilderFlag, permit))
    if settings.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    if settings.optimization_level is not None:
        config.builder_optimization_level = settings.optimization_level
    if settings.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if settings.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if flavour.ahead_of_time and not target.or_newer:
        config.num_compute_capabilities = len(target.compute_capabilities)
        for index, capability in enumerate(target.compute_capabilities):
            member = trt.ComputeCapability.__members__[f"SM{capability.replace('.', '')}"]
            config.set_compute_capability(member, index)
    offers_level = hasattr(config, "builder_optimization_level")
    return {
        "strongly_typed": flavour.strongly_typed,
        "tf32": False,
        "permits": list(permits),
        "tactic_sources": allow_what_opens(trt, config),
        "workspace_bytes": settings.workspace_bytes,
        "optimization_level": config.builder_optimization_level if offers_level else None,
        "version_compatible": settings.version_compatible,
        "hardware_compatible": settings.hardware_compatible,
        "explain": settings.explain,
    }


def _profile(natives: _Natives, max_batch: int) -> tuple[str, tuple[int, ...]]:
    """Tell the builder which batches to expect; the input's name, and shape without that axis."""
    builder, network, config = natives.builder, natives.network, natives.config
    if network.num_inputs != 1:
        raise InvalidBundle(
            "the ONNX file has several inputs", found=network.num_inputs, expected=1
        )
    tensor = network.get_input(0)
    batch, *shape = tuple(tensor.shape)
    if batch != -1 or min(shape) < 1:
        raise InvalidBundle(
            "the ONNX file's input has no dynamic batch axis, or another dynamic one",
            found=tuple(tensor.shape),
            expected="-1 first, and sizes after it",
            fix="export the bundle again with `ctedge export onnx`",
        )
    profile = builder.create_optimization_profile()
    profile.set_shape(tensor.name, (1, *shape), (max_batch, *shape), (max_batch, *shape))
    config.add_optimization_profile(profile)
    return str(tensor.name), tuple(int(size) for size in shape)


def _run(flavour: Flavour, natives: _Natives, watcher: Watcher) -> bytes | None:
    """Build in a thread of its own, so that Ctrl-C reaches this one and not the native code.

    The builder works on what the callers hold, so nobody leaves before it has ended, however often
    Ctrl-C is pressed: for that time it only asks the builder to stop.
    """
    trt, config = flavour.trt, natives.config
    stop = threading.Event()
    if hasattr(trt, "IProgressMonitor"):
        config.progress_monitor = natives.monitor = monitor(trt, watcher, stop)
    with _asked_to_stop(stop), ThreadPoolExecutor(1, "build-engine") as pool:
        future: Future[bytes | None] = pool.submit(natives.plan)
        while not future.done():  # woken now and then: any thread may get the signal
            wait([future], timeout=_WAKE_S)
    if stop.is_set():
        raise KeyboardInterrupt
    return future.result()


@contextlib.contextmanager
def _asked_to_stop(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `stop` instead of raising. Only the main thread ever gets it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _take_timings(natives: _Natives, timings: bytes, log: Any) -> None:
    """Give the builder the timings of earlier builds.

    What is no timing cache, or another GPU's, is left out by TensorRT with a warning, and an empty
    one is used: written back, that would replace a file that was never ours.
    """
    before = len(log.lines)
    config = natives.config
    cache = config.create_timing_cache(timings)
    taken = cache is not None and config.set_timing_cache(cache, False) is not False
    said = [text for _, text in log.lines[before:]]
    if timings and (not taken or any("timing cache" in text.lower() for text in said)):
        raise OutputError(
            "the timing cache is none that this TensorRT takes on this GPU",
            found="; ".join(said[-2:]) or f"{len(timings)} bytes that it does not read",
            expected="what an earlier build on this GPU with this TensorRT wrote",
            fix="name another file with --timing-cache, or remove this one; it was left as it is",
        )
