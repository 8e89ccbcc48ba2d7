"""The numeric gate: the ONNX file must answer as Keras does, or nothing leaves.

Keras is the model as it was trained (BatchNorm and all), in float32 on the CPU: on a GPU
TensorFlow convolves in TF32, whose 1e-3 would hide what is looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import GateFailed, counted
from ctedge.runtimes.onnx_runtime import OnnxRuntime
from ctedge.runtimes.verification import TOLERANCES
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.keras_layers import KerasProbe, first_deviation
from ctedge_export.network.onnx_model import Converted

if TYPE_CHECKING:
    import keras

#: How many inputs run together, to see that the batch axis is one.
_BATCH = 3


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One input's answers, and how far they are apart."""

    name: str
    keras: float
    onnx: float

    @property
    def difference(self) -> float:
        """|keras - onnx|; infinite when either is no number."""
        difference = abs(self.keras - self.onnx)
        return difference if np.isfinite(difference) else float("inf")


@dataclass(frozen=True, kw_only=True, eq=False)
class GateResult:
    """What the gate measured.

    Attributes:
        output: what was compared, "logit" or "score".
        tolerance: largest |difference| allowed, in its unit.
        comparisons: one for each input.
        batch_difference: largest |difference| when three inputs run in one batch.
        probability_difference: largest |difference| of the probability; 0 for a score.
        outputs: Keras' answers, by input and output name.
        versions: of keras and onnxruntime.
    """

    output: str
    tolerance: float
    comparisons: tuple[Comparison, ...]
    batch_difference: float
    probability_difference: float
    outputs: dict[str, dict[str, float]]
    versions: dict[str, str]

    @property
    def max_difference(self) -> float:
        """The largest difference over all inputs, in units of `output`."""
        return max(item.difference for item in self.comparisons)

    @property
    def passed(self) -> bool:
        """Whether every difference is within its tolerance."""
        return (
            self.max_difference <= self.tolerance
            and self.batch_difference <= self.tolerance
            and self.probability_difference <= TOLERANCES["probability"]
        )

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values, for the manifest."""
        return {
            "passed": self.passed,
            "output": self.output,
            "tolerance": self.tolerance,
            "max_abs_difference": _number(self.max_difference),
            "max_abs_difference_batch": _number(self.batch_difference),
            "max_abs_difference_probability": _number(self.probability_difference),
            "reference": f"keras {self.versions['keras']}, float32, CPU",
            "runtime": f"onnxruntime {self.versions['onnxruntime']}, CPUExecutionProvider",
            "inputs": [
                {
                    "name": item.name,
                    "keras": _number(item.keras),
                    "onnx": _number(item.onnx),
                    "abs_difference": _number(item.difference),
                }
                for item in self.comparisons
            ],
        }


def compare(
    trained: keras.Model,
    onnx_bytes: bytes,
    inputs: tuple[GateInput, ...],
    *,
    output: str,
    versions: dict[str, str],
) -> GateResult:
    """Run every input through both.

    Args:
        trained: the Keras model as loaded.
        onnx_bytes: the ONNX file.
        inputs: what to run.
        output: the ONNX output to compare: "logit" or "score".
        versions: of keras and onnxruntime, for the record.
    """
    answer = keras_answerer(trained, output)
    expected = [answer(shown) for shown in inputs]
    session = OnnxRuntime(onnx_bytes, name="the converted model")
    batches = [shown.batch for shown in inputs]
    found = [session.run(batch) for batch in batches]
    together = session.run(np.concatenate(batches[-_BATCH:]))[output].ravel()
    return GateResult(
        output=output,
        tolerance=TOLERANCES[output],
        comparisons=tuple(
            Comparison(name=shown.name, keras=keras[output], onnx=onnx[output].item())
            for shown, keras, onnx in zip(inputs, expected, found, strict=True)
        ),
        batch_difference=_largest([k[output] for k in expected[-_BATCH:]], together),
        probability_difference=_largest(
            [keras.get("probability", 0.0) for keras in expected],
            [onnx["probability"].item() if "probability" in onnx else 0.0 for onnx in found],
        ),
        outputs={shown.name: keras for shown, keras in zip(inputs, expected, strict=True)},
        versions=versions,
    )


def require_pass(
    result: GateResult,
    trained: keras.Model,
    onnx_bytes: bytes,
    converted: Converted,
    inputs: tuple[GateInput, ...],
) -> None:
    """Return when the gate passed; otherwise say where the answers part.

    Raises:
        GateFailed: names the worst input and the first layer that deviates on it.
    """
    if result.passed:
        return
    worst = max(result.comparisons, key=lambda item: item.difference)
    shown = next(item for item in inputs if item.name == worst.name)
    place = first_deviation(trained, onnx_bytes, converted, shown)
    raise GateFailed(
        f"the ONNX model does not answer as Keras does; first layer that deviates: {place}",
        found=(
            f"max |d{result.output}| {result.max_difference:.3g} on {worst.name!r}"
            f" (Keras {worst.keras:.6g}, ONNX {worst.onnx:.6g});"
            f" in a batch of {_BATCH}: {result.batch_difference:.3g};"
            f" max |dprobability| {result.probability_difference:.3g}"
        ),
        expected=(
            f"at most {result.tolerance:g} on {counted(len(inputs), 'input')} and in a batch,"
            f" and {TOLERANCES['probability']:g} in probability"
        ),
        fix="export with the versions of the `export` extra; --keep-failed keeps the file to study",
    )


def keras_answerer(trained: keras.Model, output: str) -> Callable[[GateInput], dict[str, float]]:
    """Gives Keras' answers by output name; the logit from before the last layer's sigmoid.

    Args:
        trained: the Keras model as loaded.
        output: "logit" or "score", what the model answers.
    """
    last = trained.layers[-1]
    probe = KerasProbe(trained, [last.input, trained.output])
    kernel = np.asarray(last.kernel, dtype=np.float64)
    bias = np.asarray(last.bias, dtype=np.float64).item() if last.use_bias else 0.0

    def answer(shown: GateInput) -> dict[str, float]:
        features, raw = probe.run(shown.batch)
        if output == "score":
            return {"score": raw.item()}
        return {
            "logit": (features.astype(np.float64) @ kernel).item() + bias,
            "probability": raw.item(),
        }

    return answer


def _largest(expected: Sequence[float], found: npt.ArrayLike) -> float:
    """The largest |difference|; infinite when one is no number."""
    difference = np.abs(np.asarray(expected) - np.asarray(found, dtype=np.float64))
    return float(np.nan_to_num(difference, nan=np.inf).max())


def _number(value: float) -> float | None:
    """JSON has no infinity: null says that it was none."""
    return value if np.isfinite(value) else None
