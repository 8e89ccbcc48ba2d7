"""What `read_scan` can be told of a folder of DICOM, the command line can be told, too."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from bundle_factory import write_tiny
from command_here import call
from ctedge.phantom import draw_patient, render, write_dicom
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
