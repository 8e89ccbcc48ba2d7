"""The ONNX file that an engine is built from: a bundle's member in one precision, and its gates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ctedge.bundle.manifest import MODEL_NAME
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.engines.record import ENGINE_PRECISIONS
from ctedge.errors import InvalidBundle, RuntimeUnavailable

_TASKS = ("classifier", "severity", "slices")


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxSource:
    """An ONNX file that passed its gates, from a verified bundle."""

    member: str
    data: bytes
    gates: Mapping[str, Any]
    kept_float: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of its bytes, as hex."""
        return hashlib.sha256(self.data).hexdigest()


def onnx_of(
    bundle: ModelBundle, precision: str, *, say: Callable[[str], None]
) -> tuple[ModelBundle, OnnxSource]:
    """A bundle's ONNX file in a precision; a member that is missing is made and gated first.

    Returns:
        The bundle, loaded again where a member was added, and the file.

    Raises:
        RuntimeUnavailable: no such precision.
        InvalidBundle: the bundle holds no gate that its model has passed.
        WrongTask: engines of networks for this task have no gate.
        GateFailed: the missing member was made, and does not answer as FP32 does.
    """
    if precision not in ENGINE_PRECISIONS:
        raise RuntimeUnavailable(
            "no such precision",
            found=precision,
            expected=" or ".join(ENGINE_PRECISIONS),
            fix="name one of them with --precision",
        )
    if precision == FP32:
        gates = bundle.gates
        if not any(
            isinstance(gate, dict) and gate.get("passed") is True for gate in gates.values()
        ):
            raise _ungated(bundle)
        return bundle, OnnxSource(member=MODEL_NAME, data=bundle.model, gates=gates)
    if precision not in bundle.variants:
        from ctedge_export.precision.precision import export_precision

        say(f"{bundle.name} has no {precision} member: it is made and gated now")
        bundle = export_precision(bundle.path, [precision], say=say)
    variant = bundle.variant(precision)
    gates = bundle.manifest["variants"][precision]["gates"]
    return bundle, OnnxSource(
        member=variant.member,
        data=bundle.model_bytes(precision),
        gates=gates,
        kept_float=variant.kept_float,
    )


def _ungated(bundle: ModelBundle) -> InvalidBundle:
    return InvalidBundle(
        f"{bundle.name} holds no gate that its model has passed",
        found=f"gates: {', '.join(bundle.gates) or 'none'}",
        expected="a gate with passed: true, as `ctedge export onnx` writes it",
        fix="export it again with `ctedge export onnx RUN_FOLDER -o BUNDLE --overwrite`",
    )
