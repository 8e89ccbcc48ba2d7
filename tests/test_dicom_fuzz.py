"""Damaged DICOM ends in a scan or in one of our errors, never in anything else."""

from __future__ import annotations

import time

import pytest

from fuzz_cases import DICOM_KINDS, can_be_made, damaged, series_of
from fuzz_readers import LIMIT_S, outcome, source_of

#: Damaged series of each kind; `tests/fuzz_readers.py` tries as many as there is time for.
ROUNDS = 40


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("kind", DICOM_KINDS)
def test_damage_ends_in_a_scan_or_in_one_of_our_errors(tmp_path, kind):
    if not can_be_made(kind):
        pytest.skip(f"no encoder of {kind} is installed")
    assert outcome(source_of(series_of(kind), tmp_path), deep=True) == "scan"
    for seed in range(ROUNDS):
        began = time.process_time()
        outcome(source_of(damaged(kind, seed), tmp_path), deep=seed % 4 == 0)
        assert time.process_time() - began < LIMIT_S, f"seed {seed}"
