"""What a prediction answers: frozen results that say how they came about."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ctedge.quality import PictureQuality, Quality

if TYPE_CHECKING:
    from ctedge.explanation import Explanation
    from ctedge.lungs import AffectedShare

#: Severity classes of the PSG College study: lower bounds of the score, in points of 0-100.
SEVERITY_CLASSES = (
    ("Low", 0.0),
    ("Mild", 20.0),
    ("Moderate", 40.0),
    ("Severe", 60.0),
    ("Critical", 80.0),
)

#: One point of the CT severity index (0-25) per this many points of the score.
POINTS_PER_CTSI = 4


@dataclass(frozen=True, kw_only=True)
class _Result:
    """What every result says of its making.

    Attributes:
        source: the file or folder judged, or "array".
        timings_ms: wall time of each stage in milliseconds: read, preprocess, inference; and total,
            their sum (what it waited for in a batch does not count).
        runtime: runtime, device and precision, for instance "onnxruntime-cpu-fp32".
        model: the bundle's name.
        model_digest: SHA-256 of the bundle's manifest, which covers every byte of the model.
        quality: what was seen of the input.
        explanation: where the answer comes from; None where it was not asked for.
    """

    source: str
    timings_ms: dict[str, float]
    runtime: str
    model: str
    model_digest: str
    quality: Quality | PictureQuality
    explanation: Explanation | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values; of an explanation what it is, without its map."""
        explained = None if self.explanation is None else self.explanation.to_json()
        return {**asdict(replace(self, explanation=None)), "explanation": explained}


@dataclass(frozen=True, kw_only=True)
class Prediction(_Result):
    """A classifier's answer.

    Attributes:
        logit: the network's raw output.
        probability: sigmoid of the logit: probability of the second label.
        threshold: the second label from this probability on. It was chosen on the validation
            scans of the training, and need not be 0.5.
        label: the second label where probability >= threshold, else the first.
        confidences: probability of each label; they add up to 1.
    """

    quality: Quality
    logit: float
    probability: float
    threshold: float
    label: str
    confidences: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class SliceAnswer:
    """What a slice classifier answers for one slice.

    Attributes:
        index: of the slice, 0 the most inferior; 0 for a picture.
        z_mm: where the slice's centre lies along Superior, in mm of the scan's own frame; None
            for a picture, and where nothing states the scan's position.
        logit: the network's raw output.
        probability: sigmoid of the logit: probability of the second label.
        label: the second label where probability >= threshold, else the first.
        explanation: where the answer comes from in this slice, a scan of its own; None where it
            was not asked for.
    """

    index: int
    z_mm: float | None
    logit: float
    probability: float
    label: str
    explanation: Explanation | None = None


@dataclass(frozen=True, kw_only=True)
class SlicesPrediction(_Result):
    """A slice classifier's answers.

    Attributes:
        slices: one answer a slice, in the order asked for; all from inferior to superior where
            none was named. Never empty.
        threshold: the second label from this probability on. It was chosen on the validation
            slices of the training, and need not be 0.5.
    """

    slices: tuple[SliceAnswer, ...]
    threshold: float

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values; of explanations what they are, without their maps."""
        plain = tuple(replace(answer, explanation=None) for answer in self.slices)
        document = _Result.to_json(replace(self, slices=plain))
        for answer, written in zip(self.slices, document["slices"], strict=True):
            if answer.explanation is not None:
                written["explanation"] = answer.explanation.to_json()
        return document

    @property
    def highest(self) -> SliceAnswer:
        """The slice of the highest probability; of equal ones the first."""
        return max(self.slices, key=lambda answer: answer.probability)


@dataclass(frozen=True, kw_only=True)
class SeverityPrediction(_Result):
    """A severity regressor's answer.

    Attributes:
        raw_score: the network's output, in points.
        score: the same, clipped to 0-100.
        clipped: whether clipping changed it.
        category: Low [0, 20), Mild [20, 40), Moderate [40, 60), Severe [60, 80) or
            Critical [80, 100].
        ctsi: CT severity index, 0-25: int(score // 4).
        lungs: volume of each lung and how much of it is dense, so that the score comes with a
            volume; where the scan was assessed, or the network sees the lungs only, and lungs
            were found. None otherwise.
    """

    quality: Quality
    raw_score: float
    score: float
    clipped: bool
    category: str
    ctsi: int
    lungs: AffectedShare | None = None


def label_of(probability: float, threshold: float, labels: tuple[str, ...]) -> str:
    """The second of two labels from the threshold on, else the first."""
    negative, positive = labels
    return positive if probability >= threshold else negative


def severity_category(score: float) -> str:
    """The severity class of a score of 0-100 points."""
    _check_score(score)
    return [name for name, lower in SEVERITY_CLASSES if score >= lower][-1]


def severity_ctsi(score: float) -> int:
    """The CT severity index, 0-25, of a score of 0-100 points."""
    _check_score(score)
    return int(score // POINTS_PER_CTSI)


def _check_score(score: float) -> None:
    if not (math.isfinite(score) and 0.0 <= score <= 100.0):
        raise ValueError(f"a severity score lies between 0 and 100, not {score}")
