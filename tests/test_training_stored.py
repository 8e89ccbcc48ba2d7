"""Volumes as they are stored for a training: those of the SDK, reused, digested, split once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from ctedge.errors import DatasetError
from ctedge.preprocessing import preprocess
from ctedge.readers import read_scan
from ctedge_training.datasets import store
from ctedge_training.datasets.labels import read_labels
from ctedge_training.learning.job import Part
from ctedge_training.learning.settings import spec_on_grid
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from training_factory import GRID, left_over, noisy_scans


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return noisy_scans(tmp_path_factory.getbasetemp())


def test_shuffling_permutes_the_training_answers(data: Path, tmp_path: Path) -> None:
    samples = read_labels(data, SEVERITY)
    volumes = [
        store.Volume(sample=s, scan_sha256="", stored=tmp_path, stored_sha256="", facts={})
        for s in samples
    ]
    part = Part.of(volumes, "train", SEVERITY, SEVERITY.spec)
    permuted = part.shuffled(3).targets
    assert permuted.tolist() != part.targets.tolist()
    assert sorted(permuted) == sorted(part.targets)
    assert permuted.tolist() == part.shuffled(3).targets.tolist()
    assert part.targets.max() <= 1.0


def test_stored_volumes_are_the_sdks_and_are_reused(data: Path, tmp_path: Path) -> None:
    spec = spec_on_grid(SEVERITY.spec, (46, 50, 48))
    samples = read_labels(data, SEVERITY)[:3]
    volumes = store.prepare(samples, spec, tmp_path)
    for volume in volumes:
        expected = preprocess(read_scan(volume.sample.path), spec)
        np.testing.assert_allclose(volume.load(), expected, atol=2.5e-4)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(before) == 6  # each with its record
    assert store.prepare(samples, spec, tmp_path) == volumes
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    volumes[0].stored.write_bytes(volumes[0].stored.read_bytes()[:100])
    store.prepare(samples, spec, tmp_path)
    assert volumes[0].load().shape == spec.shape


def test_the_data_digest_sees_bytes_answers_and_splits_but_no_order(
    data: Path, tmp_path: Path
) -> None:
    volumes = store.prepare(
        read_labels(data, CLASSIFIER)[:3], spec_on_grid(CLASSIFIER.spec, GRID), tmp_path
    )
    digest = store.data_digest(volumes)
    assert store.data_digest(volumes[::-1]) == digest
    assert store.data_digest(volumes[:2]) != digest


def test_one_scan_in_two_splits_is_refused(data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    copy.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (copy / name).write_bytes((data / "synthetic_00.nii.gz").read_bytes())
    (copy / "labels.csv").write_text(
        "path,label,split\na.nii.gz,normal,train\nb.nii.gz,normal,test\n"
    )
    with pytest.raises(DatasetError, match="two splits"):
        store.prepare(
            read_labels(copy, CLASSIFIER), spec_on_grid(CLASSIFIER.spec, GRID), tmp_path / "cache"
        )
    assert left_over(tmp_path) == []
