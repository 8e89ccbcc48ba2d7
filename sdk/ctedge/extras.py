"""Optional packages: imported where they are used, and named by their extra when absent."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

from ctedge.errors import MissingExtra, RuntimeUnavailable
from ctedge.interrupts import interruptions_let_through, interrupts_deferred

#: What brings back what this distribution came with.
INSTALL_AGAIN = "pip install --force-reinstall ctedge"

#: What a package reads when it is first imported, and what to tell it. Else ONNX Runtime, from 1.29
#: on, writes into ~/.cache/Microsoft, and sends to Microsoft, an identifier of the machine, where
#: Python lies and the name of each network that is opened.
#: Source: Privacy.md within its package, which names the variable.
_SENDS_NOTHING = {"onnxruntime": ("ORT_DISABLE_TELEMETRY", "1")}

#: What imports Keras, which keeps its settings in the home folder; where that cannot be written, in
#: /tmp/.keras, which is anybody's: what others put there would decide how this user's networks
#: calculate. Source: `keras.src.backend.config`.
_KEEP_SETTINGS = ("keras", "tensorflow", "tf2onnx")

#: What to do where there is too little of either.
MORE_OF_BOTH = (
    "free memory, or allow more memory and threads (ulimit -v and -u; memory.max and pids.max of a"
    " container)"
)

#: The system's own words for it, and C++'s and Python's.
_WANTING = (
    "failed to map segment",
    "cannot allocate memory",
    "Cannot allocate memory",
    "std::bad_alloc",
    "pthread_create failed",
    "Resource temporarily unavailable",
    "can't start new thread",
)


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise MissingExtra with the one line that adds it.

    Args:
        module: dotted module name, for instance "pydicom".
        extra: the extra of this distribution that brings it, for instance "dicom".
        purpose: what it is needed for, as in "reading a DICOM folder".
    """
    with interruptions_let_through():
        try:
            return import_package(module)
        except Exception as error:  # also what a damaged package raises while it is imported
            raise MissingExtra(
                f"{purpose} needs the package {module.partition('.')[0]}",
                found=f"{type(error).__name__}: {error}",
                fix=short_of(error) or install_line(extra),
            ) from error


def import_package(module: str) -> ModuleType:
    """Import a module; Ctrl-C meanwhile is KeyboardInterrupt, once what was begun is imported.

    A package that would send something over the network, or keep its settings where others can put
    theirs, is told not to, by a variable of the environment, unless that was set before.

    Args:
        module: dotted module name.

    Raises:
        Exception: whatever an absent or a damaged package raises.
    """
    package = module.partition(".")[0]
    if package in _SENDS_NOTHING:
        os.environ.setdefault(*_SENDS_NOTHING[package])
    if package in _KEEP_SETTINGS and not _home_can_be_written():
        os.environ.setdefault("KERAS_HOME", os.devnull)  # a place that holds and takes no file
    with interrupts_deferred(), interruptions_let_through():
        return importlib.import_module(module)


def short_of(error: BaseException) -> str | None:
    """What to do where a package could not be imported for want of memory or threads; else None.

    A native module says so in the words of the system alone.
    """
    said = str(error)
    if isinstance(error, MemoryError) or any(words in said for words in _WANTING):
        return MORE_OF_BOTH
    return None


def not_loaded(package: str, found: object, *, otherwise: str, fix: str) -> RuntimeUnavailable:
    """What to raise for a runtime's package that is there, and cannot be loaded.

    Args:
        package: what it is called.
        found: what its import raised, or what is wrong with it.
        otherwise, fix: what happened and what to do, unless memory or threads were too few.
    """
    more = short_of(found) if isinstance(found, BaseException) else None
    if more is not None:
        otherwise = f"{package} cannot be loaded: too little memory, or too few threads"
    return RuntimeUnavailable(otherwise, found=found, fix=more or fix)


def _home_can_be_written() -> bool:
    try:
        return os.access(Path.home(), os.W_OK)
    except RuntimeError:  # neither HOME nor an account says where it is
        return False


def install_line(*extras: str) -> str:
    """The one command that adds these extras."""
    return f'pip install "ctedge[{",".join(extras)}]"'


def version_of(distribution: str) -> str | None:
    """The version of an installed distribution, or None."""
    import importlib.metadata  # a quarter of what numpy takes: not before a version is asked for

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
