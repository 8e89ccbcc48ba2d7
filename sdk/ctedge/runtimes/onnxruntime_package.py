"""The package onnxruntime: imported so that it sends nothing, and who brought it."""

from __future__ import annotations

from typing import Any

from ctedge.errors import RuntimeUnavailable
from ctedge.extras import import_package, install_line, not_loaded, version_of
from ctedge.runtimes.versions import DISTRIBUTIONS

#: Two distributions that install the same files over each other; pip does not object.
_BOTH = DISTRIBUTIONS["onnxruntime"]

_EXTRAS = {"cpu": "cpu", "cuda": "gpu"}


def import_onnxruntime(device: str) -> Any:
    """The package, which sends nothing: see `import_package`.

    Where it was imported before, it sends nothing more.

    Args:
        device: "cpu" or "cuda"; which distribution is advised where there is none.

    Raises:
        RuntimeUnavailable: not installed, or not as a whole, or twice.
    """
    found = installed_distributions()
    if len(found) > 1:
        raise RuntimeUnavailable(
            "both ONNX Runtime distributions are installed; they overwrite each other's files",
            found=", ".join(f"{name} {version}" for name, version in found.items()),
            expected="one of them",
            fix=f"{_TAKE_AWAY}; {install_from(device)}",
        )
    try:
        onnxruntime = import_package("onnxruntime")
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise RuntimeUnavailable(
                "ONNX Runtime is not installed", found=error, fix=install_from(device)
            ) from error
        raise _damaged(error, device) from error  # a shared library that does not load
    if not hasattr(onnxruntime, "InferenceSession"):
        raise _damaged("a package without content", device)
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def installed_distributions() -> dict[str, str]:
    """Which ONNX Runtime distributions are installed, with their versions."""
    versions = {name: version_of(name) for name in _BOTH}
    return {name: version for name, version in versions.items() if version is not None}


def install_from(device: str) -> str:
    """The command that installs the distribution for a device, "cpu" or "cuda"."""
    return install_line(_EXTRAS[device])


_TAKE_AWAY = f"pip uninstall -y {' '.join(_BOTH)}"


def _damaged(found: object, device: str) -> RuntimeUnavailable:
    return not_loaded(
        "ONNX Runtime",
        found,
        otherwise="ONNX Runtime is installed in part; uninstalling one of two distributions leaves"
        " that",
        fix=f"{_TAKE_AWAY}; {install_from(device)}",
    )
