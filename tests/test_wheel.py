"""The wheel, installed as a user installs it: alone, in a new environment, on each Python here."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conftest import REPOSITORY
from made_once import made_once
from patience import PATIENCE_S

BUNDLES = ("pneumonia", "severity")

PREDICT = """
import json, sys
from ctedge import Classifier, SeverityRegressor
with Classifier.load("pneumonia") as classifier, SeverityRegressor.load("severity") as regressor:
    a, b = classifier.predict(sys.argv[1]), regressor.predict(sys.argv[1])
names = {name.partition(".")[0] for name in sys.modules}
heavy = {"tensorflow", "keras", "scipy", "onnx", "pydicom"} & names
print(json.dumps([a.probability, b.score, sorted(heavy)]))
"""


@functools.cache
def pythons() -> dict[str, str]:
    """The interpreters to try: this one, and the oldest and newest supported, where found."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in ("3.10", "3.13"):
        for candidate in (shutil.which(f"python{version}"), *roots.glob(f"{version}.*/bin/python")):
            if candidate and works(str(candidate), version):
                found.setdefault(version, str(candidate))
    return found


def works(python: str, version: str) -> bool:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    return answer.stdout.strip() == version


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return next(made_once(tmp_path_factory.getbasetemp(), "dist", build_wheel).glob("*.whl"))


def build_wheel(out: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", out, REPOSITORY]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def patient(tmp_path_factory) -> Path:
    return made_once(tmp_path_factory.getbasetemp(), "synthetic.nii.gz", write_patient)


def write_patient(path: Path) -> None:
    from ctedge.phantom import draw_patient, render, write_nifti

    write_nifti(render(draw_patient(5, lesion_share=0.3), shape=(160, 160, 40)), path)


@pytest.fixture(scope="module")
def expected(patient) -> tuple[float, float]:
    """Probability and score as this environment answers."""
    from ctedge import Classifier, SeverityRegressor

    alike = {"runtime": "onnxruntime", "precision": "fp32"}  # as there, where nothing else is
    with (
        Classifier.load("pneumonia", **alike) as classifier,
        SeverityRegressor.load("severity", **alike) as scorer,
    ):
        return classifier.predict(patient).probability, scorer.predict(patient).score


def test_the_wheel_holds_the_three_packages_and_two_bundles(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "ctedge",
        "ctedge_export",
        "ctedge_training",
    }
    assert "ctedge/py.typed" in names
    models = {name.split("/")[2] for name in names if name.startswith("ctedge/models/")}
    assert models == {f"{bundle}.ctedge" for bundle in BUNDLES}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.parametrize("version", pythons())
def test_it_predicts_in_a_bare_environment(wheel, patient, expected, tmp_path, version):
    create = [pythons()[version], "-m", "venv", "--without-pip", tmp_path / "bare"]
    subprocess.run(create, check=True, timeout=PATIENCE_S)
    python = tmp_path / "bare" / "bin" / "python"
    lock = REPOSITORY / "constraints.txt"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    # Not compiled: most of it is imported by nothing here, and compiling all takes seconds.
    install = [*pip, "install", "-q", "--no-compile", "-c", lock, f"{wheel}[cpu]"]
    subprocess.run(install, check=True, capture_output=True, timeout=PATIENCE_S)
    output = subprocess.check_output(
        [python, "-W", "error", "-c", PREDICT, patient], text=True, timeout=PATIENCE_S
    )
    probability, score, heavy = json.loads(output)
    assert heavy == []
    # Other versions of NumPy and ONNX Runtime sum in another order.
    np.testing.assert_allclose(probability, expected[0], atol=1e-3)
    np.testing.assert_allclose(score, expected[1], atol=0.1)
    ctedge = tmp_path / "bare" / "bin" / "ctedge"
    doctor = subprocess.run(
        [ctedge, "doctor"], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert doctor.returncode == 0, doctor.stdout
    missing = subprocess.run(
        [ctedge, "train", "classifier", "x", "-o", "y"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr
