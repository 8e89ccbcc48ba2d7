"""The gates of a conversion: does the ONNX file answer, decide and show as Keras does?

    onnx         the same answers            gates/against_keras.py
    structural   what is in the file         gates/structural.py
    maps         the same pictures           gates/keras_maps.py
    task         the same decisions          gates/task.py, on labelled scans; where the rest holds

Keras' answers to the phantoms go into the manifest, so that `ctedge export verify` can run the task
gate again without Keras. Those to a user's own scans do not: they are about patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ctedge.bundle.manifest import TASK_OUTPUTS
from ctedge.bundle.variants import FP32
from ctedge.errors import GateFailed, counted
from ctedge.run_folder import RunFolder
from ctedge_export.gates import against_keras, structural, task
from ctedge_export.gates.cases import Case, gate_phantoms
from ctedge_export.gates.inputs import GateInput
from ctedge_export.gates.numeric import answers_of
from ctedge_export.gates.recorded import KERAS, mean_level
from ctedge_export.gates.result import GateResult, number
from ctedge_export.gates.runners import onnx_runner
from ctedge_export.network.onnx_model import Converted

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """What the gates measured.

    Attributes:
        numeric: the answers against Keras'.
        further: the other gates, by their name in the manifest; no "task" where another failed.
    """

    numeric: against_keras.GateResult
    further: Mapping[str, GateResult]

    def to_json(self) -> dict[str, Any]:
        """`gates` of the manifest."""
        further = {name: result.to_json() for name, result in self.further.items()}
        return {"onnx": self.numeric.to_json(), **further}

    def __str__(self) -> str:
        one = self.numeric
        return (
            f"max |d{one.output}| {one.max_difference:.2g} <= {one.tolerance:g}"
            f" on {counted(len(one.comparisons), 'input')};"
            f" on {self.further['task'].details['source']}: {self.further['task']}"
        )


def hold(  # noqa: PLR0913 (keyword-only options)
    run: RunFolder,
    trained: keras.Model,
    onnx_bytes: bytes,
    shown: tuple[GateInput, ...],
    *,
    maps: GateResult,
    scans: tuple[Case, ...] | None = None,
    versions: dict[str, str],
) -> Held:
    """Run every gate but that of the maps, which was needed to choose them.

    Args:
        run: what was converted.
        trained: its Keras model as loaded.
        onnx_bytes: the ONNX file.
        shown: inputs of the numeric gate.
        maps: what the gate of the maps gave.
        scans: labelled scans of the task gate; None means phantoms.
        versions: of keras and onnxruntime, for the record.
    """
    numeric = against_keras.compare(
        trained, onnx_bytes, shown, output=TASK_OUTPUTS[run.task][0], versions=versions
    )
    further = {"structural": structural.check(onnx_bytes, task=run.task), "maps": maps}
    if numeric.passed and all(result.passed for result in further.values()):
        further["task"] = _decisions(run, trained, onnx_bytes, scans, versions["keras"])
    return Held(numeric=numeric, further=further)


def require_pass(
    held: Held,
    trained: keras.Model,
    onnx_bytes: bytes,
    converted: Converted,
    shown: tuple[GateInput, ...],
) -> None:
    """Return when every gate passed; otherwise say which one did not, and where.

    Raises:
        GateFailed: the first gate that failed.
    """
    against_keras.require_pass(held.numeric, trained, onnx_bytes, converted, shown)
    for name, result in held.further.items():
        if not result.passed:
            raise GateFailed(
                f"the {name} gate failed",
                found=result,
                expected="a file that is, shows and decides as the Keras model, within the limits",
                fix="export with the versions of the `export` extra; --keep-failed keeps the file"
                " to study",
            )


def _decisions(
    run: RunFolder,
    trained: keras.Model,
    onnx_bytes: bytes,
    scans: tuple[Case, ...] | None,
    version: str,
) -> GateResult:
    """The task gate, with Keras as its reference and ONNX Runtime as what is found."""
    cases = gate_phantoms(run.spec) if scans is None else scans
    shown = [case.shown for case in cases]
    answer = against_keras.keras_answerer(trained, TASK_OUTPUTS[run.task][0])
    reference = {one.name: answer(one) for one in shown}
    runner = onnx_runner(onnx_bytes)
    found = answers_of(runner, shown)
    result = task.check(
        reference,
        found,
        cases,
        precision=FP32,
        threshold=run.threshold,
        source=counted(len(cases), "phantom" if scans is None else "given scan"),
        called=KERAS,
    )
    details = {
        **result.details,
        "reference": f"keras {version}, float32, CPU",
        "runtime": runner.version,
    }
    if scans is None:
        output = TASK_OUTPUTS[run.task][-1]
        details["output"] = output
        details["inputs"] = [
            {
                "name": one.name,
                "mean_level": mean_level(one),
                KERAS: number(reference[one.name][output]),
                "found": number(found[one.name][output]),
            }
            for one in shown
        ]
    return replace(result, details=details)
