"""The package openvino: imported without its converter, and the devices that it finds."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any

from ctedge.errors import RuntimeUnavailable
from ctedge.extras import MORE_OF_BOTH, import_package, install_line, not_loaded
from ctedge.runtimes.candidate import NVIDIA_IS_CUDA

#: What OpenVINO calls our devices.
DEVICES = {"cpu": "CPU", "gpu": "GPU"}

#: Imported with the package; it sends a message to Google Analytics and leaves an id in ~/intel.
_TELEMETRY = "openvino.tools.ovc"

_NO_GPU = (
    f"install Intel's GPU driver (OpenCL, Level Zero), or ask for the device cpu; {NVIDIA_IS_CUDA}"
)

_importing = threading.Lock()

#: By process, and package: a child does not use its parent's.
_cores: dict[tuple[int, int], Any] = {}


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


def openvino_core() -> Any:
    """What compiles networks: one of a process, which is never freed.

    OpenVINO gives the thread in which one first compiles for a CPU another stack for its signals,
    and takes that away with it. Of two that are not freed in reverse order, or in another thread, a
    stack stays that is none, and the next signal ends the process.

    Source: github.com/openvinotoolkit/openvino, SigAltStackSetup in the plug-in intel_cpu.

    Raises:
        RuntimeUnavailable: not installed, or not as a whole.
    """
    openvino = import_openvino()
    place = os.getpid(), id(openvino)
    if place not in _cores:
        made = openvino.Core()
        if _cores.setdefault(place, made) is made:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(made))
    return _cores[place]


def require_device(device: str) -> None:
    """Refuse a device that OpenVINO does not find here.

    Args:
        device: "cpu", or "gpu", an Intel GPU.

    Raises:
        RuntimeUnavailable: it does not find it, or is not installed, or not as a whole.
    """
    available = devices()
    if DEVICES[device] not in map(family, available):
        raise RuntimeUnavailable(
            f"OpenVINO does not find the device {device!r} here",
            found=", ".join(available) or "no device at all",
            expected=DEVICES[device],
            # Of a plug-in that lacks memory or threads OpenVINO says nothing.
            fix=_NO_GPU if device == "gpu" and available else MORE_OF_BOTH,
        )


def devices() -> tuple[str, ...]:
    """The devices that OpenVINO finds here: "CPU", "GPU".

    Raises:
        RuntimeUnavailable: not installed, or not as a whole.
    """
    try:
        return tuple(openvino_core().available_devices)
    except RuntimeUnavailable:
        raise
    except Exception as error:  # plugins that do not load
        raise _damaged(error) from error


def _damaged(found: object) -> RuntimeUnavailable:
    return not_loaded(
        "OpenVINO",
        found,
        otherwise="OpenVINO is installed in part, or damaged",
        fix=f"pip uninstall -y openvino; {install_line('openvino')}",
    )


def family(device: str) -> str:
    """The kind of a device: GPU, of GPU.1."""
    return device.partition(".")[0]
