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
from ctedge.errors import RuntimeUnavailable
from ctedge.extras import require
from ctedge_export.reference import check_reference, require_gates


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


def check_source(bundle: ModelBundle, precision: str) -> None:
    """Refuse a bundle that no engine of this precision is built of, before anything is made.

    Raises:
        RuntimeUnavailable: no such precision.
        InvalidBundle: the bundle does not say that its FP32 model passed its gates; of FP32 also
            one that is not as `ctedge export onnx` writes it (NaN weights, another tool's graph).
        WrongTask: engines of networks for this task have no gate.
    """
    if precision not in ENGINE_PRECISIONS:
        raise RuntimeUnavailable(
            "no such precision",
            found=precision,
            expected=" or ".join(ENGINE_PRECISIONS),
            fix="name one of them with --precision",
        )
    if precision == FP32:
        require("onnx", extra="export", purpose="the structural gate")
        check_reference(bundle, made="engine")
    else:  # of a variant the manifest holds its own, which every reader asks for
        require_gates(bundle, made="engine")


def onnx_of(
    bundle: ModelBundle,
    precision: str,
    *,
    keep_failed: bool = False,
    say: Callable[[str], None],
) -> tuple[ModelBundle, OnnxSource]:
    """A bundle's ONNX file in a precision; a member that is missing is made and gated first.

    Args:
        bundle: one that `check_source` took; whoever has a member made holds the bundle's lock.
        precision: "fp32", "fp16", "bf16" or "int8".
        keep_failed: a member that fails its gate is kept in `NAME.failed/`.
        say: told of each step, one line at a time.

    Returns:
        The bundle, loaded again where a member was added, and the file.

    Raises:
        GateFailed: the missing member was made, and does not answer as the network does.
    """
    if precision == FP32:
        return bundle, OnnxSource(member=MODEL_NAME, data=bundle.model, gates=bundle.gates)
    if precision not in bundle.variants:
        from ctedge_export.precision.precision import add_precision

        say(f"{bundle.name} has no {precision} member: it is made and gated now")
        bundle = add_precision(bundle, precision, keep_failed=keep_failed, say=say)
    variant = bundle.variant(precision)
    gates = bundle.manifest["variants"][precision]["gates"]
    return bundle, OnnxSource(
        member=variant.member,
        data=bundle.model_bytes(precision),
        gates=gates,
        kept_float=variant.kept_float,
    )
