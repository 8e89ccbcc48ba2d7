"""The numeric gate of a precision: the trained network's answers, within tolerances.

What they are says `ctedge_export.gates.recorded`: Keras', or where nobody knows those, the answers
of the bundle's own FP32 file on ONNX Runtime's CPU provider, gated against Keras (1e-4).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ctedge.runtimes.verification import tolerances
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.result import Figure, GateResult, number
from ctedge_export.gates.runners import Runner

#: Answers by input, then by output.
Answers = dict[str, dict[str, float]]

FP32_MODEL = "the bundle's FP32 model on onnxruntime CPUExecutionProvider, gated against Keras"

#: Where a network is undecided its sigmoid is steepest: a logit that is off by 0.16 moves a
#: probability by 0.04 there, and by 0.02 at 0.15 and 0.85. The limit of a precision holds for the
#: inputs that every network is shown; for those that are searched for INT8 has this one.
_UNDECIDED = {"int8": {"probability": 4e-2}}

#: How many inputs run together, to see that the batch axis is one.
_BATCH = 2


def answers_of(runner: Runner, inputs: Sequence[GateInput]) -> Answers:
    """Run inputs one by one."""
    return {
        shown.name: {key: value.item() for key, value in runner.run(shown.batch).items()}
        for shown in inputs
    }


def check(
    reference: Mapping[str, Mapping[str, float]],
    runner: Runner,
    inputs: Sequence[GateInput],
    *,
    precision: str,
    said: str = FP32_MODEL,
) -> GateResult:
    """Run inputs, alone and the last two in a batch, and hold the answers against the reference's.

    Args:
        reference: the answers expected, of these inputs at least.
        runner: the file in its runtime.
        inputs: what to run.
        precision: gives the tolerances.
        said: whose answers they are, for the record.
    """
    found = answers_of(runner, inputs)
    together = runner.run(np.concatenate([shown.batch for shown in inputs[-_BATCH:]]))
    figures = []
    for output, limit in tolerances(precision).items():
        if output in next(iter(found.values())):
            off = {
                shown.name: abs(found[shown.name][output] - reference[shown.name][output])
                for shown in inputs
            }
            searched = [off.pop(shown.name) for shown in inputs if shown.undecided]
            batch = [
                abs(float(answer) - reference[shown.name][output])
                for shown, answer in zip(inputs[-_BATCH:], together[output].ravel(), strict=True)
            ]
            figures.append(
                Figure(name=f"max |d{output}|", value=_largest(off.values()), limit=limit)
            )
            if searched:
                most = _UNDECIDED.get(precision, {}).get(output, limit)
                name = f"max |d{output}| where undecided"
                figures.append(Figure(name=name, value=_largest(searched), limit=most))
            figures.append(
                Figure(name=f"max |d{output}| in a batch", value=_largest(batch), limit=limit)
            )
    infinite = [
        name for name, answer in found.items() if not np.isfinite(list(answer.values())).all()
    ]
    return GateResult(
        gate="numeric",
        figures=tuple(figures),
        broken=tuple(f"no number for {name!r}" for name in infinite[:1]),
        details={
            "reference": said,
            "inputs": [
                {
                    "name": name,
                    **{
                        output: {
                            "reference": number(reference[name][output]),
                            "found": number(value),
                        }
                        for output, value in answer.items()
                    },
                }
                for name, answer in found.items()
            ],
        },
    )


def worst_inputs(
    reference: Mapping[str, Mapping[str, float]],
    result: GateResult,
    inputs: Sequence[GateInput],
    *,
    precision: str,
    count: int,
) -> tuple[GateInput, ...]:
    """The inputs whose answers are farthest from the reference's, the farthest first."""
    limits = tolerances(precision)
    far = {}
    for record in result.details["inputs"]:
        parts = [record[output]["found"] for output in record if output != "name"]
        far[record["name"]] = (
            np.inf
            if None in parts
            else max(
                abs(record[output]["found"] - reference[record["name"]][output])
                for output in limits
                if output in record
            )
        )
    return tuple(sorted(inputs, key=lambda shown: -far[shown.name])[:count])


def _largest(differences: Iterable[float]) -> float:
    """The largest; infinite when one is no number."""
    return float(np.nan_to_num(np.array([*differences]), nan=np.inf).max(initial=0.0))
