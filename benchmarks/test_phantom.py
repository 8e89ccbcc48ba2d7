"""A full-size synthetic patient, on one core."""

from __future__ import annotations

import os

import pytest

from ctedge.phantom import draw_patient, render

FULL_SIZE, FULL_SIZE_S = (512, 512, 40), 2.0
SMALL = (128, 128, 64)
SEED = 3


@pytest.fixture
def one_core():
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    yield
    os.sched_setaffinity(0, usable)


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("shape", [FULL_SIZE, SMALL], ids=str)
def test_render(benchmark, shape):
    patient = draw_patient(SEED, lesion_share=0.2)
    benchmark.pedantic(lambda: render(patient, shape=shape), rounds=5, warmup_rounds=1)
    if shape == FULL_SIZE:  # the other is for a trial on whatever machine
        assert benchmark.stats.stats.median <= FULL_SIZE_S
