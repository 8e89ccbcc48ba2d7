"""The hyper-parameters of one run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ctedge.spec import PreprocessSpec, Spec

if TYPE_CHECKING:
    from ctedge_training.learning.augment import Augmentation, PublishedRotation

#: Four times "valid convolution of 3, then halve" leaves nothing of fewer voxels.
SMALLEST_AXIS = 46

#: DenseNet121 halves five times; fewer pixels leave one place, and nothing to average.
SMALLEST_SIDE = 64

Schedule = Literal["cosine", "staircase", "plateau"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides, together with the data, how a training runs.

    The defaults are the plainest training: `ctedge_training.recipes` has the named ones.

    Attributes:
        epochs: most epochs to run; "cosine" decays over all of them.
        batch_size: volumes a step.
        learning_rate: Adam's, at its peak.
        schedule: "cosine" is warm-up and cosine decay; "staircase" is times 0.96 every 100,000
            steps; "plateau" halves it when the validation accuracy rests.
        stop_on: what has to improve; "accuracy" is the validation accuracy.
        patience: epochs without improvement before stopping early.
        augmentation: random changes of the training volumes; None leaves them as they are.
        mixup: alpha of the Beta distribution that mixes pairs (Zhang et al., 2018); 0 is off.
        label_smoothing: answers 0 and 1 become s / 2 and 1 - s / 2; for classifiers.
        averaging: decay of the exponential moving average of the weights, which is what is
            validated and saved (Polyak and Juditsky, 1992); 0 is off.
        balanced: draw every class equally often, the rare ones repeatedly.
        prior: start the output at the mean of the training answers.
        settle: take the BatchNorm statistics over whole passes, see `weights.recalibrate`.
        keep_statistics: BatchNorm works with the statistics of the start, in training too.
        calibrate: fit a temperature (of scores: a line) on the validation split, and fold it into
            the last layer.
        sensitivity: choose the decision threshold for this sensitivity on the validation split;
            None is a threshold of 0.5.
        seed: of initial weights, order, augmentation and dropout.
        spec: name of the preprocessing contract; None is the task's own.
        grid: size of the input in the spec's axis order; None is the spec's own.
        shuffle_labels: permute the training answers: a control that must learn nothing.
        mixed_precision: compute in bfloat16; the saved network is float32 all the same.
        data_parallel: split every batch over all devices.
        preset: the named training that these began as, for the record.
    """

    epochs: int = 30
    batch_size: int = 4
    learning_rate: float = 3e-4
    schedule: Schedule = "cosine"
    stop_on: Literal["loss", "accuracy"] = "loss"
    patience: int = 10
    augmentation: Augmentation | PublishedRotation | None = None
    mixup: float = 0.0
    label_smoothing: float = 0.0
    averaging: float = 0.0
    balanced: bool = False
    prior: bool = True
    settle: bool = True
    keep_statistics: bool = False
    calibrate: bool = False
    sensitivity: float | None = None
    seed: int = 0
    spec: str | None = None
    grid: tuple[int, ...] | None = None
    shuffle_labels: bool = False
    mixed_precision: bool = False
    data_parallel: bool = False
    preset: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "augmentation"
        }
        plain = {
            key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
        }
        return plain | {
            "augmentation": None if self.augmentation is None else self.augmentation.to_json()
        }


def parse_sizes(text: str, *, least: int, count: int = 3, most: int = 1024) -> tuple[int, ...]:
    """Read sizes in voxels, as in "94x94x46".

    Raises:
        ValueError: not `count` whole numbers between `least` and `most`.
    """
    parts = text.lower().split("x")
    numbers = [int(part) if part.isascii() and part.isdecimal() else 0 for part in parts]
    if len(numbers) != count or not all(least <= number <= most for number in numbers):
        raise ValueError(f"{text!r} is not {count} sizes of {least} to {most}, as in 94x94x46")
    return tuple(numbers)


def spec_on_grid(spec: Spec, grid: tuple[int, ...] | None) -> Spec:
    """The same contract at another size, under a name that tells so."""
    if grid is None or grid == spec.shape:
        return spec
    name = f"{spec.name}-{'x'.join(map(str, grid))}"
    if isinstance(spec, PreprocessSpec):
        depth, rows, columns = grid
        return replace(spec, shape=(depth, rows, columns), name=name)
    rows, columns = grid
    return replace(spec, shape=(rows, columns), name=name)
