"""A bundle's network in other precisions: what the manifest says of each, read strictly.

    "variants": {
      "fp16": {
        "member": "model.fp16.onnx",          model.PRECISION.onnx, listed in members
        "opset": 17,
        "kept_float": ["conv1"],              layers that stay in float, in the order of the data
        "weights": {"overflow": 0, "subnormal": 12, ...},     counts; which ones, by precision
        "calibration": {...},                 how the scales of int8 were found, else null
        "gates": {
          "structural": {"passed": true, ...},
          "runtimes": {                       by runtime, device and precision
            "onnxruntime-cpu-int8": {"version": "...", "numeric": {"passed": true, ...},
                                     "task": {"passed": true, ...}}
          }
        }
      }
    }

Precision lives in the ONNX file: the types in its graph are those that run. Inputs and outputs are
float32, named and shaped as those of the FP32 model. A variant without passed gates is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctedge.strict_json import list_of, object_with, printable, refuse

FP32 = "fp32"

#: The precisions a variant can have.
PRECISIONS = ("fp16", "bf16", "int8")

_KEYS = {"member", "opset", "kept_float", "weights", "calibration", "gates"}
_MAX_LAYERS = 512
_MAX_RUNTIMES = 32


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One precision of a bundle's network.

    Attributes:
        precision: "fp16", "bf16" or "int8".
        member: the name of its ONNX file.
        opset: version of the operators of that file.
        kept_float: layers that stay in float.
        runtimes: whether its gates passed, by runtime (as "onnxruntime-cpu-int8").
    """

    precision: str
    member: str
    opset: int
    kept_float: tuple[str, ...]
    runtimes: Mapping[str, bool]


def member_name(precision: str) -> str:
    """The name of a variant's ONNX file: "model.fp16.onnx"."""
    return f"model.{precision}.onnx"


def parse_variants(value: object, members: Mapping[str, object]) -> dict[str, Variant]:
    """Read the manifest's `variants`.

    Args:
        value: the JSON value.
        members: the members of the bundle, by name.

    Raises:
        InvalidBundle: a key that is missing, unknown or wrong, or gates that did not pass.
    """
    if not isinstance(value, dict) or not set(value) <= set(PRECISIONS):
        refuse("variants", value, f"an object with keys of {', '.join(PRECISIONS)}")
    return {precision: _variant(precision, value[precision], members) for precision in value}


def _variant(precision: str, value: object, members: Mapping[str, object]) -> Variant:
    where = f"variants.{precision}"
    record = object_with(value, where, _KEYS)
    if record["member"] != member_name(precision) or record["member"] not in members:
        refuse(f"{where}.member", record["member"], f"{member_name(precision)}, in members")
    opset = record["opset"]
    if type(opset) is not int or not 1 <= opset <= 99:
        refuse(f"{where}.opset", opset, "a whole number, 1 to 99")
    layers = list_of(record["kept_float"], f"{where}.kept_float", _MAX_LAYERS)
    counts = record["weights"]
    if not isinstance(counts, dict) or any(type(n) is not int or n < 0 for n in counts.values()):
        refuse(f"{where}.weights", counts, "an object of whole numbers")
    if not isinstance(record["calibration"], dict | None):
        refuse(f"{where}.calibration", record["calibration"], "an object or null")
    return Variant(
        precision=precision,
        member=record["member"],
        opset=opset,
        kept_float=tuple(printable(name, f"{where}.kept_float") for name in layers),
        runtimes=_runtimes(record["gates"], f"{where}.gates"),
    )


def _runtimes(value: object, where: str) -> dict[str, bool]:
    """Which runtimes passed; one at least, and the structural gate."""
    gates = object_with(value, where, {"structural", "runtimes"})
    found = gates["runtimes"]
    if not isinstance(found, dict) or not 1 <= len(found) <= _MAX_RUNTIMES:
        refuse(f"{where}.runtimes", found, f"an object with 1 to {_MAX_RUNTIMES} runtimes")
    runtimes = {}
    for name, record in found.items():
        printable(name, f"{where}.runtimes")
        inside = f"{where}.runtimes.{name}"
        parts = object_with(record, inside, {"version", "numeric", "task"})
        printable(parts["version"], f"{inside}.version")
        passed = [_passed(parts[gate], f"{inside}.{gate}") for gate in ("numeric", "task")]
        runtimes[name] = all(passed)
    if not _passed(gates["structural"], f"{where}.structural") or not any(runtimes.values()):
        refuse(where, "gates that did not pass", "a structural gate and one runtime that passed")
    return runtimes


def _passed(value: object, where: str) -> bool:
    if not isinstance(value, dict) or type(value.get("passed")) is not bool:
        refuse(where, value, 'an object with "passed", true or false')
    passed: bool = value["passed"]
    return passed
