"""Damaged NIfTI ends in a scan or in one of our errors, never in anything else."""

from __future__ import annotations

import time

import pytest

from fuzz_cases import NIFTI_KINDS, damaged
from fuzz_readers import LIMIT_S, outcome, source_of

#: Damaged files of each kind; `tests/fuzz_readers.py` tries as many as there is time for.
ROUNDS = 250


@pytest.mark.parametrize("kind", NIFTI_KINDS)
def test_damage_ends_in_a_scan_or_in_one_of_our_errors(tmp_path, kind):
    said = set()
    for seed in range(ROUNDS):
        began = time.process_time()
        said.add(outcome(source_of(damaged(kind, seed), tmp_path), deep=seed % 4 == 0))
        assert time.process_time() - began < LIMIT_S, f"seed {seed}"
    assert "UnreadableScan" in said
    assert ("scan" in said) == (kind != "pair")  # voxels in a second file are not read
