"""The classifier: is this chest normal or abnormal?"""

from __future__ import annotations

from typing import Any, ClassVar

from ctedge.doors.volume_door import VolumeDoor
from ctedge.prediction import Prediction, label_of


class Classifier(VolumeDoor[Prediction]):
    """Judges whether a chest CT shows what the bundle's second label names.

    >>> with Classifier.load("pneumonia") as classifier:
    ...     prediction = classifier.predict("scan.nii.gz")
    >>> prediction.label, prediction.probability, prediction.threshold
    """

    task: ClassVar[str] = "classifier"

    def _result(self, outputs: dict[str, float], context: dict[str, Any]) -> Prediction:
        negative, positive = self.bundle.labels
        probability, threshold = outputs["probability"], self.bundle.threshold
        return Prediction(
            logit=outputs["logit"],
            probability=probability,
            threshold=threshold,
            label=label_of(probability, threshold, self.bundle.labels),
            confidences={negative: 1.0 - probability, positive: probability},
            **context,
        )
