"""What stands in a batch: a function of seed, epoch and index, whoever makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ctedge.spec import IMAGENET_DEVIATION, IMAGENET_MEAN, SLICE_STUDY
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.store import store_array
from ctedge_training.datasets.volume import Volume
from ctedge_training.learning.augment import Augmentation
from ctedge_training.learning.batches import Plan, balanced, shuffled

SHAPE = (6, 5, 4)


def volumes_in(folder: Path, rng: np.random.Generator, shape: tuple[int, ...]) -> list[Volume]:
    return [
        store_array(
            Sample(name=f"{number}", path=folder, answer=float(number % 2), split="train"),
            rng.random(shape, dtype=np.float32),
            folder,
        )
        for number in range(5)
    ]


@pytest.fixture
def plan(tmp_path: Path, rng: np.random.Generator) -> Plan:
    volumes = volumes_in(tmp_path, rng, SHAPE)
    return Plan(
        volumes=volumes,
        targets=np.arange(5, dtype=np.float32),
        order=np.arange(5),
        batch_size=2,
    )


def passed(plan: Plan) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    batches = [plan.work(index).make() for index in range(len(plan))]
    inputs, targets = zip(*batches, strict=True)
    return np.concatenate(inputs), np.concatenate(targets)[:, 0]


def test_a_plain_pass_is_the_volumes_in_order(plan: Plan) -> None:
    inputs, targets = passed(plan)
    assert [len(plan.work(index).stored) for index in range(3)] == [2, 2, 1]
    assert inputs.shape == (5, *SHAPE, 1)
    assert (inputs.dtype, targets.dtype) == (np.float32, np.float32)
    assert targets.tolist() == [0, 1, 2, 3, 4]
    for row, volume in zip(inputs, plan.volumes, strict=True):
        np.testing.assert_array_equal(row[..., 0], volume.load())


def test_batches_follow_seed_and_epoch_alone(plan: Plan) -> None:
    def epoch(seed: tuple[int, int]) -> Plan:
        augmentation = Augmentation()
        order = shuffled(5, seed)
        return replace(plan, order=order, seed=seed, augmentation=augmentation, mixup=0.2)

    first, again, later = (passed(epoch(seed)) for seed in ((1, 1), (1, 1), (1, 2)))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], later[0])
    assert first[0].min() >= 0.0
    assert first[0].max() <= 1.0
    alone = epoch((1, 1)).work(1).make()
    np.testing.assert_array_equal(alone[0], first[0][2:4])


def test_a_volume_that_comes_twice_is_changed_in_two_ways(plan: Plan) -> None:
    twice = replace(plan, order=np.array([3, 3]), augmentation=Augmentation(), seed=(0, 1))
    inputs, _ = twice.work(0).make()
    assert not np.array_equal(inputs[0], inputs[1])


def test_label_smoothing_moves_the_answers_towards_each_other(plan: Plan) -> None:
    smoothed = replace(plan, targets=np.array([0, 1, 1, 0, 1], np.float32), label_smoothing=0.1)
    np.testing.assert_allclose(passed(smoothed)[1], [0.05, 0.95, 0.95, 0.05, 0.95])


def test_mixup_mixes_volumes_and_answers_alike(plan: Plan) -> None:
    # Each volume is filled with its answer, so the mixed volume must be filled with the mixed one.
    mixed = replace(plan, mixup=1.0, batch_size=5, seed=(4, 2))
    inputs, targets = mixed.work(0).make()
    volumes = np.stack([volume.load() for volume in plan.volumes])
    for row, target in zip(inputs[..., 0], targets[:, 0], strict=True):
        candidates = [
            share * volumes[i] + (1 - share) * volumes[j]
            for i in range(5)
            for j in range(5)
            for share in [(target - j) / (i - j) if i != j else 1.0]
            if 0 <= share <= 1
        ]
        assert min(float(np.abs(row - found).max()) for found in candidates) < 1e-5
    assert not np.allclose(sorted(targets[:, 0]), np.arange(5))


def test_slices_get_three_channels(tmp_path: Path, rng: np.random.Generator) -> None:
    spec = replace(SLICE_STUDY, shape=(8, 9), mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)
    volumes = volumes_in(tmp_path, rng, (8, 9))
    plan = Plan(
        volumes=volumes,
        targets=np.zeros(5, np.float32),
        order=np.arange(5),
        batch_size=5,
        slices=spec,
    )
    inputs, _ = plan.work(0).make()
    assert inputs.shape == (5, 8, 9, 3)
    expected = (volumes[2].load() - IMAGENET_MEAN[1]) / IMAGENET_DEVIATION[1]
    np.testing.assert_allclose(inputs[2, ..., 1], expected, rtol=1e-5)


def test_balanced_order_shows_every_class_equally_often() -> None:
    classes = np.array([0] * 10 + [1] * 3 + [2])
    order = balanced(classes, (0, 1))
    assert np.bincount(classes[order]).tolist() == [10, 10, 10]
    assert set(order) == set(range(14))
    assert not np.array_equal(order, balanced(classes, (0, 2)))
    np.testing.assert_array_equal(order, balanced(classes, (0, 1)))


def test_other_processes_make_the_same_batches(plan: Plan) -> None:
    pytest.importorskip("keras")
    from ctedge_training.learning.feeding import Feeder

    with Feeder(1) as feeder, Feeder(0) as here:
        made, expected = feeder.batches(plan), here.batches(plan)
        assert len(made) == len(expected) == 3
        for index in (0, 1, 0, 1, 2):  # Keras reads the first ones twice
            np.testing.assert_array_equal(made[index][0], expected[index][0])
            np.testing.assert_array_equal(made[index][1], expected[index][1])
        assert made.waited_s > 0.0
