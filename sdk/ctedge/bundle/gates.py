"""Whether a bundle's network passed the gates of its export: without that, nothing runs it."""

from __future__ import annotations

from ctedge.bundle.model_bundle import ModelBundle
from ctedge.errors import InvalidBundle

EXPORT_AGAIN = "export it again with `ctedge export onnx RUN_FOLDER -o BUNDLE --overwrite`"


def require_gates(bundle: ModelBundle) -> None:
    """Refuse a bundle whose manifest does not say that its FP32 file passed every gate.

    Raises:
        InvalidBundle: its manifest has no gate result against the trained network, or one that did
            not pass.
    """
    gate = bundle.gates.get("onnx")
    if not isinstance(gate, dict) or gate.get("passed") is not True:
        raise InvalidBundle(
            f"{bundle.name} has no gate result of its FP32 model against the trained network",
            found="a manifest without gates.onnx.passed",
            expected="a bundle that `ctedge export` wrote",
            fix=EXPORT_AGAIN,
        )
    for name, gate in bundle.gates.items():
        if isinstance(gate, dict) and gate.get("passed", True) is not True:
            raise InvalidBundle(
                f"{bundle.name} did not pass its {name} gate",
                found=f"gates.{name}.passed is not true",
                expected="a bundle that passed every gate it holds",
                fix=EXPORT_AGAIN,
            )
