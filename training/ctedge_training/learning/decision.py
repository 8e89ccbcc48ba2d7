"""From scores to decisions: a temperature that calibrates, a threshold for a stated sensitivity.

All are chosen on the validation split, never on the test split. The temperature divides the logit
(Guo et al., "On Calibration of Modern Neural Networks", 2017); of a score, a straight line leads
from what was predicted to what was true. Both are folded into the last layer, so that the saved
network answers calibrated and nothing has to be applied afterwards.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ctedge_training.judging.calibration import (
    fit_line,
    fit_temperature,
    threshold_for_sensitivity,
)
from ctedge_training.judging.metrics import THRESHOLD
from ctedge_training.learning.job import Job

if TYPE_CHECKING:
    import keras

#: Probabilities are kept this far from 0 and 1 when a logit is made of them, and thresholds too:
#: at 0 or 1 everything or nothing would be called.
_EPSILON = 1e-7


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How a network's answer becomes a label.

    Attributes:
        temperature: what the logits were divided by; 1 where nothing was fitted.
        slope, intercept: the line that scores were moved along; 1 and 0 where none was fitted.
        threshold: the positive label is given from this probability on; None for a score.
        sensitivity: what the threshold was chosen for, on the validation split; None is the
            plain 0.5.
    """

    temperature: float
    threshold: float | None
    sensitivity: float | None
    slope: float = 1.0
    intercept: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The decision as plain JSON values."""
        return asdict(self)


def decide(network: keras.Model, job: Job) -> Decision:
    """Calibrate the network in place, and choose its threshold, as the settings ask.

    Args:
        network: in full units, as it will be saved.
        job: its validation split is used, and nothing else.
    """
    if not job.task.binary:
        return _decide_score(network, job)
    from ctedge_training.learning.fit import predict

    temperature, threshold = 1.0, THRESHOLD
    labels = job.validation.classes
    if job.settings.calibrate:
        said = predict(network, job.validation, job.settings.batch_size).astype(np.float64)
        said = np.clip(said, _EPSILON, 1.0 - _EPSILON)
        temperature = fit_temperature(np.log(said / (1.0 - said)), labels)
        output = network.get_layer("output")
        output.set_weights([array / np.float32(temperature) for array in output.get_weights()])
    if job.settings.sensitivity is not None:
        calibrated = predict(network, job.validation, job.settings.batch_size)
        found = threshold_for_sensitivity(labels, calibrated, job.settings.sensitivity)
        threshold = min(max(found, _EPSILON), 1.0 - _EPSILON)
    job.reporter.say(f"temperature {temperature:.3f}, threshold {threshold:.3f}")
    return Decision(
        temperature=temperature, threshold=threshold, sensitivity=job.settings.sensitivity
    )


def _decide_score(network: keras.Model, job: Job) -> Decision:
    from ctedge_training.learning.fit import predict

    slope, intercept = 1.0, 0.0
    if job.settings.calibrate:
        said = predict(network, job.validation, job.settings.batch_size)
        scores = job.validation.targets * job.task.unit
        slope, intercept = fit_line(said, scores)
        kernel, bias = network.get_layer("output").get_weights()
        network.get_layer("output").set_weights(
            [kernel * np.float32(slope), bias * np.float32(slope) + np.float32(intercept)]
        )
        job.reporter.say(f"calibrated: {slope:.3f} of the score and {intercept:+.2f} points")
    return Decision(
        temperature=1.0, threshold=None, sensitivity=None, slope=slope, intercept=intercept
    )
