"""Augmentation: what it moves lands where it should, and what is switched off stays."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("scipy")

from ctedge_training.learning.augment import Augmentation, PublishedRotation, mixup, plane_of
from ctedge_training.learning.rotation import ANGLES_DEGREES, rotate

OFF = Augmentation(window_hu=0, scale=0, shift=0, rotate_degrees=0, noise=0, flip=False)
EVERYTHING = Augmentation()

#: A Gaussian of 4 voxels, moved by linear interpolation: its centre of mass is exact but for
#: its tails at the edges.
CENTRE_TOLERANCE_VOXELS = 0.02
WIDTH_TOLERANCE = 0.01  # of the width itself

#: float32 rounding of values in 0..1 after some operations.
ROUNDING = 1e-6

ORDERS = {"PLS": (40, 44, 36), "SPL": (36, 40, 44), "LSA": (44, 36, 40)}


class Draws:
    """A generator whose uniform draws are known; a generator is an input like any other."""

    def __init__(self, **draws) -> None:
        names = ("low", "high", "zoom", "turn", "first", "second", "third", "noise", "side")
        assert set(draws) <= set(names)
        self._values = np.array([draws.get(name, 0.0) for name in names])

    def uniform(self, low, high, size):
        assert (low, high, size) == (-1.0, 1.0, len(self._values))
        return self._values


def blob(shape, centre, sigma=4.0) -> np.ndarray:
    grids = np.ogrid[tuple(slice(n) for n in shape)]
    square = sum((grid - at) ** 2 for grid, at in zip(grids, centre, strict=True))
    return np.exp(-square / (2 * sigma**2)).astype(np.float32)


def centre_of(volume) -> np.ndarray:
    grids = np.indices(volume.shape)
    return np.array([(grid * volume).sum() / volume.sum() for grid in grids])


def width_of(volume) -> np.ndarray:
    centre, grids = centre_of(volume), np.indices(volume.shape)
    squares = [((grid - at) ** 2 * volume).sum() for grid, at in zip(grids, centre, strict=True)]
    return np.sqrt(np.array(squares) / volume.sum())


@pytest.fixture
def volume(rng) -> np.ndarray:
    return rng.random((24, 20, 16), dtype=np.float32)


RECIPES = [EVERYTHING, OFF, replace(EVERYTHING, axes="SPL"), PublishedRotation(plane=(1, 2))]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_copy_in_0_to_1_and_the_same_bits_for_the_same_seed(recipe, volume) -> None:
    kept = volume.copy()
    for seed in range(12):
        changed = recipe.apply(volume, np.random.default_rng(seed))
        assert changed.dtype == np.float32
        assert changed.shape == volume.shape
        assert changed.flags.c_contiguous
        assert changed.min() >= 0
        assert changed.max() <= 1
        assert not np.shares_memory(changed, volume)
        again = recipe.apply(volume, np.random.default_rng(seed))
        np.testing.assert_array_equal(changed, again)
    np.testing.assert_array_equal(volume, kept)


def test_another_seed_is_another_volume(volume) -> None:
    seen = {EVERYTHING.apply(volume, np.random.default_rng(n)).tobytes() for n in range(10)}
    assert len(seen) == 10


def test_all_switched_off_is_the_identity(volume) -> None:
    for seed in range(10):
        np.testing.assert_array_equal(OFF.apply(volume, np.random.default_rng(seed)), volume)


@pytest.mark.parametrize("part", ["window_hu", "scale", "shift", "rotate_degrees", "noise", "flip"])
def test_each_part_alone_changes_something(part, volume) -> None:
    alone = replace(OFF, **{part: getattr(EVERYTHING, part)})
    changed = [alone.apply(volume, np.random.default_rng(seed)) for seed in range(10)]
    assert any(np.abs(one - volume).max() > 1e-3 for one in changed)


def test_switching_a_part_off_leaves_the_draws_of_the_others(volume) -> None:
    flipped = replace(OFF, flip=True)
    both = replace(OFF, flip=True, window_hu=100)
    for seed in range(10):
        windowed = replace(OFF, window_hu=100).apply(volume, np.random.default_rng(seed))
        first = flipped.apply(windowed, np.random.default_rng(seed))
        np.testing.assert_array_equal(first, both.apply(volume, np.random.default_rng(seed)))


@pytest.mark.parametrize(("axes", "side"), [("PLS", 1), ("SPL", 2), ("LSA", 0), ("RPI", 0)])
def test_the_flip_mirrors_left_and_right(axes, side, volume) -> None:
    recipe = replace(OFF, axes=axes, flip=True)
    np.testing.assert_array_equal(recipe.apply(volume, Draws(side=-0.5)), np.flip(volume, side))
    np.testing.assert_array_equal(recipe.apply(volume, Draws(side=0.5)), volume)


def test_half_of_the_volumes_are_flipped(volume) -> None:
    recipe = replace(OFF, flip=True)
    kept = sum(
        np.array_equal(recipe.apply(volume, np.random.default_rng(n)), volume) for n in range(400)
    )
    assert 160 <= kept <= 240  # 4 standard deviations


@pytest.mark.parametrize("axes", ORDERS)
def test_a_shift_moves_a_blob_along_the_axes_as_given(axes) -> None:
    shape = ORDERS[axes]
    middle = (np.array(shape) - 1) / 2
    recipe = replace(OFF, axes=axes, shift=0.1)
    changed = recipe.apply(blob(shape, middle), Draws(first=1.0, second=-0.5, third=0.25))
    expected = middle + 0.1 * np.array([1.0, -0.5, 0.25]) * shape
    assert np.abs(centre_of(changed) - expected).max() <= CENTRE_TOLERANCE_VOXELS


def test_a_whole_shift_is_exact_and_repeats_the_edges(volume) -> None:
    changed = replace(OFF, shift=0.25).apply(volume, Draws(second=1.0))  # 5 of 20 columns
    np.testing.assert_allclose(changed[:, 5:], volume[:, :15], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(changed[:, :5], volume[:, :1].repeat(5, 1), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("axes", ORDERS)
def test_zoom_grows_a_blob_and_its_way_from_the_centre(axes) -> None:
    shape = ORDERS[axes]
    middle = (np.array(shape) - 1) / 2
    away = np.array([3.0, -4.0, 2.0])
    original = blob(shape, middle + away, sigma=3.0)
    for draw, zoom in ((1.0, 1.2), (-1.0, 0.8)):
        changed = replace(OFF, axes=axes, scale=0.2).apply(original, Draws(zoom=draw))
        assert np.abs(centre_of(changed) - middle - zoom * away).max() <= CENTRE_TOLERANCE_VOXELS
        # linear interpolation of step h adds at most h²/4 to the variance of a blob
        widths = width_of(changed) / (zoom * width_of(original))
        assert np.abs(widths - 1).max() <= WIDTH_TOLERANCE + 0.25 / 9 / 2


def test_zoom_and_shift_of_a_ramp_are_exact_inside() -> None:
    shape = (24, 20, 16)
    rows, columns, slices = np.indices(shape)
    ramp = (0.2 + (rows + 2.0 * columns + 3.0 * slices) / 250).astype(np.float32)
    changed = replace(OFF, scale=0.1, shift=0.1).apply(ramp, Draws(zoom=1.0, first=1.0, third=-1.0))
    back = [
        (grid - (n - 1) / 2 - move) / 1.1 + (n - 1) / 2
        for grid, n, move in zip((rows, columns, slices), shape, (2.4, 0, -1.6), strict=True)
    ]
    inside = np.all([(at >= 0) & (at <= n - 1) for at, n in zip(back, shape, strict=True)], axis=0)
    expected = 0.2 + (back[0] + 2 * back[1] + 3 * back[2]) / 250
    assert inside.mean() > 0.7
    assert np.abs(changed - expected)[inside].max() <= ROUNDING


@pytest.mark.parametrize("axes", ORDERS)
def test_a_turn_stays_in_the_axial_plane(axes) -> None:
    shape = ORDERS[axes]
    row, column = plane_of(axes)
    middle = (np.array(shape) - 1) / 2
    away = np.zeros(3)
    away[row] = 10.0
    recipe = replace(OFF, axes=axes, rotate_degrees=30)
    found = centre_of(recipe.apply(blob(shape, middle + away, 2.5), Draws(turn=1.0))) - middle
    (depth,) = {0, 1, 2} - {row, column}
    assert found[depth] == pytest.approx(0, abs=CENTRE_TOLERANCE_VOXELS)
    assert found[row] == pytest.approx(10 * np.cos(np.pi / 6), abs=CENTRE_TOLERANCE_VOXELS)
    assert abs(found[column]) == pytest.approx(5, abs=CENTRE_TOLERANCE_VOXELS)


def test_the_turn_has_the_sense_of_the_published_one() -> None:
    original = blob((40, 44, 6), (12, 20, 2.5))
    turned = replace(OFF, rotate_degrees=20).apply(original, Draws(turn=1.0))
    assert np.abs(centre_of(turned) - centre_of(rotate(original, 20))).max() <= 0.1


def test_the_window_is_an_affine_map_of_hounsfield_units(volume) -> None:
    changed = replace(OFF, window_hu=100).apply(volume, Draws(low=1.0, high=-0.5))
    hounsfield = volume * 1400.0 - 1000.0
    expected = np.clip((hounsfield + 900) / (350 + 900), 0, 1)
    assert np.abs(changed - expected).max() <= ROUNDING
    wider = replace(OFF, window_hu=30).apply(volume, Draws(low=-1.0, high=1.0))
    assert wider.min() == pytest.approx((volume.min() * 1400 + 30) / 1460, abs=ROUNDING)


def test_noise_has_the_deviation_that_was_drawn() -> None:
    grey = np.full((32, 32, 32), 0.5, np.float32)
    recipe = replace(OFF, noise=0.04)
    deviations = [recipe.apply(grey, np.random.default_rng(n)).std() for n in range(60)]
    assert max(deviations) <= 0.041
    assert np.mean(deviations) == pytest.approx(0.02, abs=0.006)  # 4 standard errors


@pytest.mark.parametrize(
    "fields",
    [{"scale": 1.0}, {"shift": -0.1}, {"window_hu": 700}, {"noise": float("nan")}],
    ids=str,
)
def test_absurd_amounts_are_refused(fields) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        Augmentation(**fields)


def test_planes_follow_the_order_of_the_axes() -> None:
    assert plane_of("PLS") == (0, 1)
    assert plane_of("SPL") == (1, 2)
    assert plane_of("LAS") == (1, 0)
    for axes in ("PL", "PPS", "XYZ", "PLSS", ""):
        with pytest.raises(ValueError, match="three sides"):
            Augmentation(axes=axes)


def test_each_published_angle_occurs(rng) -> None:
    volume = rng.random((12, 12, 2), dtype=np.float32)
    by_bits = {
        np.clip(rotate(volume, degrees), 0, 1).tobytes(): degrees for degrees in ANGLES_DEGREES
    }
    assert len(by_bits) == 6
    counts = dict.fromkeys(ANGLES_DEGREES, 0)
    for seed in range(600):
        changed = PublishedRotation().apply(volume, np.random.default_rng(seed))
        counts[by_bits[changed.tobytes()]] += 1
    assert min(counts.values()) >= 63  # 100 expected, 4 standard deviations below
    assert max(counts.values()) <= 137


def test_recipes_are_written_as_json() -> None:
    for recipe in RECIPES:
        document = recipe.to_json()
        assert json.loads(json.dumps(document)) == document
    document = EVERYTHING.to_json()
    assert document.pop("kind") == "augmentation"
    assert Augmentation(**document) == EVERYTHING
    assert PublishedRotation(plane=(1, 2)).to_json() == {
        "kind": "published-rotation",
        "plane": [1, 2],
        "angles_degrees": [-20, -10, -5, 5, 10, 20],
    }


def test_mixup_mixes_volumes_and_targets_alike(rng) -> None:
    targets = rng.random(8, dtype=np.float32)
    volumes = np.ones((8, 3, 4, 5), np.float32) * targets[:, None, None, None]
    kept = volumes.copy()
    mixed, answers = mixup(volumes, targets, np.random.default_rng(3), 0.4)
    assert mixed.shape == volumes.shape
    assert mixed.dtype == answers.dtype == np.float32
    # each volume holds its target, so a mixture holds the mixed target
    np.testing.assert_allclose(mixed, np.broadcast_to(answers[:, None, None, None], mixed.shape))
    assert np.abs(answers - targets).max() > 0.01
    np.testing.assert_array_equal(volumes, kept)
    again = mixup(volumes, targets, np.random.default_rng(3), 0.4)
    np.testing.assert_array_equal(mixed, again[0])
    np.testing.assert_array_equal(answers, again[1])


def test_mixup_keeps_to_the_batch_and_can_be_switched_off(rng) -> None:
    targets = np.array([0, 1, 1, 0, 1], np.float32)
    volumes = rng.random((5, 4, 4, 4), dtype=np.float32)
    shares = []
    for seed in range(300):
        mixed, answers = mixup(volumes, targets, np.random.default_rng(seed), 1.0)
        assert 0 <= answers.min() <= answers.max() <= 1
        assert volumes.min() <= mixed.min() <= mixed.max() <= volumes.max()
        shares.extend(answers[(answers > 0) & (answers < 1)])
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)  # Beta(1, 1) is even
    assert np.std(shares) == pytest.approx(1 / np.sqrt(12), abs=0.03)
    same, answers = mixup(volumes, targets, np.random.default_rng(0), 0)
    np.testing.assert_array_equal(same, volumes)
    np.testing.assert_array_equal(answers, targets)
    assert not np.shares_memory(same, volumes)


def test_mixup_refuses_what_it_cannot_mix() -> None:
    volumes = np.zeros((4, 2, 2, 2), np.float32)
    for targets, alpha in ((np.zeros(3), 0.2), (np.zeros((4, 1)), 0.2), (np.zeros(4), -1.0)):
        with pytest.raises(ValueError, match="mixup needs"):
            mixup(volumes, targets.astype(np.float32), np.random.default_rng(0), alpha)
