"""Preprocessing into an array that is given: any layout, float32 or float16, the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctedge.preprocessing import preprocess, resample
from ctedge.scan import CTScan
from ctedge.spec import KERAS_EXAMPLE

SPEC = replace(KERAS_EXAMPLE, name="small", shape=(20, 18, 12))


@pytest.fixture
def scan(rng: np.random.Generator) -> CTScan:
    return CTScan.from_array(rng.integers(-1000, 800, (40, 36, 24)).astype(np.int16))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("order", ["C", "F", "turned"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_numbers_are_those_of_an_array_of_its_own(
    scan: CTScan, dtype: type, order: str, masked: bool
) -> None:
    spec = replace(SPEC, lungs_only=masked)
    mask = np.arange(scan.shape[0])[:, None, None] % 3 * np.ones(scan.shape) > 0 if masked else None
    alone = resample(scan, spec, lung_mask=mask)
    out = np.full(spec.shape, np.nan, dtype, order="F" if order == "F" else "C")
    out = out[::-1, :, ::-1] if order == "turned" else out
    found = resample(scan, spec, lung_mask=mask, out=out)
    assert found.volume is out
    assert (found.lowest_hu, found.highest_hu) == (alone.lowest_hu, alone.highest_hu)
    assert np.array_equal(out, alone.volume.astype(dtype))
    assert np.array_equal(preprocess(scan, spec, lung_mask=mask), alone.volume)


@pytest.mark.parametrize(
    "out", [np.empty((1, *SPEC.shape), np.float32), np.empty(SPEC.shape, np.float64)]
)
def test_an_array_that_does_not_fit_is_refused(scan: CTScan, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"not float32 or float16 \(20, 18, 12\)"):
        resample(scan, SPEC, out=out)
