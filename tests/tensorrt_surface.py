"""TensorRT's Python surface as the real bindings have it, written down in tensorrt_surface.json.

    python tests/tensorrt_surface.py

fetches the bindings of each version (as `test_tensorrt_surfaces` does, which says how), imports
them and writes the file: of the classes that running an engine takes, every method with its
arguments, every property and whether it can be set. `tensorrt_fake` is generated from it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from patience import PATIENCE_S

FILE = Path(__file__).with_suffix(".json")
CACHE = Path(__file__).parents[1] / ".pytest_cache" / "d" / "tensorrt-bindings"
RTX = "rtx-1.7"

CLASSES = ("Runtime", "ICudaEngine", "IExecutionContext", "IRuntimeConfig", "EngineInspector")
ENUMS = ("TensorIOMode", "DataType", "LayerInformationFormat", "CudaGraphStrategy")
ENUMS += ("DynamicShapesKernelSpecializationStrategy",)

#: What differs between releases of pybind11 and says nothing of TensorRT.
_SPELLINGS = (
    (r"\btensorrt\w*\.tensorrt\w*\.", ""),
    (r"\b(typing|typing_extensions|collections\.abc)\.", ""),
    (r"\bSupportsInt\b", "int"),
    (r"\bList\[", "Sequence["),
    (r"\blist\[", "Sequence["),
    (r"\bBuffer\b", "buffer"),
)


def read(module: str) -> dict[str, Any]:
    """The surface of a module that can be imported."""
    trt = importlib.import_module(module)
    severity = trt.ILogger.Severity.__members__
    return {
        "version": trt.__version__,
        "names": " ".join(sorted(name for name in dir(trt) if not name.startswith("_"))),
        "enums": {
            name: {key: int(value) for key, value in getattr(trt, name).__members__.items()}
            for name in ENUMS
            if hasattr(trt, name)
        }
        | {"Severity": {key: int(value) for key, value in severity.items()}},
        "classes": {name: _class(getattr(trt, name)) for name in CLASSES if hasattr(trt, name)},
    }


def _class(kind: type) -> dict[str, Any]:
    found = {name: inspect.getattr_static(kind, name) for name in vars(kind)}
    public = {name: value for name, value in sorted(found.items()) if not name.startswith("_")}
    properties = {name: one for name, one in public.items() if isinstance(one, property)}
    return {
        "read": " ".join(name for name, one in properties.items() if one.fset is None),
        "written": " ".join(name for name, one in properties.items() if one.fset is not None),
        "methods": {
            name: _arguments(name, value.__doc__ or "")
            for name, value in public.items()
            if name not in properties
        },
    }


def _arguments(name: str, text: str) -> list[str]:
    """The arguments of each overload: "name: str, memory: int"; defaults are only "= ..."."""
    found = re.findall(rf"^(?:\d+\. )?{name}\(self: [\w.]+(?:, )?(.*)\) -> ", text, re.MULTILINE)
    for pattern, instead in _SPELLINGS:
        found = [re.sub(pattern, instead, one) for one in found]
    return [re.sub(r" = [^,]+", " = ...", one) for one in found]


def read_elsewhere(module: str, folder: Path | None = None) -> dict[str, Any]:
    """The surface of a module, imported by another process; from `folder` where one is given."""
    command = [sys.executable, "-W", "error", __file__, module, str(folder or "")]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def main() -> None:
    from test_tensorrt_surfaces import WHEELS, bindings

    compiler = shutil.which("cc") or "gcc"
    found = {
        name: read_elsewhere("tensorrt_bindings", bindings(name, compiler, CACHE))
        for name in WHEELS
    }
    found[RTX] = read_elsewhere("tensorrt_rtx")
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.path[:0] = [sys.argv[2]] if sys.argv[2] else []
        sys.stdout.write(json.dumps(read(sys.argv[1])))
    else:
        main()
