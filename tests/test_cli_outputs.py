"""What a command writes never takes the place of what it reads, and a slip is told as what it is.

Nothing here is judged: refusals come before any work.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("pydicom", exc_type=ImportError)

from bundle_factory import write_tiny
from command_here import call
from ctedge import Classifier
from ctedge.engines.machine import line_that_installs
from ctedge.errors import InvalidBundle
from ctedge.phantom import draw_patient, render, write_dicom
from folders import contents

#: Its error says that the outputs were found good: they are looked at first.
NOWHERE = "nowhere.ctedge"

MAPS = {"--heatmap": "scan.nii.gz", "--overlay": "scan.png"}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    phantom = render(draw_patient(0, lesion_share=0.0), shape=(16, 16, 8))
    return write_dicom(phantom, tmp_path_factory.mktemp("study") / "series").parent


@pytest.mark.parametrize("way", ["same", "spelling", "folder link", "link", "linked", "hard link"])
@pytest.mark.parametrize("option", MAPS)
def test_a_map_does_not_take_the_place_of_what_is_judged(tmp_path, monkeypatch, option, way):
    monkeypatch.chdir(tmp_path)
    scan = output = Path(MAPS[option])
    scan.write_bytes(b"kept")
    if way == "spelling":
        output = tmp_path / "." / scan
    elif way == "folder link":
        Path("link").symlink_to(tmp_path, target_is_directory=True)
        output = Path("link") / scan
    elif way != "same":
        output = Path(f"other.{scan.name}")
        os.link(scan, output) if way == "hard link" else output.symlink_to(scan)
    if way == "linked":  # the link is read, and what it leads to would be written
        scan, output = output, scan
    before = contents(tmp_path)
    answer = call("predict", scan, option, output, "-m", NOWHERE)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"error: {option} and SCAN name one file"), answer.stderr
    assert f"name another file for {option}; nothing was done yet" in answer.stderr
    assert contents(tmp_path) == before
    other = call("predict", scan, option, f"third.{scan.name}", "-m", NOWHERE)
    assert "there is no bundle" in other.stderr
    assert contents(tmp_path) == before


def test_a_map_is_not_drawn_over_a_real_scan(tmp_path):
    """With the model that would answer: the refusal alone keeps the scan."""
    from ctedge.phantom import write_nifti

    phantom = render(draw_patient(0, lesion_share=0.0), shape=(32, 32, 16))
    scan = write_nifti(phantom, tmp_path / "scan.nii.gz")
    before = scan.read_bytes()
    answer = call("predict", scan, "--heatmap", scan, "-m", "pneumonia")
    assert scan.read_bytes() == before
    assert answer.returncode == 2


def test_a_map_cannot_stand_where_nothing_can_be_written(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("kept")
    for option, name in MAPS.items():
        answer = call("predict", "scan.nii", option, taken / name, "-m", NOWHERE)
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: cannot write "), answer.stderr


@pytest.mark.parametrize(
    "command", [["bench", NOWHERE, "{scan}", "--json"], ["predict", "{scan}", "--heatmap"]]
)
def test_no_slice_of_the_folder_that_is_read_is_replaced(study, command):
    words = [word.format(scan=study) for word in command]
    words += ["-m", NOWHERE] if words[0] == "predict" else []
    option = command[-1]
    before = contents(study)
    (first, *_) = sorted(study.rglob("*.dcm"))
    for place in (first, study / "new" / ".." / first.relative_to(study)):
        at = words.index(option) + 1
        answer = call(*words[:at], place, *words[at:])
        assert answer.returncode == 2
        assert answer.stderr.startswith(f"error: {option} names a file of SCAN"), answer.stderr
    kept = study / "notes.nii.gz"  # lies there, and is no slice
    kept.write_bytes(b"mine")
    try:
        answer = call(*words[:at], kept, *words[at:])
        assert "there is no bundle" in answer.stderr
    finally:
        kept.unlink()
    assert contents(study) == before


@pytest.mark.parametrize("way", ["inside", "deeper", "folder link", "a member", "shipped"])
@pytest.mark.parametrize("option", ["--json", "--plot", *MAPS])
def test_nothing_is_put_into_the_bundle_that_answers(tmp_path, monkeypatch, option, way):
    folder = write_tiny(tmp_path / "tiny.ctedge").path
    name = {"--json": "bench.json", "--plot": "bench.png", **MAPS}[option]
    bundle, output = folder, folder / name
    if way == "deeper":
        output = folder / "golden" / "new" / name
    elif way == "folder link":
        (tmp_path / "link").symlink_to(folder, target_is_directory=True)
        output = tmp_path / "link" / name
    elif way == "a member":
        output = folder / "model.onnx"
    elif way == "shipped":
        monkeypatch.setattr("ctedge.bundle.files._SHIPPED", tmp_path)
        bundle = "tiny"
    before = sorted(folder.rglob("*")), contents(folder)
    words = ["predict", "scan.nii", "-m"] if option in MAPS else ["bench"]
    answer = call(*words, bundle, option, output)
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"error: {option} names a file inside of the bundle {bundle}")
    assert f"name another file for {option}; nothing was done yet" in answer.stderr
    assert (sorted(folder.rglob("*")), contents(folder)) == before


@pytest.mark.parametrize("form", ["not there.nii.gz", "scan.nii", "folder", "slice"])
def test_a_forgotten_bundle_is_told_as_that(study, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.nii").write_bytes(b"")
    (tmp_path / "folder").symlink_to(study)
    (first, *_) = sorted(study.rglob("*.dcm"))
    scan = str(first) if form == "slice" else form
    answer = call("bench", scan)
    assert answer.returncode == 2
    quoted = f"'{scan}'" if " " in scan else scan
    assert f"write `ctedge bench pneumonia {quoted}`" in " ".join(answer.stderr.split())


def test_a_bundle_that_holds_a_slice_is_no_scan(study, tmp_path):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    (bundle / "golden" / "stray.dcm").write_bytes(next(study.rglob("*.dcm")).read_bytes())
    answer = call("bench", bundle)
    assert answer.returncode == 1
    assert "other files than its manifest names" in answer.stderr


@pytest.mark.parametrize("holds", ["nothing", "a scan", "a digest"])
def test_a_folder_of_something_else_is_no_damaged_bundle(tmp_path, holds):
    folder = tmp_path / "ok"
    folder.mkdir()
    if holds != "nothing":
        (folder / {"a scan": "scan.nii", "a digest": "manifest.sha256"}[holds]).write_text("")
    with pytest.raises(InvalidBundle, match="ok is no bundle") as caught:
        Classifier.load(folder)
    assert caught.value.found == "it holds no manifest.json"
    assert "export" not in str(caught.value)
    for command in (["bench"], ["predict", "scan.nii", "-m"]):
        answer = call(*command, folder)
        assert answer.returncode == 1
        assert "holds no manifest.json" in answer.stderr


def test_a_scan_named_as_the_model_is_no_archive(tmp_path):
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"")
    answer = call("predict", scan, "-m", scan)
    assert answer.returncode == 1
    assert "name a bundle here" in answer.stderr
    assert "unpack" not in answer.stderr


def test_only_tensorrt_itself_comes_with_jetpack():
    assert "on a Jetson" in line_that_installs("tensorrt")
    assert line_that_installs("tensorrt-rtx") == 'pip install "ctedge[tensorrt-rtx]"'


def test_inspect_shows_nothing_empty_and_nothing_of_python(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    answer = call("inspect", "pneumonia")
    assert answer.returncode == 0, answer.stderr
    lines = [line.strip() for line in answer.stdout.splitlines()]
    manifest = json.loads(call("inspect", "pneumonia", "--json").stdout)
    gates = manifest["gates"]
    assert gates["structural"]["figures"] == {}
    assert gates["structural"]["broken"] == []
    assert lines.count("passed: yes") == sum(gate["passed"] is True for gate in gates.values())
    assert lines.count("figures") == sum(bool(gate.get("figures")) for gate in gates.values())
    assert "" not in lines[: lines.index("gates       maps")]
    for raw in ("[]", "{}", "True", "False", "None", "broken"):
        assert raw not in answer.stdout


@pytest.mark.parametrize(("count", "said"), [(1, "1 file, 1 slice of"), (2, "2 files, 2 slices")])
def test_one_is_not_told_as_several(study, tmp_path, count, said):
    for path in sorted(study.rglob("*.dcm"))[:count]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "notes.txt").write_text("not DICOM")
    listed = call("dicom", "list", tmp_path).stdout
    assert said in listed
    assert "1 file is no CT slice:" in listed


def test_one_finding_is_not_told_as_several(study, tmp_path):
    pytest.importorskip("dicomanonymizer", exc_type=ImportError)
    (first, *_) = sorted(study.rglob("*.dcm"))
    (tmp_path / "00001.dcm").write_bytes(first.read_bytes()[:600])
    answer = call("dicom", "check", tmp_path, "--workers", 1)
    assert answer.stdout.splitlines()[-1:] == ["1 finding"], answer.stdout


@pytest.mark.parametrize("command", ["assess", "dicom list", "dicom check", "dicom anonymize"])
def test_one_other_file_is_not_told_as_several(tmp_path, command):
    if command.endswith(("check", "anonymize")):
        pytest.importorskip("dicomanonymizer", exc_type=ImportError)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "notes.txt").write_text("not DICOM")
    words = [*command.split(), folder, *([tmp_path / "out"] if "anonymize" in command else [])]
    answer = call(*words)
    assert answer.returncode == 1
    assert "found:    1 other file\n" in answer.stderr


def test_one_file_of_a_series_is_not_told_as_several(tmp_path):
    for seed in range(2):
        phantom = render(draw_patient(seed, lesion_share=0.0), shape=(16, 16, 2))
        folder = write_dicom(phantom, tmp_path / str(seed))
    sorted(folder.rglob("*.dcm"))[0].unlink()
    answer = call("assess", tmp_path)
    assert "(1 file)" in answer.stderr
    assert "(2 files)" in answer.stderr


def test_no_name_in_an_error_becomes_a_picture(tmp_path):
    answer = call("predict", tmp_path / "a:x:[b]:100:.nii")
    assert answer.returncode == 1
    assert "a:x:[b]:100:.nii: no such file" in answer.stderr
