"""The severity regressor: how much of the lungs is affected, in points of 0-100?"""

from __future__ import annotations

from typing import Any, ClassVar

from ctedge.doors.volume_door import VolumeDoor
from ctedge.prediction import SeverityPrediction, severity_category, severity_ctsi


class SeverityRegressor(VolumeDoor[SeverityPrediction]):
    """Scores the affected share of the lungs, with its class and CT severity index.

    With `assess=True`, and always for a network that sees the lungs only, the answer also holds
    the volume of each lung and its share of ground glass and denser tissue, by thresholds.

    >>> with SeverityRegressor.load("severity") as regressor:
    ...     prediction = regressor.predict("scan.nii.gz")
    >>> prediction.score, prediction.category, prediction.ctsi
    """

    task: ClassVar[str] = "severity"
    measures_lungs: ClassVar[bool] = True

    def _result(self, outputs: dict[str, float], context: dict[str, Any]) -> SeverityPrediction:
        raw = outputs["score"]
        score = min(max(raw, 0.0), 100.0)
        return SeverityPrediction(
            raw_score=raw,
            score=score,
            clipped=score != raw,
            category=severity_category(score),
            ctsi=severity_ctsi(score),
            **context,
        )
