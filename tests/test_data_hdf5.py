"""The study's HDF5 files: what is written is read back, and every way a file can be unsound."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ctedge.errors import DatasetError, MissingExtra, OutputError
from ctedge_training.hrct.hdf5 import read_hdf5, write_hdf5
from ctedge_training.tasks import SEVERITY_STUDY_LUNGS

h5py = pytest.importorskip("h5py")

SPEC = dataclasses.replace(SEVERITY_STUDY_LUNGS, name="severity-study-lungs-8x6x5", shape=(8, 6, 5))
NAMES = ["patient-01", "npatient-01", "patient-02"]
LABELS = [1, 0, 1]
SCORES = [52.0, 0.0, 100.0]


@pytest.fixture
def volumes(rng) -> np.ndarray:
    return rng.random((3, *SPEC.shape)).astype(np.float32)


@pytest.fixture
def path(volumes, tmp_path) -> Path:
    return write_hdf5(tmp_path / "train.h5", volumes, LABELS, SCORES, spec=SPEC, names=NAMES)


def test_what_is_written_is_read_back_row_by_row(path, volumes):
    read = read_hdf5(path, spec=SPEC)
    assert (len(read), read.names, read.spec) == (3, tuple(NAMES), SPEC)
    assert read.labels.tolist() == LABELS
    assert read.scores.tolist() == SCORES
    for row in (2, 0, 1):
        volume = read.load(row)
        assert volume.dtype == np.float32
        np.testing.assert_array_equal(volume, volumes[row].astype(np.float16))
    for row in (-1, 3):
        with pytest.raises(IndexError):
            read.load(row)


def test_the_file_holds_what_its_documentation_says(path, volumes):
    with h5py.File(path) as file:
        assert sorted(file) == ["images", "labels", "names", "scores"]
        images = file["images"]
        assert (images.shape, images.dtype) == ((3, 8, 6, 5), np.float16)
        assert (images.chunks, images.compression) == ((1, 8, 6, 5), "gzip")
        assert (file["labels"].dtype, file["scores"].dtype) == (np.uint8, np.float32)
        assert file["names"].asstr()[:].tolist() == NAMES
        assert json.loads(file.attrs["spec"]) == SPEC.to_json()
        assert file.attrs["schema_version"] == 1


def test_the_size_of_the_study(tmp_path):
    volume = np.zeros((64, 128, 128), np.float32)
    volume[20:40, 30:100, 20:110] = 0.25
    path = write_hdf5(
        tmp_path / "full.h5",
        iter([volume]),
        [1],
        [13.5],
        spec=SEVERITY_STUDY_LUNGS,
        names=["patient-01"],
    )
    np.testing.assert_array_equal(read_hdf5(path).load(0), volume)


def test_the_same_input_gives_the_same_bytes(path, volumes, tmp_path):
    twin = write_hdf5(tmp_path / "twin.h5", volumes, LABELS, SCORES, spec=SPEC, names=NAMES)
    assert twin.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [1, 0]}, "3 names, 2 labels, 3 scores"),
        ({"labels": [[1], [0], [1]]}, "unequal numbers"),
        ({"labels": [1, 2, 1]}, r"label of npatient-01(?s:.*)expected: 0 or 1"),
        ({"scores": [52.0, -1.0, 3.0]}, "score of npatient-01"),
        ({"scores": [52.0, 0.0, float("nan")]}, "score of patient-02"),
        ({"scores": [52.0, 0.0, 100.5]}, "score of patient-02"),
        ({"names": ["a", "b", "a"]}, "stands twice"),
        ({"names": [], "labels": [], "scores": []}, "no rows"),
        ({"volumes": 2}, "2 volumes, 3 names"),
        ({"volumes": 4}, "more than 3 volumes, 3 names"),
    ],
)
def test_unsound_answers_are_not_written(tmp_path, volumes, change, message):
    given = {"labels": LABELS, "scores": SCORES, "names": NAMES, "volumes": 3, **change}
    some = np.concatenate([volumes, volumes])[: given.pop("volumes")]
    path = tmp_path / "train.h5"
    with pytest.raises(DatasetError, match=message):
        write_hdf5(path, some, given["labels"], given["scores"], spec=SPEC, names=given["names"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v[:, :, :4], r"npatient-01 has another type or shape(?s:.*)\(8, 6, 4\)"),
        (lambda v: (v * 255).astype(np.uint8), "another type or shape"),
        (lambda v: v * 2, r"values outside 0\.\.1"),
        (lambda v: v - 0.5, r"values outside 0\.\.1"),
        (lambda v: np.where(v == v.max(), np.float32("nan"), v), r"values outside 0\.\.1"),
    ],
)
def test_an_unsound_volume_is_not_written(tmp_path, volumes, spoil, message):
    rows = [volumes[0], spoil(volumes[1]), volumes[2]]
    with pytest.raises(DatasetError, match=message):
        write_hdf5(tmp_path / "train.h5", rows, LABELS, SCORES, spec=SPEC, names=NAMES)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_an_output_error(tmp_path, volumes):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        write_hdf5(tmp_path / "file" / "t.h5", volumes, LABELS, SCORES, spec=SPEC, names=NAMES)


def put(file: h5py.File, name: str, values: object, **more: object) -> None:
    del file[name]
    file.create_dataset(name, data=values, **more)


def put_external(file: h5py.File) -> None:
    raw = Path(file.filename).with_name("raw.bin")
    raw.write_bytes(bytes(3))
    del file["labels"]
    file.create_dataset("labels", (3,), np.uint8, external=[(str(raw), 0, 3)])


def put_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "scores", shape=(3,))
    del file["scores"]
    file.create_virtual_dataset("scores", layout)


def link(name: str, target: object):
    def change(file: h5py.File) -> None:
        file.move(name, f"was_{name}")
        file[name] = target

    return change


def drop(name: str):
    return lambda file: file.__delitem__(name)


SPOILT = {
    "no images": (drop("images"), r"no dataset /images(?s:.*)labels, names, scores"),
    "no names": (drop("names"), "no dataset /names"),
    "a group": (lambda f: (drop("labels")(f), f.create_group("labels")), "/labels is no dataset"),
    "a soft link": (link("images", h5py.SoftLink("/was_images")), "only a link(?s:.*)SoftLink"),
    "an external link": (
        link("images", h5py.ExternalLink("other.h5", "images")),
        "only a link(?s:.*)ExternalLink",
    ),
    "external values": (put_external, "values of /labels lie in other files"),
    "virtual values": (put_virtual, "values of /scores lie in other files"),
    "another shape": (
        lambda f: put(f, "images", f["images"][:, :, :, :4]),
        r"/images has another type or shape(?s:.*)\(3, 8, 6, 4\)",
    ),
    "another type": (
        lambda f: put(f, "images", f["images"][:].astype(np.float32)),
        "/images has another type or shape(?s:.*)float32",
    ),
    "fewer labels": (lambda f: put(f, "labels", f["labels"][:2]), "/labels has another"),
    "integer scores": (lambda f: put(f, "scores", f["scores"][:].astype("u1")), "/scores has"),
    "names that are numbers": (lambda f: put(f, "names", [1, 2, 3]), "/names are no texts"),
    "a label of 7": (lambda f: f["labels"].__setitem__(1, 7), "label of npatient-01"),
    "a score of 101": (lambda f: f["scores"].__setitem__(1, 101), "score of npatient-01"),
    "a name twice": (lambda f: f["names"].__setitem__(1, "patient-01"), "stands twice"),
    "a bright voxel": (
        lambda f: f["images"].__setitem__((1, 0, 0, 0), 1.5),
        r"volume npatient-01 has values outside 0\.\.1",
    ),
    "an infinite voxel": (
        lambda f: f["images"].__setitem__((2, 0, 0, 0), np.inf),
        r"volume patient-02 has values outside 0\.\.1",
    ),
    "a changed voxel": (
        lambda f: f["images"].__setitem__((0, 0, 0, 0), 0.0),
        "not those that were written(?s:.*)SHA-256",
    ),
    "no digest": (lambda f: f.attrs.__delitem__("images_sha256"), "no attribute images_sha256"),
    "another schema": (lambda f: f.attrs.__setitem__("schema_version", 2), "unknown schema"),
    "no schema": (lambda f: f.attrs.__delitem__("schema_version"), "unknown schema"),
    "a broken spec": (lambda f: f.attrs.__setitem__("spec", "{}"), "spec is broken"),
    "a spec that is no JSON": (lambda f: f.attrs.__setitem__("spec", "{"), "spec is broken"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_an_unsound_file_is_refused(path, case):
    change, message = SPOILT[case]
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(DatasetError, match=message):
        read_hdf5(path)


def test_the_integer_files_of_the_study_are_refused_with_the_reason(tmp_path, rng):
    path = tmp_path / "training.h5"
    with h5py.File(path, "w") as file:
        hu = rng.integers(-1024, 1500, (2, 8, 6, 5, 1))
        file.create_dataset("images", hu.shape, h5py.h5t.STD_I32BE, data=hu)
        for name in ("labels", "scores"):
            file.create_dataset(name, (2, 1), h5py.h5t.STD_U8BE, data=[[1], [0]])
    with pytest.raises(DatasetError, match=r"integers(?s:.*)window(?s:.*)doubled HU(?s:.*)DICOM"):
        read_hdf5(path)


def test_another_contract_than_the_wanted_is_refused(path):
    with pytest.raises(DatasetError, match="another preprocessing"):
        read_hdf5(path, spec=SEVERITY_STUDY_LUNGS)


@pytest.mark.parametrize("kept", [0, 7, 0.5, 0.9, -1])
def test_a_truncated_file_is_refused(path, kept):
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if 0 < kept < 1 else kept])
    with pytest.raises(DatasetError, match="not a whole HDF5 file"):
        read_hdf5(path)


def test_no_file_no_hdf5_and_no_h5py(path, tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="no HDF5 file"):
        read_hdf5(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("path,covid,score\n")
    with pytest.raises(DatasetError, match="not a whole HDF5 file"):
        read_hdf5(tmp_path / "text.h5")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"h5py(?s:.*)ctedge\[training\]"):
        read_hdf5(path)


def test_damaged_bytes_never_pass(path, tmp_path, rng):
    sound, data = read_hdf5(path), path.read_bytes()
    refused = 0
    for place in rng.integers(0, len(data), 60).tolist():
        other = bytearray(data)
        other[place] ^= 0xFF
        victim = tmp_path / "damaged.h5"
        victim.write_bytes(other)
        try:
            read = read_hdf5(victim)
        except DatasetError:
            refused += 1
            continue
        for row in range(3):
            np.testing.assert_array_equal(read.load(row), sound.load(row))
    assert refused > 5


def test_a_file_that_changed_after_the_check_is_noticed(path, tmp_path, volumes):
    read = read_hdf5(path)
    shutil.move(path, tmp_path / "away.h5")
    with pytest.raises(DatasetError, match="no HDF5 file"):
        read.load(0)
    write_hdf5(path, volumes[:1], [1], [5.0], spec=SPEC, names=["patient-09"])
    with pytest.raises(DatasetError, match="has changed since it was checked"):
        read.load(0)
