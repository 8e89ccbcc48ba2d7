"""The hyper-parameters of one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ctedge.spec import PreprocessSpec

#: Four times "valid convolution of 3, then halve" leaves nothing of fewer voxels.
SMALLEST_AXIS = 46


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides, together with the data, how a training runs.

    Attributes:
        epochs: most epochs to run; the learning rate decays over all of them.
        batch_size: volumes a step.
        learning_rate: the peak, after warm-up and before the cosine decay.
        seed: of initial weights, order, augmentation and dropout.
        patience: epochs without a better validation loss before stopping early.
        grid: voxels per axis in the spec's axis order; None is the spec's own size.
        shuffle_labels: permute the training answers: a control that must learn nothing.
        mixed_precision: compute in bfloat16; the saved network is float32 all the same.
    """

    epochs: int = 30
    batch_size: int = 4
    learning_rate: float = 3e-4
    seed: int = 0
    patience: int = 10
    grid: tuple[int, int, int] | None = None
    shuffle_labels: bool = False
    mixed_precision: bool = False

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }


def parse_sizes(text: str, *, least: int, most: int = 1024) -> tuple[int, int, int]:
    """Read three sizes in voxels, as in "94x94x46".

    Raises:
        ValueError: not three whole numbers between `least` and `most`.
    """
    parts = text.lower().split("x")
    numbers = [int(part) if part.isascii() and part.isdecimal() else 0 for part in parts]
    if len(numbers) != 3 or not all(least <= number <= most for number in numbers):
        raise ValueError(f"{text!r} is not three sizes of {least} to {most}, as in 94x94x46")
    return (numbers[0], numbers[1], numbers[2])


def spec_on_grid(spec: PreprocessSpec, grid: tuple[int, int, int] | None) -> PreprocessSpec:
    """The same contract at another size, under a name that tells so."""
    if grid is None or grid == spec.shape:
        return spec
    return replace(spec, shape=grid, name=f"{spec.name}-{'x'.join(map(str, grid))}")
