"""Which versions of each runtime's library ctedge runs on: asked before anything of it is imported.

A library of another major version may do other things under the same names, or take the process
down while it is imported. What no package manager installed has no version here, and is let pass.
"""

from __future__ import annotations

import re

from ctedge.errors import RuntimeUnavailable
from ctedge.extras import version_of

#: By distribution: the oldest that ctedge is made for, and the first major version that nobody has
#: tried. The extras of pyproject.toml take the same; only of TensorRT, whose oldest wheels need an
#: old Python, nothing before 10.3. OpenVINO's major version is the year.
VERSIONS = {
    "onnxruntime": ("1.23", "2"),
    "onnxruntime-gpu": ("1.23", "2"),
    "openvino": ("2025.0", "2027"),
    "tensorrt": ("8.5", "12"),
    "tensorrt-rtx-cu13": ("1.7", "2"),
}

#: Which distributions may bring a runtime.
DISTRIBUTIONS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt",),
    "tensorrt-rtx": ("tensorrt-rtx-cu13",),
}


def require_version(runtime: str) -> None:
    """Refuse a runtime whose library is older or newer than what ctedge runs on.

    Raises:
        RuntimeUnavailable: it is; the message names both, and the line that installs another.
    """
    for distribution in DISTRIBUTIONS[runtime]:
        error = misfit(distribution)
        if error is not None:
            raise error


def misfit(distribution: str) -> RuntimeUnavailable | None:
    """What is wrong with the version of a runtime's distribution; None where nothing is."""
    if distribution not in VERSIONS:
        return None
    found = version_of(distribution)
    oldest, below = VERSIONS[distribution]
    if found is None or _numbers(oldest) <= _numbers(found) < _numbers(below):
        return None
    return RuntimeUnavailable(
        f"ctedge does not run on this version of {distribution}",
        found=f"{distribution} {found}",
        expected=f"{oldest} or newer, below {below}",
        fix=f'pip install "{distribution}>={oldest},<{below}"',
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The release of "1.24.0.dev1+cu12", (1, 24, 0), zeros at its end left out."""
    release = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
