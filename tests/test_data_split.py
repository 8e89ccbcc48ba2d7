"""Dealing patients out: exact sizes, every class in proportion."""

from __future__ import annotations

from collections import Counter

import pytest

from ctedge_training.datasets.split import stratified


def test_any_table_of_classes_and_splits_adds_up(rng):
    for trial in range(300):
        counts = rng.integers(8, 60, rng.integers(1, 6)).tolist()
        sizes = dict(zip("abcd", (rng.random(rng.integers(1, 5)) + 0.4).tolist(), strict=False))
        groups = {f"{c}-{i}": c for c, count in enumerate(counts) for i in range(count)}
        split = stratified(groups, sizes, trial)
        assert list(split) == list(groups)
        share = {name: size / sum(sizes.values()) for name, size in sizes.items()}
        of_split, cells = Counter(split.values()), Counter((groups[p], split[p]) for p in groups)
        for name in sizes:
            assert abs(of_split[name] - len(groups) * share[name]) < 1
            for c, count in enumerate(counts):
                assert abs(cells[c, name] - count * share[name]) < 2


def test_a_split_of_size_zero_stays_empty_and_odd_sizes_are_refused():
    groups = {"a": 0, "b": 0, "c": 1, "d": 1}
    assert set(stratified(groups, {"train": 1, "test": 1, "validation": 0}, 0).values()) == {
        "train",
        "test",
    }
    for sizes in ({"train": -1.0, "test": 2.0}, {"train": 0.0}, {"train": float("nan")}, {}):
        with pytest.raises(ValueError, match="must not be negative"):
            stratified(groups, sizes, 0)
