"""Ranges of activations: what the methods make of distributions whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from ctedge_export.gates.cases import calibration_phantoms, gate_phantoms
from ctedge_export.gates.inputs import gate_inputs
from ctedge_export.precision import calibration
from ctedge_export.precision.calibration import Histogram
from precision_factory import SPEC


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram.empty()
    for values in parts:
        histogram.add(values.astype(np.float32))
    return histogram


def test_a_histogram_grows_without_losing_a_count() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.exponential(scale, 1000) for scale in (1, 30, 0.1, 500)]
    histogram = histogram_of(*parts, np.zeros(10))
    whole = np.concatenate(parts).astype(np.float32)
    assert histogram.counts.sum() == np.count_nonzero(whole)
    assert histogram.largest == whole.max() <= histogram.top
    expected, _ = np.histogram(whole, bins=len(histogram.counts), range=(0, histogram.top))
    assert np.abs(np.cumsum(histogram.counts) - np.cumsum(expected)).max() <= 2


def test_outliers_move_min_max_alone() -> None:
    values = np.random.default_rng(2).normal(0, 1, 200_000)
    values[:3] = 80
    histogram = histogram_of(values)
    assert calibration.min_max(histogram) == 80
    # The two-sided 99.99 % quantile of a normal distribution is 3.9; one bin is 0.04.
    assert calibration.percentile(histogram) == pytest.approx(3.9, abs=0.3)
    # 127 levels for a normal distribution: published optima lie between 3.5 and 5 deviations.
    assert 3 < calibration.entropy(histogram) < 6
    # Three values cut in half weigh more than finer levels for all.
    assert 60 < calibration.error(histogram) <= 80


def test_the_smallest_error_may_put_a_common_value_on_a_level() -> None:
    """Air fills half of a scan, with one value; the range that holds it exactly is the best."""
    common = 0.1234
    values = np.append(np.full(50_000, common), np.linspace(0, 1, 1000))
    found = calibration.error(histogram_of(values))
    level = common / (found / 255)
    assert abs(level - round(level)) < 0.15  # at random a quarter on average
    assert found > 0.5


def test_each_channel_has_a_range_and_a_dead_one_a_little() -> None:
    rng = np.random.default_rng(4)
    samples = np.stack([rng.uniform(0, 1, 4000), rng.uniform(0, 9, 4000), np.zeros(4000)])
    largest = samples.max(axis=1).astype(np.float32)
    for method in calibration.METHODS:
        found = calibration.channel_ranges(method, samples.astype(np.float32), largest)
        assert found[:2] == pytest.approx([1, 9], rel=0.03)
        assert 0 < found[2] < 0.5
        zeros = np.zeros((2, 5), np.float32)
        assert calibration.channel_ranges(method, zeros, zeros[:, 0]).tolist() == [1, 1]


def test_a_uniform_distribution_is_not_clipped() -> None:
    histogram = histogram_of(np.random.default_rng(3).uniform(0, 1, 200_000))
    for find in calibration.METHODS.values():
        assert find(histogram) == pytest.approx(1, abs=0.02)


def test_a_dead_tensor_has_a_range() -> None:
    for find in calibration.METHODS.values():
        assert find(histogram_of(np.zeros(100))) == 1.0


def test_calibration_sees_varied_scans_and_none_of_a_gate() -> None:
    shown = calibration_phantoms(SPEC)
    gates = [*gate_inputs(SPEC), *(case.shown for case in gate_phantoms(SPEC))]
    assert len(shown) == len({one.levels.tobytes() for one in shown}) == 32
    assert not {one.name for one in shown} & {one.name for one in gates}
    assert not {one.levels.tobytes() for one in shown} & {one.levels.tobytes() for one in gates}
    # Two levels alone, of a chest or of noise: four of them.
    assert sum(len(np.unique(one.levels)) == 2 for one in shown) == 4
    assert calibration_phantoms(SPEC) is shown
