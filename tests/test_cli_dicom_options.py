"""What `read_scan` can be told of a folder of DICOM, the command line can be told, too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bundle_factory import write_tiny
from command_here import call
from ctedge.phantom import draw_patient, render, write_dicom, write_nifti
from dicom_factory import edit

pytest.importorskip("scipy", exc_type=ImportError)

FIRST, SECOND = "1.2.3.1", "1.2.3.2"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two series of a chest: one whole of acquisition 1 and 2, one that lacks a slice."""
    folder = tmp_path_factory.mktemp("study")
    phantom = render(draw_patient(0, lesion_share=0.0), shape=(64, 64, 32))
    for name in (FIRST, SECOND):
        for number, path in enumerate(sorted(write_dicom(phantom, folder / name).iterdir())):
            edit(path, SeriesInstanceUID=name, AcquisitionNumber=1 + number // 16)
    sorted((folder / SECOND).iterdir())[9].unlink()
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("bundle") / "tiny.ctedge").path


@pytest.mark.parametrize("command", ["predict", "assess"])
def test_each_option_is_obeyed(study, bundle, command):
    def answer(*options):
        return json.loads(call(command, study, "-m", bundle, "--json", *options).stdout)

    several = answer()["error"]
    assert several["what"].endswith("several series in one folder")
    assert "--series" in several["fix"]
    assert "--select chest" in several["fix"]
    for options in (["--series", FIRST], ["--select", "chest"]):
        assert "error" not in answer(*options)
    assert answer("--series", FIRST, "--acquisition", 2)["quality"]["slices"] == 16
    assert "--on-gap resample" in answer("--series", SECOND)["error"]["fix"]
    filled = answer("--series", SECOND, "--on-gap", "resample")
    assert filled["quality"]["slices"] == 32


@pytest.mark.parametrize("command", ["predict", "assess"])
def test_values_that_are_none_are_wrong_usage(study, command):
    for option in (["--on-gap", "resmaple"], ["--select", "lung"], ["--acquisition", "one"]):
        assert call(command, study, *option).returncode == 2


def test_a_picture_knows_no_series(tmp_path, bundle):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "slice.png")
    said = call("predict", tmp_path / "slice.png", "-m", bundle, "--series", "1.2")
    assert said.returncode == 1
    assert "not DICOM" in said.stderr


@pytest.mark.parametrize("command", ["predict", "assess"])
def test_an_empty_path_is_not_the_working_folder(study, bundle, command, monkeypatch):
    monkeypatch.chdir(study / FIRST)
    said = call(command, "", "-m", bundle)
    assert said.returncode == 1
    assert "the path of the scan is empty" in said.stderr


def test_a_name_does_not_steer_the_terminal(study, bundle):
    moved = (study / FIRST).rename(study / "\x1b[31mred")
    said = call("predict", moved, "-m", bundle)
    moved.rename(study / FIRST)
    assert said.returncode == 0, said.stderr
    assert "\x1b" not in said.stdout
    assert r"\x1b[31mred" in said.stdout


class TestBench:
    """`ctedge bench` reads anew for every answer: what is chosen is chosen each time."""

    #: Of each answer, in ms: a series of 32 files takes many times as long, a scan in memory a
    #: hundredth of it.
    READ = 1.0

    @staticmethod
    def call(*words):
        quick = ("--repeats", 2, "--warm-up", 0, "--device", "cpu", "--runtime", "onnxruntime")
        return call("bench", *words, *quick, "--json", "-")

    @pytest.mark.parametrize(
        ("options", "slices"),
        [
            (["--series", FIRST], 32),
            (["--series", FIRST, "--acquisition", "2"], 16),
            (["--select", "chest"], 32),
            (["--series", SECOND, "--on-gap", "resample"], 32),
        ],
    )
    def test_each_option_is_obeyed_in_every_answer(self, study, bundle, options, slices):
        answer = self.call(bundle, study, *options)
        assert answer.returncode == 0, answer.stderr
        document = json.loads(answer.stdout)
        assert document["input"]["shape"] == [64, 64, slices]
        (only,) = document["runs"]
        stages = {name: stage["samples_ns"] for name, stage in only["stages"].items()}
        assert all(len(samples) == 2 for samples in stages.values())
        assert min(stages["read"]) > self.READ * 1e6
        assert only["first_ms"]["read"] > self.READ
        for place in range(2):
            total = stages["total"][place]
            parts = sum(samples[place] for name, samples in stages.items() if name != "total")
            assert total == pytest.approx(parts, abs=5_000)  # each is rounded to 1000 ns
        said = " ".join(document["command"])
        assert f" SCAN --device cpu --runtime onnxruntime {asked(options)} --repeats 2 " in said
        for secret in (FIRST, SECOND, str(study)):
            assert secret not in answer.stdout

    def test_what_is_not_chosen_is_told_with_the_options_that_choose(self, study, bundle):
        several = self.call(bundle, study)
        assert several.returncode == 1
        assert "several series in one folder" in several.stderr
        assert "`--series UID` of `ctedge predict`, `assess` or `bench`" in several.stderr
        gap = self.call(bundle, study, "--series", SECOND)
        assert "`--on-gap resample` of `ctedge predict`, `assess` or `bench`" in gap.stderr

    def test_what_knows_no_series_is_refused(self, bundle, tmp_path):
        scan = tmp_path / "scan.nii.gz"
        write_nifti(render(draw_patient(0, lesion_share=0.0), shape=(32, 32, 16)), scan)
        for source, named in (((), "the synthetic scan"), ((scan,), str(scan))):
            answer = self.call(bundle, *source, "--series", "1.2")
            assert answer.returncode == 1
            assert f"error: {named}: not DICOM" in answer.stderr

    def test_a_model_for_slices_takes_one_of_a_series(self, study, tmp_path):
        slices = write_tiny(tmp_path / "slices.ctedge", task="slices").path
        for name in (FIRST, SECOND):
            first = sorted((study / name).iterdir())[0]
            (tmp_path / "two").mkdir(exist_ok=True)
            (tmp_path / "two" / f"{name}.dcm").write_bytes(first.read_bytes())
        answer = self.call(slices, tmp_path / "two", "--series", SECOND)
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["input"]["shape"] == [64, 64, 1]
        picture = tmp_path / "slice.png"
        Image.fromarray(np.eye(64, dtype=np.uint8) * 200).save(picture)
        assert self.call(slices, picture).returncode == 0
        assert "not DICOM" in self.call(slices, picture, "--series", "1.2").stderr


def asked(options):
    """Options as a report has them: of a series no UID, which may lead to a patient."""
    return " ".join("UID" if word in (FIRST, SECOND) else word for word in options)
