"""Studies of the HRCT study with their lung masks, and what makes of a study another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ctedge.errors import DatasetError
from ctedge.phantom import write_studies
from ctedge.preprocessing import preprocess
from ctedge.readers import read_scan
from ctedge_training.datasets.prepare import prepare_store
from ctedge_training.datasets.source import Source
from ctedge_training.hrct.masks import MaskFiles
from ctedge_training.learning.settings import Settings
from ctedge_training.tasks import CLASSIFIER, SEVERITY
from scan_factory import (
    GRID,
    opened,
    write_labels,
    write_scan,
)

LUNGS = Settings(spec="severity-study-lungs", grid=GRID)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pydicom")
    folder = tmp_path_factory.mktemp("studies")
    write_studies(folder, count=10, seed=4, shape=(40, 36, 18))
    return folder


def test_studies_with_their_masks_serve_both_tasks(studies: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    made = prepare_store(Source(folder=studies, workers=2), store, SEVERITY, LUNGS)
    masks = MaskFiles(folder=studies / "masks")
    for volume in made.volumes:
        scan = read_scan(volume.sample.path)
        mask = masks(volume.sample.name, scan)
        np.testing.assert_allclose(
            volume.load(), preprocess(scan, made.spec, lung_mask=mask), atol=2.5e-4
        )
        assert (volume.load() == 0).mean() > 0.5
    splits = [v.sample.split for v in made.volumes]
    assert (splits.count("train"), splits.count("validation")) == (8, 2)
    classes = opened(store, CLASSIFIER, LUNGS)
    assert classes.labels == ("normal", "abnormal")
    for volume in classes.volumes:
        covid = not volume.sample.name.startswith("npatient")
        assert volume.sample.truth["label"] == volume.sample.answer == float(covid)
        assert (volume.sample.truth["score"] > 0) == covid
        assert volume.sample.patient == volume.sample.name
    shares = {"train": 1.0, "validation": 1.0}
    halves = opened(studies, SEVERITY, LUNGS, shares=shares, cache=store)
    assert [v.sample.split for v in halves.volumes].count("validation") == 5


def test_another_mask_is_another_file_and_none_an_error(studies: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    shutil.copytree(studies / "masks", masks)
    cache = tmp_path / "cache"
    first = opened(studies, SEVERITY, LUNGS, cache=cache)
    kept = opened(studies, SEVERITY, LUNGS, cache=cache, masks=masks)
    assert [v.stored for v in kept.volumes] == [v.stored for v in first.volumes]
    whole = opened(studies, SEVERITY, Settings(grid=GRID), cache=cache)
    assert not {v.stored for v in whole.volumes} & {v.stored for v in first.volumes}
    import nibabel

    path = masks / "patient-01.nii.gz"
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[labels > 0] = 2
    labels[:, :, :4] = 0
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), path)
    changed = opened(studies, SEVERITY, LUNGS, cache=cache, masks=masks)
    differ = [
        a.sample.name
        for a, b in zip(first.volumes, changed.volumes, strict=True)
        if a.stored != b.stored
    ]
    assert differ == ["patient-01"]
    path.unlink()
    with pytest.raises(DatasetError, match="no lung mask for patient-01"):
        opened(studies, SEVERITY, LUNGS, cache=cache, masks=masks)


def test_two_scans_never_share_a_lung_mask(tmp_path: Path) -> None:
    for seed, site in enumerate(("north", "south")):
        write_scan(tmp_path / site / "scan.nii.gz", seed)
    rows = [f"{site}/scan.nii.gz,5,train" for site in ("north", "south")]
    write_labels(tmp_path, "\n".join(["path,score,split", *rows]) + "\n")
    with pytest.raises(DatasetError, match="two scans would take the lung mask 'scan'") as caught:
        opened(tmp_path, SEVERITY, LUNGS)
    assert "north/scan.nii.gz and south/scan.nii.gz" in str(caught.value)


def test_a_changed_slice_of_a_study_is_another_scan(studies: Path, tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    own = tmp_path / "own"
    shutil.copytree(studies, own)
    settings = Settings(grid=GRID)
    before = opened(own, SEVERITY, settings, cache=tmp_path / "cache")
    path = sorted((own / "covid" / "patient-01").iterdir())[3]
    image = pydicom.dcmread(path)
    image.PixelData = np.ascontiguousarray(image.pixel_array[::-1]).tobytes()
    image.save_as(path)
    after = opened(own, SEVERITY, settings, cache=tmp_path / "cache")
    pairs = zip(before.volumes, after.volumes, strict=True)
    assert [a.sample.name for a, b in pairs if a.stored != b.stored] == ["patient-01"]
