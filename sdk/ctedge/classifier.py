"""The classifier: is this chest normal or abnormal?"""

from __future__ import annotations

from typing import Any, ClassVar

from ctedge.door import Door
from ctedge.prediction import Prediction


class Classifier(Door[Prediction]):
    """Judges whether a chest CT shows what the bundle's second label names.

    >>> with Classifier.load("pneumonia") as classifier:
    ...     prediction = classifier.predict("scan.nii.gz")
    >>> prediction.label, prediction.probability
    """

    task: ClassVar[str] = "classifier"

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
