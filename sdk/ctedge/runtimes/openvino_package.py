"""The package openvino: imported without its converter, and the devices that it finds."""

from __future__ import annotations

import sys
import threading
from typing import Any

from ctedge.errors import RuntimeUnavailable
from ctedge.extras import import_package, install_line
from ctedge.runtimes.candidate import NVIDIA_IS_CUDA

#: What OpenVINO calls our devices.
DEVICES = {"cpu": "CPU", "gpu": "GPU"}

#: Imported with the package; it sends a message to Google Analytics and leaves an id in ~/intel.
_TELEMETRY = "openvino.tools.ovc"

_importing = threading.Lock()


def import_openvino() -> Any:
    """The package, without its converter, whose import sends a message over the network.

    `import openvino.tools.ovc` still works afterwards, for whoever wants the converter; a package
    that was imported before is taken as it is.

    Raises:
        RuntimeUnavailable: not installed, or not as a whole.
    """
    with _importing:
        held_back = _TELEMETRY not in sys.modules
        if held_back:
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
        try:
            openvino = import_package("openvino")
        except ModuleNotFoundError as error:
            if error.name != "openvino":
                raise _damaged(error) from error
            raise RuntimeUnavailable(
                "OpenVINO is not installed", found=error, fix=install_line("openvino")
            ) from error
        except Exception as error:  # a shared library that does not load, a file that is broken
            raise _damaged(error) from error
        finally:
            if held_back:
                sys.modules.pop(_TELEMETRY, None)
        if not hasattr(openvino, "Core"):
            raise _damaged("a package without content")
        # Two threads that ask for an array's type, both for the first time, wait for each other for
        # ever: one holds Python's lock, and the other what it waits for.
        openvino.Type.f32.to_dtype()
    return openvino


def require_device(device: str, *, core: Any = None) -> None:
    """Refuse a device that OpenVINO does not find here.

    Args:
        device: "cpu", or "gpu", an Intel GPU.
        core: where to look; None means a new one.

    Raises:
        RuntimeUnavailable: it does not find it, or is not installed, or not as a whole.
    """
    available = devices() if core is None else tuple(core.available_devices)
    if DEVICES[device] not in map(family, available):
        raise RuntimeUnavailable(
            f"OpenVINO does not find the device {device!r} here",
            found=", ".join(available),
            expected=DEVICES[device],
            fix="install Intel's GPU driver (OpenCL, Level Zero), or ask for the device cpu;"
            f" {NVIDIA_IS_CUDA}",
        )


def devices() -> tuple[str, ...]:
    """The devices that OpenVINO finds here: "CPU", "GPU".

    Raises:
        RuntimeUnavailable: not installed, or not as a whole.
    """
    try:
        return tuple(import_openvino().Core().available_devices)
    except RuntimeUnavailable:
        raise
    except Exception as error:  # plugins that do not load
        raise _damaged(error) from error


def _damaged(found: object) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        "OpenVINO is installed in part, or damaged",
        found=found,
        fix=f"pip uninstall -y openvino; {install_line('openvino')}",
    )


def family(device: str) -> str:
    """The kind of a device: GPU, of GPU.1."""
    return device.partition(".")[0]
