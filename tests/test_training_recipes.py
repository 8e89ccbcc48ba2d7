"""The named trainings, the learning rate over them, and when they stop."""

from __future__ import annotations

import dataclasses

import pytest

from ctedge.errors import DatasetError
from ctedge_training import recipes
from ctedge_training.learning.augment import PublishedRotation
from ctedge_training.learning.schedule import (
    epochs_without_improvement,
    learning_rate,
    rate_of_epoch,
)
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES, TASKS


def test_the_published_training_is_as_published() -> None:
    settings = recipes.preset("published", CLASSIFIER)
    assert (settings.epochs, settings.batch_size, settings.patience) == (100, 2, 15)
    assert settings.stop_on == "accuracy"
    assert settings.augmentation == PublishedRotation(plane=(0, 1))
    assert settings.augmentation.to_json()["angles_degrees"] == [-20, -10, -5, 5, 10, 20]
    own = (settings.mixup, settings.label_smoothing, settings.averaging)
    assert own == (0.0, 0.0, 0.0)
    ours = [settings.balanced, settings.prior, settings.settle, settings.calibrate]
    assert ours == [False] * 4
    assert recipes.preset("writeup", CLASSIFIER) == dataclasses.replace(
        settings, epochs=15, preset="writeup"
    )


def test_the_studys_training_sees_lungs_only() -> None:
    for task, stop_on in ((CLASSIFIER, "accuracy"), (SEVERITY, "loss")):
        settings = recipes.preset("hrct", task)
        assert settings.spec == "severity-study-lungs"
        assert (settings.batch_size, settings.epochs, settings.patience) == (2, 100, 15)
        assert (settings.stop_on, settings.augmentation) == (stop_on, None)


def test_the_slice_training_is_as_published() -> None:
    settings = recipes.preset("published", SLICES)
    assert (settings.epochs, settings.learning_rate) == (20, 5e-5)
    assert settings.schedule == "plateau"


def test_augmentation_follows_the_axes_of_the_volumes() -> None:
    turned = recipes.turned_to(recipes.PUBLISHED, SEVERITY.spec)
    assert turned.augmentation == PublishedRotation(plane=(1, 2))
    assert recipes.preset("ctedge", CLASSIFIER).to_json()["augmentation"]["axes"] == "PLS"
    assert recipes.preset("ctedge", SEVERITY).to_json()["augmentation"]["axes"] == "SPL"


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_preset_can_be_named(task) -> None:
    for name in recipes.names(task):
        assert isinstance(recipes.preset(name, task), Settings)
    with pytest.raises(DatasetError, match="no preset 'best'"):
        recipes.preset("best", task)


def test_the_plateau_halves_the_rate_after_three_epochs_at_rest() -> None:
    settings = recipes.preset("published", SLICES)
    marks = [0.5, 0.6, 0.6, 0.55, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]
    history = [{"val_accuracy": mark} for mark in marks]
    rates = [rate_of_epoch(settings, history[:n]) / 5e-5 for n in range(len(marks) + 1)]
    assert rates == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_patience_counts_from_the_first_best_epoch() -> None:
    history = [
        {"val_accuracy": a, "val_loss": v}
        for a, v in ((0.5, 0.9), (0.8, 0.7), (0.8, 0.6), (0.7, 0.65))
    ]
    assert epochs_without_improvement(Settings(stop_on="accuracy"), history) == 2
    assert epochs_without_improvement(Settings(stop_on="loss"), history) == 1
    assert epochs_without_improvement(Settings(), []) == 0


def test_the_staircase_and_the_cosine() -> None:
    pytest.importorskip("keras")
    stairs = learning_rate(recipes.PUBLISHED, 70)
    assert [float(stairs(step)) for step in (0, 99_999, 100_000)] == pytest.approx(
        [1e-4, 1e-4, 0.96e-4]
    )
    cosine = learning_rate(Settings(epochs=10, learning_rate=1e-3), 100)
    assert float(cosine(0)) == pytest.approx(1e-4)
    assert float(cosine(50)) == pytest.approx(1e-3)
    assert float(cosine(1000)) == pytest.approx(1e-5)
