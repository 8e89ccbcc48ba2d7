"""Does a bundle's network, on the runtime it would run on here, still answer as it was trained?"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ctedge.bundle.golden import GoldenCase
from ctedge.bundle.model_bundle import ModelBundle
from ctedge.bundle.variants import FP32
from ctedge.errors import GateFailed, counted
from ctedge.tensor import network_batch

#: Largest |difference| from a golden answer, by output: the same that the export's gate allows.
#: logit: float32 rounding through 18 nodes gives about 1e-6; 1e-4 moves a probability by at most
#: 2.5e-5, a hundredth of what decides any label.
#: score: the same 1e-4 relative to its scale of 0 to 100; a CTSI step is 4, a category 20.
#: probability: that of the logit through a sigmoid, whose slope is at most 1/4, and rounding.
#: right, left: shares of a slice's pixels; three of 256 x 256, where two classes are a tie.
TOLERANCES = {"logit": 1e-4, "score": 1e-2, "probability": 2.6e-5, "right": 5e-5, "left": 5e-5}

#: The same of the network in another precision, against FP32. A probability that moves by 0.005
#: or 0.02 changes a label only close to its threshold, which the task gate looks at; a CTSI step
#: is 4 of a score. A logit may move further where its sigmoid is flat, so it has no bound.
VARIANT_TOLERANCES = {
    "fp16": {"probability": 5e-3, "score": 0.5},
    "bf16": {"probability": 2e-2, "score": 2.0},
    "int8": {"probability": 2e-2, "score": 2.0},
}


#: exp() of more than this overflows; the sigmoid is 0 or 1 to the last bit long before.
_STEEP = 700.0

#: The runtime's sigmoid is float32, perhaps approximated; more is another function.
_SIGMOID_TOLERANCE = 1e-3


class Answering(Protocol):
    """Something that answers as a `ctedge.runtimes.Runtime` does."""

    @property
    def name(self) -> str:
        """Runtime, device and precision."""
        ...

    def run(self, batch: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """All answers by name."""
        ...


def tolerances(precision: str) -> dict[str, float]:
    """Largest |difference| from the answers of reference, by output; any finite logit will do."""
    return TOLERANCES if precision == FP32 else VARIANT_TOLERANCES[precision]


def precision_of(runtime: Answering) -> str:
    """What a runtime's name ends with."""
    return runtime.name.rpartition("-")[2]


def check_golden(
    bundle: ModelBundle, runtime: Answering, *, precision: str = FP32
) -> tuple[int, float]:
    """Run a bundle's golden cases on a runtime: each alone, and slices also beside each other.

    Args:
        bundle: a verified bundle.
        runtime: it has loaded the bundle's network in `precision`.
        precision: of the file that runs; it gives the tolerances.

    Returns:
        How many cases there are, and the largest |difference| from the trained network's answers,
        of the outputs that have a tolerance.

    Raises:
        GateFailed: there is no golden case, one is answered otherwise than it was, or an answer is
            not one number.
    """
    cases = bundle.golden()
    if not cases:
        raise GateFailed(
            f"{bundle.name} has no golden case to check",
            fix="export it again with `ctedge export onnx`",
        )
    largest, limits = 0.0, tolerances(precision)
    for case, answers in _answered(bundle, runtime, cases):
        for output, expected in case.outputs.items():
            found = answers[output]
            difference = abs(found - expected)
            limit = limits.get(output, sys.float_info.max)
            if not difference <= limit:
                raise GateFailed(
                    f"the golden case {case.name!r} of {bundle.name} is answered otherwise",
                    found=f"{output} {found:.6g}, off by {difference:.3g}",
                    expected=f"{expected:.6g} within {limit:g}",
                    fix=f"do not use this bundle on {runtime.name} here; report both versions",
                )
            if output in limits:
                largest = max(largest, difference)
    return len(cases), largest


def warm_up(bundle: ModelBundle, runtime: Answering) -> None:
    """Run the golden cases; of a bundle that has none, which `verify` refuses, the network on air.

    Raises:
        GateFailed: a golden case is answered otherwise than it was.
        InferenceFailed: the network cannot run.
    """
    if bundle.golden():
        check_golden(bundle, runtime, precision=precision_of(runtime))
    else:
        runtime.run(np.zeros((1, *bundle.input_shape), np.float32))


def is_answer(outputs: dict[str, float]) -> bool:
    """Whether outputs can be an answer at all: finite, a probability the sigmoid of its logit."""
    if not all(math.isfinite(value) for value in outputs.values()):
        return False
    if "probability" not in outputs:
        return True
    logit = min(max(outputs["logit"], -_STEEP), _STEEP)
    return abs(outputs["probability"] - 1.0 / (1.0 + math.exp(-logit))) <= _SIGMOID_TOLERANCE


def _answered(
    bundle: ModelBundle, runtime: Answering, cases: Sequence[GoldenCase]
) -> Iterator[tuple[GoldenCase, dict[str, float]]]:
    """Golden cases, each with what it is answered, one number an output."""
    for case in cases:
        yield case, _answers(bundle, runtime, case.input[np.newaxis])[0]
    if bundle.task == "slices":
        # `predict` runs several at once. An empty one beside them shows rows that see each other.
        together = np.stack([*(case.input for case in cases), np.zeros_like(cases[0].input)])
        yield from zip(cases, _answers(bundle, runtime, together), strict=False)


def _answers(
    bundle: ModelBundle, runtime: Answering, inputs: npt.NDArray[np.float32]
) -> list[dict[str, float]]:
    """Of each input what a golden case records: the outputs, or, of lungs, the share of each."""
    found: Mapping[str, npt.ArrayLike]
    if bundle.task == "lungs":
        from ctedge.lungs.slices import shares

        found = shares(runtime.run(inputs[:, np.newaxis])["logits"])
    else:
        found = runtime.run(network_batch(inputs, bundle.spec))
    for output, values in found.items():
        if np.size(values) != len(inputs):
            raise GateFailed(
                f"{bundle.name} on {runtime.name} does not give one number an input",
                found=f"{output} of shape {np.shape(values)} for {counted(len(inputs), 'input')}",
                expected=f"({len(inputs)}, 1)",
                fix="export it again with `ctedge export onnx`",
            )
    columns = {output: np.ravel(values).tolist() for output, values in found.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
