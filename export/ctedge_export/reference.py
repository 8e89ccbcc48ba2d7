"""What every other form of a bundle's network is held against: its FP32 file, and its gates."""

from __future__ import annotations

from ctedge.bundle import gates as bundle_gates
from ctedge.bundle.gates import EXPORT_AGAIN
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InvalidBundle, WrongTask
from ctedge_export.gates import structural

#: The tasks that have gates for other precisions and for engines.
TASKS = ("classifier", "severity", "slices")


def require_gates(source: ModelBundle, *, made: str = "other precision") -> None:
    """Refuse a bundle whose manifest does not say that its FP32 file passed every gate.

    Args:
        source: a verified bundle.
        made: what is to be made of it.

    Raises:
        WrongTask: there are no gates for its task.
        InvalidBundle: its manifest has no gate result against Keras, or one that did not pass.
    """
    if source.task not in TASKS:
        raise WrongTask(
            f"{source.name}: no {made} is made for this task",
            found=source.task,
            expected=" or ".join(TASKS),
            fix="use it as it is, in FP32",
        )
    bundle_gates.require_gates(source)


def check_reference(source: ModelBundle, *, made: str = "other precision") -> None:
    """Refuse a bundle whose FP32 file is no reference: not gated, or not as we write it.

    Raises:
        WrongTask: there are no gates for its task.
        InvalidBundle: as `require_gates`, or the FP32 file does not pass the structural gate (NaN
            weights, another tool's graph).
    """
    require_gates(source, made=made)
    result = structural.check(source.model, task=source.task)
    if not result.passed:
        raise InvalidBundle(
            f"the FP32 model of {source.name} is not as `ctedge export onnx` writes it",
            found=result,
            expected="an ONNX file of its own, with finite weights",
            fix=EXPORT_AGAIN,
        )
