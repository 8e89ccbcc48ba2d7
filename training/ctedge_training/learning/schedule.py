"""The learning rate over a training, and when to stop.

Sources: warm-up and cosine decay, Loshchilov and Hutter, 2017; the staircase is the Keras example's
(it never reaches its first step of 100,000 in 100 epochs of 70 steps); the slice classifier's
rate was reduced when the validation accuracy rested, by amounts its authors do not state: here
halved after 3 epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ctedge_training.learning.settings import Settings

if TYPE_CHECKING:
    from ctedge_training.run import HistoryRow

#: Share of all steps over which the learning rate rises, and where it starts and ends.
WARM_UP_SHARE = 0.05
FIRST_RATE = 0.1
LAST_RATE = 0.01

STAIRCASE_STEPS = 100_000
STAIRCASE_DECAY = 0.96

PLATEAU_FACTOR = 0.5
PLATEAU_PATIENCE = 3


def learning_rate(settings: Settings, steps: int) -> Any:
    """What Adam is given: a Keras schedule, or a number that `rate_of_epoch` replaces.

    Args:
        settings: the peak, the schedule and the number of epochs.
        steps: batches an epoch.
    """
    from keras.optimizers import schedules

    if settings.schedule == "plateau":
        return settings.learning_rate
    if settings.schedule == "staircase":
        return schedules.ExponentialDecay(
            settings.learning_rate, STAIRCASE_STEPS, STAIRCASE_DECAY, staircase=True
        )
    total = max(2, steps * settings.epochs)
    warm_up = max(1, round(WARM_UP_SHARE * total))
    return schedules.CosineDecay(
        FIRST_RATE * settings.learning_rate,
        decay_steps=total - warm_up,
        alpha=LAST_RATE,
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )


def rate_of_epoch(settings: Settings, history: Sequence[HistoryRow]) -> float:
    """The rate of the next epoch under "plateau": a function of the history alone.

    So a resumed training goes on with the rate an uninterrupted one would have.
    """
    rate, best, rested = settings.learning_rate, float("-inf"), 0
    for row in history:
        rested = 0 if row["val_accuracy"] > best else rested + 1
        best = max(best, row["val_accuracy"])
        if rested == PLATEAU_PATIENCE:
            rate, rested = rate * PLATEAU_FACTOR, 0
    return rate


def epochs_without_improvement(settings: Settings, history: Sequence[HistoryRow]) -> int:
    """How many epochs ago what `stop_on` names was at its best."""
    if settings.stop_on == "accuracy":
        marks = [-row["val_accuracy"] for row in history]
    else:
        marks = [row["val_loss"] for row in history]
    return len(marks) - 1 - marks.index(min(marks)) if marks else 0
