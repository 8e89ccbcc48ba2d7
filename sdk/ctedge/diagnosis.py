"""What works on this machine, and the line that mends what does not."""

from __future__ import annotations

import ctypes
import platform
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ctedge.bundle import ModelBundle
from ctedge.bundle_files import shipped_bundles
from ctedge.errors import CTEdgeError
from ctedge.extras import install_line, version_of
from ctedge.verification import check_golden

#: Distributions worth knowing about: what they are for, and the extra that brings them.
PACKAGES = (
    ("numpy", "preprocessing", None),
    ("nibabel", "NIfTI", None),
    ("pydicom", "DICOM", "dicom"),
    ("imagecodecs", "compressed DICOM", "dicom"),
    ("pillow", "pictures of slices", "pictures"),
    ("onnxruntime", "inference on the CPU", "cpu"),
    ("onnxruntime-gpu", "inference on an NVIDIA GPU", "gpu"),
    ("openvino", "a runtime to come", "openvino"),
    ("tensorrt", "a runtime to come", "tensorrt"),
    ("tf2onnx", "export to ONNX", "export"),
    ("onnx", "export to ONNX", "export"),
    ("keras", "training", "training"),
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what.
        state: "ok", "missing" (optional, and not there) or "broken".
        detail: what was found.
        fix: the line that adds or mends it, or None.
    """

    subject: str
    state: Literal["ok", "missing", "broken"]
    detail: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine() -> list[Finding]:
    """Look at Python, the packages, the driver, and run the shipped models on golden inputs."""
    return [_python(), *_packages(), _driver(), *map(_bundle, shipped_bundles())]


def _python() -> Finding:
    from ctedge.runtimes.onnx_runtime import usable_cpus

    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(subject="Python", state="ok", detail=f"{detail}, {usable_cpus()} CPUs usable")


def _packages() -> list[Finding]:
    from ctedge.runtimes.onnx_runtime import DISTRIBUTIONS, installed_distributions

    found = installed_distributions()
    findings = []
    for name, purpose, extra in PACKAGES:
        version = version_of(name)
        if version is not None:
            findings.append(Finding(subject=name, state="ok", detail=f"{version}, for {purpose}"))
        else:
            findings.append(
                Finding(
                    subject=name,
                    state="missing",
                    detail=f"not installed, for {purpose}",
                    fix=_line_that_adds(name, extra, found),
                )
            )
    if len(found) != 1:
        both = "two distributions overwrite each other's files" if found else "none is installed"
        findings.append(
            Finding(
                subject="ONNX Runtime",
                state="broken",
                detail=both,
                fix=(f"pip uninstall -y {' '.join(DISTRIBUTIONS)}; " if found else "")
                + install_line("cpu"),
            )
        )
    return findings


def _line_that_adds(name: str, extra: str | None, runtimes: dict[str, str]) -> str:
    """The command for a missing package; one ONNX Runtime has to make room for the other."""
    from ctedge.runtimes.onnx_runtime import DISTRIBUTIONS

    if extra is None:
        return "pip install ctedge"
    in_the_way = runtimes if name in DISTRIBUTIONS else {}
    return "".join(f"pip uninstall -y {other}; " for other in in_the_way) + install_line(extra)


def _driver() -> Finding:
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return Finding(subject="NVIDIA driver", state="missing", detail=f"no {library}; CPU only")
    return Finding(subject="NVIDIA driver", state="ok", detail=f"{library} loads")


def _bundle(name: str) -> Finding:
    """Verify a shipped bundle and run its golden cases."""
    from ctedge.runtimes import open_runtime

    subject = f"model {name}"
    try:
        bundle = ModelBundle.load(name)
        runtime = open_runtime(bundle)
        try:
            cases, largest = check_golden(bundle, runtime)
        finally:
            runtime.close()
    except CTEdgeError as error:
        return Finding(subject=subject, state="broken", detail=error.what, fix=error.fix)
    answers = f"{cases} golden cases answered on {runtime.name} within {largest:.1g}"
    return Finding(subject=subject, state="ok", detail=f"digests hold, {answers}")
