"""What the look at every prediction costs: processor time, since wall time depends on the rest."""

from __future__ import annotations

import time

import pytest

from ctedge import KERAS_EXAMPLE, SEVERITY_STUDY, CTScan, assess
from ctedge.phantom import draw_patient, render
from ctedge.preprocessing import resample
from ctedge.quality import judge

#: The promise, ms.
GLANCE_MS = 3.0

_ROUNDS = 50

SEED = 0


@pytest.fixture(scope="module")
def scan() -> CTScan:
    phantom = render(draw_patient(SEED, lesion_share=0.2), shape=(512, 512, 41))
    return CTScan.from_oriented(phantom.voxels, phantom.affine, source="phantom")


@pytest.mark.parametrize("spec", [KERAS_EXAMPLE, SEVERITY_STUDY], ids=lambda spec: spec.name)
def test_glance(benchmark, scan, spec):
    prepared = resample(scan, spec)
    judge(scan, prepared, spec=spec)
    start = time.process_time()
    for _ in range(_ROUNDS):
        judge(scan, prepared, spec=spec)
    processor_ms = (time.process_time() - start) / _ROUNDS * 1e3
    benchmark.pedantic(judge, (scan, prepared), {"spec": spec}, rounds=_ROUNDS, warmup_rounds=2)
    benchmark.extra_info["processor_ms"] = round(processor_ms, 3)
    assert processor_ms <= GLANCE_MS


def test_assess(benchmark, scan):
    benchmark.pedantic(assess, (scan,), rounds=3, warmup_rounds=1)
