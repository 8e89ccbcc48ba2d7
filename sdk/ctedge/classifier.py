"""The classifier: is this chest normal or abnormal?"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ctedge.door import Door
from ctedge.prediction import Prediction

#: exp() of more than this overflows; the sigmoid is 0 or 1 to the last bit long before.
_STEEP = 700.0

#: The runtime's sigmoid is float32, perhaps approximated; more is another function.
_SIGMOID_TOLERANCE = 1e-3


class Classifier(Door[Prediction]):
    """Judges whether a chest CT shows what the bundle's second label names.

    >>> with Classifier.load("pneumonia") as classifier:
    ...     prediction = classifier.predict("scan.nii.gz")
    >>> prediction.label, prediction.probability
    """

    task: ClassVar[str] = "classifier"

    def _plausible(self, outputs: dict[str, float]) -> bool:
        if not super()._plausible(outputs):
            return False
        logit = min(max(outputs["logit"], -_STEEP), _STEEP)
        return abs(outputs["probability"] - 1.0 / (1.0 + math.exp(-logit))) <= _SIGMOID_TOLERANCE

    def _result(self, outputs: dict[str, float], context: dict[str, Any]) -> Prediction:
        negative, positive = self.bundle.labels
        probability = outputs["probability"]
        return Prediction(
            logit=outputs["logit"],
            probability=probability,
            label=positive if probability >= 0.5 else negative,
            confidences={negative: 1.0 - probability, positive: probability},
            **context,
        )
