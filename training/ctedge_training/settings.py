"""The hyper-parameters of one run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from ctedge.errors import DatasetError
from ctedge.spec import PreprocessSpec


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


def parse_grid(text: str) -> tuple[int, int, int]:
    """Read "94x94x46".

    Raises:
        DatasetError: not three whole numbers.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise DatasetError(
            "the grid is not understood", found=repr(text), expected="three sizes, as in 94x94x46"
        )
    first, second, third = (int(part) for part in parts)
    return (first, second, third)


def spec_on_grid(spec: PreprocessSpec, grid: tuple[int, int, int] | None) -> PreprocessSpec:
    """The same contract at another size, under a name that tells so."""
    if grid is None or grid == spec.shape:
        return spec
    return replace(spec, shape=grid, name=f"{spec.name}-{'x'.join(map(str, grid))}")
