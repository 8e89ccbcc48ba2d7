"""The two tasks: what goes in, what comes out, and in which unit."""

from __future__ import annotations

from dataclasses import dataclass

from ctedge.prediction import SEVERITY_CLASSES
from ctedge.spec import KERAS_EXAMPLE, SEVERITY_STUDY, PreprocessSpec

#: Lower bounds of the severity classes above the first, in score units (0-100).
SEVERITY_BOUNDS = tuple(lower for _, lower in SEVERITY_CLASSES[1:])


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network is trained to answer.

    Attributes:
        name: "classifier" or "severity".
        spec: the preprocessing contract at its published size.
        labels: names of the classes, in order.
        activation: of the last Dense layer.
        unit: size of the output's unit; training runs on answer / unit, the saved network
            answers in full (1 for a probability, 100 for a score of 0-100).
        metric: the validation metric in the history ("auc" or "mae").
    """

    name: str
    spec: PreprocessSpec
    labels: tuple[str, ...]
    activation: str
    unit: float
    metric: str


CLASSIFIER = Task(
    name="classifier",
    spec=KERAS_EXAMPLE,
    labels=("normal", "abnormal"),
    activation="sigmoid",
    unit=1.0,
    metric="auc",
)
SEVERITY = Task(
    name="severity",
    spec=SEVERITY_STUDY,
    labels=tuple(name for name, _ in SEVERITY_CLASSES),
    activation="linear",
    unit=100.0,
    metric="mae",
)

TASKS = {task.name: task for task in (CLASSIFIER, SEVERITY)}
