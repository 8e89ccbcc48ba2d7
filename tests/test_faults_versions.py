"""A runtime's library of another major version: refused before it is imported, and said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx", exc_type=ImportError)

from bundle_factory import write_tiny
from conftest import REPOSITORY
from ctedge.runtimes.versions import DISTRIBUTIONS, VERSIONS, misfit

#: Loads a bundle on a runtime, then asks the doctor, with no model to run.
ASK = """
import json, sys
from ctedge import CTEdgeError, Classifier, diagnosis
diagnosis.shipped_bundles = lambda: ()
folder, runtime = sys.argv[1:]
try:
    said = {"type": None, "loaded": Classifier.load(folder, runtime=runtime).runtime}
except CTEdgeError as error:
    said = error.as_dict()
print(json.dumps([said, [one.to_json() for one in diagnosis.examine()]]))
"""

#: Whoever imports it is heard of.
MODULE = "import os; os.write(2, b'imported'); raise SystemExit(7)\n"


def distribution(folder: Path, name: str, version: str) -> Path:
    """A package of that name and version, found before all others."""
    known = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / f"{name.replace('-', '_').removesuffix('_cu13')}.py").write_text(MODULE)
    return folder


def told(folder: Path, bundle: Path, runtime: str) -> tuple[dict, dict[str, dict], str]:
    """What loading and the doctor say in a process that finds this folder first."""
    answer = subprocess.run(
        [sys.executable, "-c", ASK, bundle, runtime],
        env={**os.environ, "PYTHONPATH": str(folder), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    loaded, findings = json.loads(answer.stdout)
    return loaded, {one["subject"]: one for one in findings}, answer.stderr


@pytest.mark.parametrize(
    ("runtime", "name", "version"),
    [
        ("onnxruntime", "onnxruntime", "1.10.0"),
        ("onnxruntime", "onnxruntime", "2.0.1"),
        ("openvino", "openvino", "2022.3.1"),
        ("openvino", "openvino", "2031.0.0"),
        ("tensorrt", "tensorrt", "8.4.3.1"),
        ("tensorrt", "tensorrt", "12.0.0.9"),
        ("tensorrt-rtx", "tensorrt-rtx-cu13", "2.1"),
    ],
)
def test_another_major_version_is_refused_by_name(tmp_path, runtime, name, version):
    bundle = write_tiny(tmp_path / "tiny.ctedge").path
    folder = tmp_path / "packages"
    folder.mkdir()
    loaded, findings, noise = told(distribution(folder, name, version), bundle, runtime)
    oldest, below = VERSIONS[name]
    line = f'pip install "{name}>={oldest},<{below}"'
    assert loaded["type"] == "RuntimeUnavailable", loaded
    assert loaded["found"].splitlines()[0].startswith(f"{name} {version}") or version in str(loaded)
    assert loaded["expected"] == f"{oldest} or newer, below {below}"
    assert loaded["fix"] == line
    subject = findings[name if name in findings else runtime]
    assert subject["state"] == "broken"
    assert version in subject["detail"]
    assert oldest in subject["detail"]
    assert subject["fix"] == line
    assert "imported" not in noise


def test_the_versions_are_those_of_the_extras():
    text = (REPOSITORY / "pyproject.toml").read_text()
    older = {"tensorrt": "10.3"}  # wheels before it are for an old Python alone
    for name, (oldest, below) in VERSIONS.items():
        asked = set(re.findall(rf'"{name}(?:\[[\w,]+\])?>=([\d.]+),<([\d.]+)', text))
        assert asked == {(older.get(name, oldest), below)}, name


@pytest.mark.parametrize(
    ("version", "fits"),
    [
        ("1.23", True),
        ("1.23.0", True),
        ("1.24.0.dev20260101+cu12", True),
        ("1.9.9", False),
        ("1.100.2", True),
        ("2", False),
        ("2.0.0rc1", False),
        ("unknown", False),
    ],
)
def test_versions_are_compared_as_numbers(monkeypatch, version, fits):
    monkeypatch.setattr("ctedge.runtimes.versions.version_of", lambda name: version)
    assert (misfit("onnxruntime") is None) is fits


def test_what_is_installed_here_fits():
    for names in DISTRIBUTIONS.values():
        assert [name for name in names if misfit(name)] == []
    assert misfit("numpy") is None
