"""Which scans stand in which subgroup, and what is said of each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctedge_training.judging.metrics import metrics_of
from ctedge_training.judging.subgroups import subgroup_table
from ctedge_training.tasks import CLASSIFIER, SEVERITY, SLICES


def facts(z_mm: float = 1.0, xy_mm: float = 0.7, slices: int = 60, **more: Any) -> dict[str, Any]:
    return {"spacing_mm": (xy_mm, xy_mm, z_mm), "shape": (512, 512, slices), **more}


def members(table: list[dict[str, Any]], by: str) -> dict[str, int]:
    return {row["group"]: row["count"] for row in table if row["by"] == by}


def table_of(all_facts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    count = len(all_facts)
    truth = np.arange(count) % 2
    return subgroup_table(CLASSIFIER, truth, np.linspace(0, 1, count), all_facts)


def test_a_bound_belongs_to_the_group_below_it() -> None:
    nearly_two = float(np.nextafter(np.float32(2.0), np.float32(3.0)))
    spacings = [0.5, 2.0, nearly_two, 2.1, 4.0, 5.0, 6.0, 8.0]
    table = table_of([facts(z_mm=z) for z in spacings])
    assert members(table, "slice spacing") == {
        "≤ 2 mm": 3,
        "> 2 to 4 mm": 2,
        "> 4 to 6 mm": 2,
        "> 6 mm": 1,
    }
    table = table_of([facts(slices=n) for n in (16, 50, 51, 400, 401, 900)])
    assert members(table, "number of slices") == {
        "≤ 50": 2,
        "> 50 to 100": 1,
        "> 200 to 400": 1,
        "> 400": 2,
    }
    table = table_of([facts(xy_mm=n) for n in (0.5, 0.7, 0.75, 0.98)])
    assert members(table, "pixel size") == {
        "≤ 0.6 mm": 1,
        "> 0.6 to 0.7 mm": 1,
        "> 0.7 to 0.8 mm": 1,
        "> 0.8 mm": 1,
    }


def test_each_group_has_the_metrics_of_its_scans(rng: np.random.Generator) -> None:
    truth, said = rng.integers(0, 2, 60), rng.uniform(size=60)
    sites = ["east" if index % 3 else "west" for index in range(60)]
    table = subgroup_table(
        CLASSIFIER, truth, said, [facts(site=site) for site in sites], 0.3, seed=2
    )
    row = next(row for row in table if row["group"] == "west")
    west = np.array(sites) == "west"
    wanted = metrics_of(CLASSIFIER, truth[west], said[west], threshold=0.3, seed=2)
    assert row["metrics"] == {name: wanted[name] for name in ("auc", "sensitivity", "specificity")}
    assert (row["by"], row["count"], row["few"]) == ("site", 20, False)


def test_severity_and_patients(rng: np.random.Generator) -> None:
    truth = rng.uniform(0, 100, 24)
    said = truth + rng.normal(0, 9, 24)
    patients = [str(index // 2) for index in range(24)]
    (row,) = [
        row
        for row in subgroup_table(SEVERITY, truth, said, [facts()] * 24, groups=patients)
        if row["by"] == "slice spacing"
    ]
    wanted = metrics_of(SEVERITY, truth, said, groups=patients)
    assert row["metrics"] == {name: wanted[name] for name in ("mae", "within_one_class")}


def test_small_groups_are_flagged_and_one_class_is_undefined() -> None:
    table = subgroup_table(
        CLASSIFIER,
        [0] * 9 + [1] * 10,
        [0.4] * 19,
        [facts(site="a")] * 9 + [facts(site="b")] * 10,
    )
    first, second = (row for row in table if row["by"] == "site")
    assert (first["few"], second["few"]) == (True, False)
    assert first["metrics"]["auc"] is None
    assert first["metrics"]["sensitivity"] is None
    assert first["metrics"]["specificity"]["value"] == 1.0


def test_columns_with_two_to_eight_values_are_groupings() -> None:
    rows = [
        facts(
            sex="FM"[n % 2], site="one", name=f"n{n}", eight=str(n % 8), gap=["x", "y", ""][n % 3]
        )
        for n in range(18)
    ]
    table = table_of(rows)
    groupings = set(dict.fromkeys(row["by"] for row in table))
    assert groupings >= {"sex", "eight", "gap"}
    assert not groupings & {"site", "name", "kernel"}
    assert members(table, "gap") == {"x": 6, "y": 6, "unknown": 6}


def test_what_is_judged_is_no_grouping() -> None:
    rows = [facts(label="ab"[n % 2], split="tv"[n % 2], patient="pq"[n % 2]) for n in range(6)]
    assert {row["by"] for row in table_of(rows)} == {
        "slice spacing",
        "pixel size",
        "number of slices",
    }


def test_rare_kernels_are_pooled() -> None:
    names = [f"K{n}" for n in range(9) for _ in range(10 - n)]
    found = members(table_of([facts(kernel=name) for name in names] + [facts()]), "kernel")
    assert found == {**{f"K{n}": 10 - n for n in range(7)}, "other": 3 + 2, "unknown": 1}


def test_scans_of_which_nothing_is_known() -> None:
    assert table_of([{}, {}]) == []
    table = table_of([{}, facts()])
    assert members(table, "slice spacing") == {"≤ 2 mm": 1, "unknown": 1}


def test_pictures_and_columns_that_borrow_a_name() -> None:
    said = [0.2, 0.8]
    assert subgroup_table(SLICES, [0, 1], said, [{"shape": [224, 224]}] * 2) == []
    assert subgroup_table(SLICES, [0, 1], said, [{"spacing_mm": "5"}, {"shape": "a x b"}]) == []


def test_facts_that_do_not_pair_up() -> None:
    with pytest.raises(ValueError, match="facts of 1 scan for 2 answers"):
        subgroup_table(CLASSIFIER, [0, 1], [0.1, 0.2], [facts()])
