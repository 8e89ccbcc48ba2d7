"""What works on this machine, and the line that mends what does not."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ctedge.bundle.files import shipped_bundles
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import BundleError, CTEdgeError, RuntimeUnavailable, counted
from ctedge.extras import INSTALL_AGAIN, MORE_OF_BOTH, install_line, version_of

if TYPE_CHECKING:
    from ctedge.runtimes.choice import Verdict

#: Distributions worth knowing about: what they are for, and the extra that brings them.
PACKAGES = (
    ("numpy", "preprocessing", None),
    ("nibabel", "NIfTI", None),
    ("isal", "compressed NIfTI", None),
    ("pydicom", "DICOM", "dicom"),
    ("imagecodecs", "compressed DICOM", "dicom"),
    ("dicom-anonymizer", "de-identification of DICOM", "deidentify"),
    ("pillow", "pictures of slices", "pictures"),
    ("scipy", "lungs and their quality", "lungs"),
    ("lungmask", "lungs by a trained network", "lungmask"),
    ("ray", "many scans in processes, `ctedge batch`", "ray"),
    ("pyarrow", "tables of answers, `ctedge batch`", "ray"),
    ("onnxruntime", "inference on the CPU", "cpu"),
    ("onnxruntime-gpu", "inference on an NVIDIA GPU", "gpu"),
    ("tf2onnx", "export to ONNX", "export"),
    ("onnx", "export to ONNX", "export"),
    ("keras", "training", "training"),
    ("h5py", "data sets in one file", "training"),
    ("matplotlib", "pictures of a training", "training"),
    ("scikit-learn", "figures of a training", "training"),
    ("dask", "training on a cluster", "cluster"),
    ("distributed", "training on a cluster", "cluster"),
)

#: What of them is imported, to see whether it can be: what a prediction may need, none of it slow.
IMPORTED = {
    "nibabel": "nibabel",
    "isal": "isal.isal_zlib",
    "pydicom": "pydicom",
    "imagecodecs": "imagecodecs",
    "dicom-anonymizer": "dicomanonymizer",
    "pillow": "PIL.Image",
    "scipy": "scipy.ndimage",
    "pyarrow": "pyarrow",
}

State = Literal["ok", "missing", "broken"]


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
    state: State
    detail: str
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def examine(bundles: Sequence[str | os.PathLike[str]] | None = None) -> list[Finding]:
    """Look at Python, packages, runtimes, the driver, and what models run on.

    Args:
        bundles: folders NAME.ctedge or names of shipped models; None means all shipped ones.
    """
    names = shipped_bundles() if bundles is None else bundles
    models = [_bundle(os.fspath(name)) for name in names] or [[_NO_MODELS]]
    return [
        _python(),
        *_packages(),
        *_onnxruntime(needed=any(first.state != "ok" for first, *_ in models)),
        _openvino(),
        *_tensorrt(),
        _driver(),
        *(finding for findings in models for finding in findings),
    ]


def _python() -> Finding:
    from ctedge.cpus import usable_cpus

    usable = f"{counted(usable_cpus(), 'CPU')} usable"
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(subject="Python", state="ok", detail=f"{detail}, {usable}")


def _packages() -> list[Finding]:
    from ctedge.runtimes.onnxruntime_package import installed_distributions
    from ctedge.runtimes.versions import misfit

    found = installed_distributions()
    findings = []
    for name, purpose, extra in PACKAGES:
        version, error = version_of(name), misfit(name)
        if error is not None:
            findings.append(_misfit(name, error))
        elif version is not None:
            findings.append(_imported(name, f"{version}, for {purpose}", extra))
        else:
            findings.append(
                Finding(
                    subject=name,
                    state="missing",
                    detail=f"not installed, for {purpose}",
                    fix=_line_that_adds(name, extra, found),
                )
            )
    return findings


def _imported(name: str, detail: str, extra: str | None) -> Finding:
    """Of a package that is installed: whether it can be imported, where that is looked at."""
    from ctedge.extras import import_package, short_of

    try:
        if name in IMPORTED:
            import_package(IMPORTED[name])
    except Exception as error:  # noqa: BLE001 - a damaged package may raise anything
        return Finding(
            subject=name,
            state="broken",
            detail=" ".join(f"{detail}: {type(error).__name__}: {error}".split()),
            fix=short_of(error) or f"pip uninstall -y {name}; {_line_that_adds(name, extra, {})}",
        )
    return Finding(subject=name, state="ok", detail=detail)


def _onnxruntime(*, needed: bool) -> list[Finding]:
    """Two distributions, or none, which is no harm where another runtime runs the models."""
    from ctedge.runtimes.onnxruntime_package import installed_distributions
    from ctedge.runtimes.versions import DISTRIBUTIONS

    found = installed_distributions()
    if len(found) == 1:
        return []
    if found:
        detail = "two distributions overwrite each other's files"
        fix = f"pip uninstall -y {' '.join(DISTRIBUTIONS['onnxruntime'])}; {install_line('cpu')}"
        return [Finding(subject="ONNX Runtime", state="broken", detail=detail, fix=fix)]
    detail = "none is installed" if needed else "none is installed; another runtime runs the models"
    state: State = "broken" if needed else "missing"
    return [Finding(subject="ONNX Runtime", state=state, detail=detail, fix=install_line("cpu"))]


def _misfit(subject: str, error: RuntimeUnavailable) -> Finding:
    detail = error.in_one_line(expected=True)
    return Finding(subject=subject, state="broken", detail=detail, fix=error.fix)


def _line_that_adds(name: str, extra: str | None, runtimes: dict[str, str]) -> str:
    """The command for a missing package; one ONNX Runtime has to make room for the other."""
    from ctedge.runtimes.versions import DISTRIBUTIONS

    if extra is None:
        return "pip install ctedge"
    in_the_way = runtimes if name in DISTRIBUTIONS["onnxruntime"] else {}
    return "".join(f"pip uninstall -y {other}; " for other in in_the_way) + install_line(extra)


def _openvino() -> Finding:
    """Whether OpenVINO is there, loads, and which devices it finds."""
    from ctedge.runtimes.openvino_package import devices
    from ctedge.runtimes.versions import misfit

    wrong = misfit("openvino")
    if wrong is not None:
        return _misfit("openvino", wrong)
    purpose = "for inference on a CPU, faster, and on an Intel GPU"
    try:
        found = ", ".join(devices())
    except RuntimeUnavailable as error:
        installed = version_of("openvino")
        return Finding(
            subject="openvino",
            state="broken" if installed else "missing",
            detail=f"{installed}, {error.in_one_line()}"
            if installed
            else f"not installed, {purpose}",
            fix=error.fix,
        )
    version = version_of("openvino") or "of unknown version"
    if not found:  # of a plug-in that lacks memory or threads OpenVINO says nothing
        detail = f"{version}, finds no device at all; {purpose}"
        return Finding(subject="openvino", state="broken", detail=detail, fix=MORE_OF_BOTH)
    return Finding(subject="openvino", state="ok", detail=f"{version}, finds {found}; {purpose}")


def _tensorrt() -> list[Finding]:
    """The TensorRTs: there, absent, or there and broken; each is imported for its version."""
    from ctedge.engines.machine import MODULES, imported_version, line_that_installs

    purpose = "for a bundle's engines on an NVIDIA GPU"
    findings = []
    for runtime, module in MODULES.items():
        try:
            version = imported_version(runtime)
        except RuntimeUnavailable as error:
            findings.append(_misfit(runtime, error))
            continue
        if version is not None:
            detail = f"{version}, {purpose}"
            findings.append(Finding(subject=runtime, state="ok", detail=detail))
            continue
        findings.append(
            Finding(
                subject=runtime,
                state="missing",
                detail=f"no Python package {module}, {purpose}",
                fix=line_that_installs(runtime),
            )
        )
    return findings


def _driver() -> Finding:
    """The GPU that the driver sees; without one everything runs on the CPU."""
    from ctedge.runtimes.cuda_driver import find_device, why_no_device

    subject, device = "NVIDIA driver", find_device()
    if device is None:
        return Finding(subject=subject, state="missing", detail=f"{why_no_device()}; CPU only")
    driver = device.driver or "of unknown version"
    detail = (
        f"{driver}, for CUDA {device.cuda}, sees {device.gpu} (compute capability"
        f" {device.compute_capability}, {device.memory_bytes / 2**30:.0f} GiB)"
    )
    return Finding(subject=subject, state="ok", detail=detail)


_NO_MODELS = Finding(
    subject="models", state="broken", detail="ctedge came without its models", fix=INSTALL_AGAIN
)


def _bundle(name: str) -> list[Finding]:
    """Verify a bundle, and run its golden cases on whatever may run it here."""
    from ctedge.runtimes.choice import survey

    subject = f"model {Path(name).name.removesuffix('.ctedge')}"  # a path would fill the table
    try:
        verdicts = survey(ModelBundle.load(name))
    except CTEdgeError as error:
        shipped = isinstance(error, BundleError) and name in shipped_bundles()
        fix = INSTALL_AGAIN if shipped else error.fix
        detail = error.in_one_line(expected=True)
        return [Finding(subject=subject, state="broken", detail=detail, fix=fix)]
    taken = [verdict.candidate for verdict in verdicts if verdict.state == "taken"]
    plainest = next(one for one in verdicts if one.candidate == "onnxruntime-cpu-fp32")
    first = Finding(
        subject=subject,
        state="ok" if taken else "broken",
        detail=f"digests hold; {taken[0] if taken else 'nothing here'} runs it",
        fix=None if taken else plainest.fix,
    )
    return [first, *_reasons(subject, verdicts)]


#: What a verdict on one way to run a model means for the machine, and in words.
_STATES: dict[str, tuple[State, str]] = {
    "taken": ("ok", "chosen"),
    "works": ("ok", "works, slower"),
    "refused": ("missing", "not here"),
    "failed": ("broken", "failed"),
}


def _reasons(subject: str, verdicts: Sequence[Verdict]) -> list[Finding]:
    """Why one way to run a model was chosen and the others were not, those alike in one line."""
    alike: dict[tuple[str, str, str | None], list[str]] = {}
    for verdict in verdicts:
        alike.setdefault((verdict.state, verdict.reason, verdict.fix), []).append(verdict.candidate)
    return [
        Finding(
            subject=subject,
            state=_STATES[state][0],
            detail=f"{', '.join(names)}: {_STATES[state][1]}: {reason}",
            fix=fix,
        )
        for (state, reason, fix), names in alike.items()
    ]
