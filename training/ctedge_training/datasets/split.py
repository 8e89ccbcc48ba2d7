"""Dealing patients out to splits so that each split keeps the proportions of the classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import TypeVar

import numpy as np

from ctedge.errors import DatasetError, counted

Class = TypeVar("Class", bound=Hashable)


def stratified(
    groups: Mapping[str, Class],
    sizes: Mapping[str, float],
    seed: int,
    *,
    order: Sequence[Class] | None = None,
) -> dict[str, str]:
    """Deal patients out at random, the same share of every class to every split.

    The sizes of the splits are exact by largest remainder. Of each class a split takes the whole
    part of its share; what remains goes, one patient at a time, where the remainder is largest
    and both the class and the split have room.

    Args:
        groups: the class of each patient. The order of the items does not matter.
        sizes: how large each split is in proportion to the others: counts or fractions. A split
            of size 0 stays empty.
        seed: of the deal.
        order: of the classes, for the dice; None sorts them.

    Returns:
        The split of each patient, in the order of `groups`.

    Raises:
        DatasetError: a split would hold no patient of some class.
        ValueError: a negative or infinite size, or no size above 0.
    """
    if not all(math.isfinite(size) and size >= 0 for size in sizes.values()) or not any(
        sizes.values()
    ):
        raise ValueError(f"sizes of splits must not be negative, one above 0; got {dict(sizes)}")
    # Exact fractions: a share that rounding put below a whole number would lose a patient.
    total = sum(map(Fraction, sizes.values()))
    shares = {split: Fraction(size) / total for split, size in sizes.items() if size > 0}
    counts = Counter(groups.values())
    classes = sorted(counts, key=repr if order is None else order.index)
    table = _table([counts[name] for name in classes], list(shares.values()))
    _refuse_empty(table, classes, list(shares))
    rng = np.random.default_rng(seed)
    dealt: dict[str, str] = {}
    for name, row in zip(classes, table, strict=True):
        patients = sorted(patient for patient, its in groups.items() if its == name)
        places = [split for split, n in zip(shares, row, strict=True) for _ in range(n)]
        for index, split in zip(rng.permutation(len(patients)), places, strict=True):
            dealt[patients[index]] = split
    return {patient: dealt[patient] for patient in groups}


def _table(rows: Sequence[int], shares: Sequence[Fraction]) -> list[list[int]]:
    """How many patients of each class (row) each split (column) takes."""
    wanted = [[n * share for share in shares] for n in rows]
    table = [[math.floor(cell) for cell in row] for row in wanted]
    room = _largest_remainder(sum(rows), shares)
    room = [size - sum(row[column] for row in table) for column, size in enumerate(room)]
    left = [n - sum(row) for n, row in zip(rows, table, strict=True)]
    remainders = sorted(
        (table[row][column] - wanted[row][column], row, column)
        for row in range(len(rows))
        for column in range(len(shares))
    )
    while any(left):  # a second pass is rare: a remainder had no room, and another takes it
        for _, row, column in remainders:
            if left[row] > 0 and room[column] > 0:
                table[row][column] += 1
                left[row] -= 1
                room[column] -= 1
    return table


def _largest_remainder(total: int, shares: Sequence[Fraction]) -> list[int]:
    """Whole numbers in the proportion of the shares (Hamilton's method); they add up to total."""
    wanted = [total * share for share in shares]
    sizes = [math.floor(size) for size in wanted]
    order = sorted(range(len(shares)), key=lambda index: sizes[index] - wanted[index])
    for index in order[: total - sum(sizes)]:
        sizes[index] += 1
    return sizes


def _refuse_empty(
    table: Sequence[Sequence[int]], classes: Sequence[object], splits: Sequence[str]
) -> None:
    for name, row in zip(classes, table, strict=True):
        for split, n in zip(splits, row, strict=True):
            if n == 0:
                raise DatasetError(
                    f"the split {split!r} would hold no patient of the class {name!r}",
                    found=f"{counted(sum(row), 'patient')} of this class for {len(splits)} splits",
                    expected="every class in every split",
                    fix=f"add patients of this class, or make the split {split!r} larger",
                )
    if not table:
        raise DatasetError("no patients to split", fix="add patients to the table")
