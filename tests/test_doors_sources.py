"""What is given to a door as several scans: none of them, one that is too large, one too many."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from bundle_factory import write_tiny
from ctedge import (
    Classifier,
    CTScan,
    InferenceFailed,
    InputError,
    MissingExtra,
    ScanNotFound,
    SeverityRegressor,
    SliceClassifier,
)

KINDS = [Classifier, SeverityRegressor, SliceClassifier]


@pytest.fixture(params=KINDS, ids=[kind.task for kind in KINDS])
def door(request, tmp_path):
    labels = list("abcde") if request.param is SeverityRegressor else ["normal", "abnormal"]
    bundle = write_tiny(tmp_path / "tiny.ctedge", task=request.param.task, labels=labels)
    with request.param.load(bundle.path, device="cpu", runtime="onnxruntime") as opened:
        yield opened


@pytest.fixture
def scan(rng):
    return rng.integers(-1000, 800, (20, 20, 16)).astype(np.int16)


def test_one_scan_is_not_taken_for_its_letters_or_planes(door, scan, tmp_path):
    held = CTScan.from_oriented(scan, np.eye(4), source="memory")
    path = tmp_path / "scan.nii.gz"
    for one in (str(path), bytes(path), path, held, scan, np.stack([scan, scan])):
        for many in (door.predict_batch, door.predict_iter):
            for errors in ("raise", "return"):
                with pytest.raises(InputError, match="several scans are asked for") as met:
                    many(one, errors=errors)
                assert type(one).__name__ in met.value.found
                assert "give a list" in met.value.fix
    assert len(door.predict_batch((held, scan))) == 2
    assert door.predict_batch([]) == []


def test_a_scan_too_large_for_the_memory_leaves_the_others_their_answers(door, scan):
    """A pebibyte in one plane, without one of memory: every machine refuses to look at it all."""
    pytest.importorskip("scipy", exc_type=ImportError)
    levels = np.linspace(-1000, 900, 20, dtype=np.int16)
    huge = np.broadcast_to(levels, (1 << 44, 16, 20))  # few rows of it are read before that
    first, refused, last = door.predict_batch([scan, huge, scan], assess=True, errors="return")
    assert type(first) is type(last) is not InputError
    assert "not enough memory" in str(refused)
    assert "ahead=0" in refused.fix
    with pytest.raises(InputError, match="not enough memory"):
        door.predict(huge, assess=True)


def test_a_package_that_is_missing_is_no_scans_failure(door, scan, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "scipy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    answers = door.predict_iter(["gone.nii.gz", scan, scan], assess=True, errors="return")
    assert isinstance(next(answers), ScanNotFound)
    with pytest.raises(MissingExtra, match="scipy"):
        next(answers)
    assert list(answers) == []


@pytest.mark.parametrize(
    "source", [None, b"scan.nii.gz", object()], ids=["None", "bytes", "object"]
)
def test_what_is_no_scan_is_named_by_its_type(door, source):
    with pytest.raises(InputError, match=type(source).__name__):
        door.predict(source)


@pytest.mark.parametrize("kind", [str, Path, np.array])
def test_a_list_of_paths_is_no_scan(door, tmp_path, kind):
    paths = [str(tmp_path / f"{number}.dcm") for number in range(75)]
    given = kind(paths) if kind is np.array else [kind(path) for path in paths]
    for predict in (door.predict, CTScan.from_array):
        with pytest.raises(InputError, match="no scan but a list of 75 paths") as met:
            predict(given)
        assert "predict_batch" in met.value.fix
        assert "read_scan(files)" in met.value.fix


def test_a_list_of_scans_is_no_scan(door, scan):
    with pytest.raises(InputError, match="no scan but a list of 1 object"):
        door.predict([CTScan.from_array(scan)])


def test_scans_of_different_sizes_are_no_scan(tmp_path, scan):
    bundle = write_tiny(tmp_path / "tiny.ctedge")
    with (
        Classifier.load(bundle.path, device="cpu", runtime="onnxruntime") as door,
        pytest.raises(InputError, match="three axes"),
    ):
        door.predict([scan, scan[..., :9]])


@pytest.mark.parametrize("errors", ["raise", "return"])
def test_a_closed_model_reads_no_scan(door, scan, tmp_path, errors):
    door.close()
    for sources in ([], [scan], [tmp_path / "not-there.nii.gz"]):
        with pytest.raises(InferenceFailed, match="was closed"):
            list(door.predict_iter(sources, errors=errors))
