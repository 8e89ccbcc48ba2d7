"""What Keras answered when a bundle was exported, as its manifest holds it: no Keras is needed.

A precision, a runtime or an engine is held against the trained network itself wherever the manifest
says what that answered, and against the bundle's FP32 file, which is within 1e-4 of it, on inputs
that nobody showed to Keras: a user's own scans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctedge.bundle.variants import FP32
from ctedge.errors import counted
from ctedge.runtimes.verification import TOLERANCES
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.numeric import FP32_MODEL, Answers

#: What the reference of a conversion is called in the manifest.
KERAS = "keras"

#: Largest |difference| of an input's mean level (0 to 255) from the recorded one. Another CPU's
#: last digit moves single voxels to the next level, 1e-5 of the mean; another chest moves it by
#: far more.
_SAME_MEAN = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What a file is held against.

    Attributes:
        answers: by the name of the input, then of the output.
        said: whose they are, for the record.
        decided_by: who answered all the labelled scans, "keras" or "fp32".
    """

    answers: Answers
    said: str
    decided_by: str


def reference(gates: Mapping[str, Any], fp32: Answers, cases: Sequence[Case]) -> Reference:
    """Keras' answers where a manifest holds them, those of the FP32 file elsewhere.

    Args:
        gates: of the manifest.
        fp32: what the bundle's FP32 file answers here.
        cases: the labelled scans among its inputs.
    """
    answers = {name: dict(answer) for name, answer in fp32.items()}
    known = set()
    for name, of_keras in _recorded(gates, fp32):
        answers[name] |= of_keras
        known.add(name)
    version = _part(gates.get("onnx"), "reference")
    others = len(answers) - len(known)
    said = f"{version} on {counted(len(known), 'input')}, as recorded; {FP32_MODEL} on {others}"
    decided = all(case.shown.name in known for case in cases)
    return Reference(answers=answers, said=said, decided_by=KERAS if decided else FP32)


def recorded_decisions(gate: object, cases: Sequence[Case], *, output: str) -> Answers | None:
    """Keras' answers to these cases, where a manifest holds them; None otherwise.

    Args:
        gate: `gates.task` of a manifest, or what stands there.
        cases: those of here; other ones than were looked at then have no answers.
        output: what the network answers, "probability" or "score".
    """
    if not isinstance(gate, dict) or gate.get("output") != output:
        return None
    inputs, answers = gate.get("inputs"), Answers()
    if not isinstance(inputs, list) or len(inputs) != len(cases):
        return None
    for record, case in zip(inputs, cases, strict=True):
        said = record if isinstance(record, dict) else {}
        answer, mean = said.get(KERAS), said.get("mean_level")
        if not isinstance(answer, float) or not isinstance(mean, float):
            return None
        if said.get("name") != case.shown.name or abs(mean - mean_level(case.shown)) > _SAME_MEAN:
            return None
        answers[case.shown.name] = {output: answer}
    return answers


def mean_level(shown: GateInput) -> float:
    """The mean of an input's levels, 0 to 255: tells whether it is still the same input."""
    return round(float(np.mean(shown.levels)), 4)


def _recorded(gates: Mapping[str, Any], fp32: Answers) -> Iterator[tuple[str, dict[str, float]]]:
    """Inputs with Keras' answers, of those to which the FP32 file answers here as it did then.

    To another input of the same name, drawn by another version, it would not.
    """
    for gate, called in ((gates.get("onnx"), "onnx"), (gates.get("task"), "found")):
        output, inputs = _part(gate, "output"), _part(gate, "inputs")
        for record in inputs if isinstance(inputs, list) and output in TOLERANCES else ():
            name, keras, then = (_part(record, key) for key in ("name", KERAS, called))
            now = fp32.get(name) if isinstance(name, str) else None
            if now is None or not (isinstance(keras, float) and isinstance(then, float)):
                continue
            if abs(now.get(output, math.inf) - then) <= TOLERANCES[output]:
                yield name, _answer(output, keras)


def _answer(output: str, value: float) -> dict[str, float]:
    """An answer, and the probability of a logit."""
    if output != "logit":
        return {output: value}
    return {"logit": value, "probability": float(0.5 * (1.0 + np.tanh(0.5 * value)))}


def _part(mapping: object, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, dict) else None
