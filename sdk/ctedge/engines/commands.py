"""The commands that mend an engine, whole: what a message prints can be run as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from ctedge.bundle.files import argument_of, shipped_bundles
from ctedge.bundle.manifest import ENGINES_NAME
from ctedge.engines.record import ENGINE_PRECISIONS, RUNTIMES, EngineRecord, EngineRuntime

#: What the builder takes when nothing is said: TensorRT's own.
_OPTIMIZATION_LEVEL = 3

_MIB = 1 << 20
_TARGET = re.compile(r"portable|sm\d{2,3}(-sm\d{2,3})*")
#: A version follows the runtime: "tensorrt" is not "tensorrt-rtx".
_NAMED = re.compile(rf"({'|'.join(ENGINE_PRECISIONS)})-({'|'.join(RUNTIMES)})-\d")


def bundle_of(engine: Path, name: str | None = None) -> str:
    """The bundle of an engine, as a command line names it.

    Args:
        engine: its file; in a bundle's `engines/` that bundle is meant.
        name: of the bundle it was built from, where it lies elsewhere and that is known.
    """
    path = engine if engine.parent.name else engine.absolute()
    if path.parent.name == ENGINES_NAME:
        return argument_of(path.parent.parent)
    if name is None:
        return "BUNDLE"
    return name if name in shipped_bundles() else shlex.quote(f"{name}.ctedge")


def rebuild(  # noqa: PLR0913 (keyword-only options)
    record: EngineRecord,
    bundle: str,
    *,
    precision: str | None = None,
    runtime: EngineRuntime | None = None,
    max_batch: int | None = None,
    same_gpu: bool = True,
    output: Path | None = None,
) -> str:
    """The command that builds an engine again as its record says it was built.

    Args:
        record: the engine's.
        bundle: what names its bundle on a command line.
        precision, runtime, max_batch: what is wanted instead of the record's.
        same_gpu: false where it is wanted for another GPU than it was built for.
        output: where it lies, unless that is its own name in the bundle.
    """
    told = record.builder
    same_runtime = runtime in (None, record.runtime)
    parts = [f"--precision {precision or record.precision}"]
    parts += [f"--runtime {runtime or record.runtime}"]
    batch = max_batch or record.max_batch
    if batch > 1:
        parts.append(f"--max-batch {batch}")
    ahead = same_runtime and same_gpu and record.runtime == "tensorrt-rtx"
    if ahead and _TARGET.fullmatch(record.target.name):
        parts.append(f"--target {record.target.name.replace('-', ',')}")
    if told.get("explain") is True:
        parts.append("--explain")
    workspace = told.get("workspace_bytes")
    if type(workspace) is int and workspace >= _MIB:
        parts.append(f"--workspace {workspace // _MIB}")
    level = told.get("optimization_level")
    if type(level) is int and 0 <= level <= 5 and level != _OPTIMIZATION_LEVEL:
        parts.append(f"--optimization-level {level}")
    if same_runtime and told.get("version_compatible") is True:
        parts.append("--version-compatible")
    if same_runtime and same_gpu and told.get("hardware_compatible") is True:
        parts.append("--hardware-compatible")
    if output is not None:
        parts.append(f"--output {shlex.quote(str(output))}")
    return f"ctedge export build-engine {bundle} {' '.join(parts)} --overwrite"


def rebuild_by_name(engine: Path) -> str:
    """The same of an engine whose record is gone: its file's name is all that is known."""
    precision, runtime = told_by_name(engine)
    named = f" --precision {precision} --runtime {runtime}" if precision else ""
    return f"ctedge export build-engine {bundle_of(engine)}{named} --overwrite"


def told_by_name(engine: Path) -> tuple[str | None, str | None]:
    """Precision and runtime, as an engine's file name begins with them; None where it does not."""
    match = _NAMED.match(engine.name)
    return (match[1], match[2]) if match else (None, None)
