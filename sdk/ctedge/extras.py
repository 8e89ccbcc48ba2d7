"""Optional packages: imported where they are used, and named by their extra when absent."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

from ctedge.errors import MissingExtra

#: What brings back what this distribution came with.
INSTALL_AGAIN = "pip install --force-reinstall ctedge"


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise MissingExtra with the one line that adds it.

    Args:
        module: dotted module name, for instance "pydicom".
        extra: the extra of this distribution that brings it, for instance "dicom".
        purpose: what it is needed for, as in "reading a DICOM folder".
    """
    try:
        return import_package(module)
    except Exception as error:  # also what a damaged package raises while it is imported
        raise MissingExtra(
            f"{purpose} needs the package {module.partition('.')[0]}",
            found=f"{type(error).__name__}: {error}",
            fix=install_line(extra),
        ) from error


def import_package(module: str) -> ModuleType:
    """Import a module; Ctrl-C meanwhile is KeyboardInterrupt, also where native code is loaded.

    Args:
        module: dotted module name.

    Raises:
        Exception: whatever an absent or a damaged package raises.
    """
    with interruptions_let_through():
        return importlib.import_module(module)


@contextlib.contextmanager
def interruptions_let_through() -> Iterator[None]:
    """Raise the KeyboardInterrupt or SystemExit that a failure within the block was made of.

    A native module whose initialisation is interrupted raises ImportError("initialization failed"),
    as if it were damaged; what interrupted it is the cause of that error.

    Source: github.com/pybind/pybind11, PYBIND11_CATCH_INIT_EXCEPTIONS in detail/common.h.
    """
    outside = sys.exc_info()[1]  # what the caller is handling already: older than the block
    try:
        yield
    except Exception as error:
        interruption = _interruption(error, outside)
        if interruption is None:
            raise
    else:
        return
    raise interruption


def _interruption(error: BaseException, outside: BaseException | None) -> BaseException | None:
    """What is no Exception among the causes of an error; None where there is none."""
    seen = {id(outside)}
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is None or id(link) in seen:
            continue
        if not isinstance(link, Exception):
            return link
        seen.add(id(link))
        links += [link.__context__, link.__cause__]
    return None


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
