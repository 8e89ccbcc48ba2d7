"""The three tasks: what goes in, what comes out, and in which unit."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctedge.prediction import SEVERITY_CLASSES
from ctedge.spec import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    KERAS_EXAMPLE,
    SEVERITY_STUDY,
    SLICE_STUDY,
    Spec,
)

#: Lower bounds of the severity classes above the first, in score units (0-100).
SEVERITY_BOUNDS = tuple(lower for _, lower in SEVERITY_CLASSES[1:])

#: The severity study as it was fed: voxels outside the lungs are the window's lower end.
SEVERITY_STUDY_LUNGS = replace(SEVERITY_STUDY, name="severity-study-lungs", lungs_only=True)

#: Slices for a network that starts from ImageNet.
SLICE_STUDY_IMAGENET = replace(
    SLICE_STUDY,
    name="slice-study-imagenet",
    mean=IMAGENET_MEAN,
    deviation=IMAGENET_DEVIATION,
)

#: The contracts of volumes, by name. Either network may be trained on any of them.
VOLUME_SPECS: dict[str, Spec] = {
    spec.name: spec for spec in (KERAS_EXAMPLE, SEVERITY_STUDY, SEVERITY_STUDY_LUNGS)
}
SLICE_SPECS: dict[str, Spec] = {spec.name: spec for spec in (SLICE_STUDY, SLICE_STUDY_IMAGENET)}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a network is trained to answer.

    Attributes:
        name: "classifier", "severity" or "slices".
        spec: the preprocessing contract at its published size.
        labels: names of the classes, in order.
        activation: of the last Dense layer.
        unit: size of the output's unit; training runs on answer / unit, the saved network
            answers in full (1 for a probability, 100 for a score of 0-100).
        metric: the validation metric in the history ("auc" or "mae").
        column: of a label file, where the answer stands: "label" or "score".
    """

    name: str
    spec: Spec
    labels: tuple[str, ...]
    activation: str
    unit: float
    metric: str
    column: str

    @property
    def binary(self) -> bool:
        """Whether the answer is the probability of the second of two labels."""
        return self.activation == "sigmoid"


CLASSIFIER = Task(
    name="classifier",
    spec=KERAS_EXAMPLE,
    labels=("normal", "abnormal"),
    activation="sigmoid",
    unit=1.0,
    metric="auc",
    column="label",
)
SEVERITY = Task(
    name="severity",
    spec=SEVERITY_STUDY,
    labels=tuple(name for name, _ in SEVERITY_CLASSES),
    activation="linear",
    unit=100.0,
    metric="mae",
    column="score",
)
SLICES = Task(
    name="slices",
    spec=SLICE_STUDY,
    labels=("normal", "abnormal"),
    activation="sigmoid",
    unit=1.0,
    metric="auc",
    column="label",
)

TASKS = {task.name: task for task in (CLASSIFIER, SEVERITY, SLICES)}
