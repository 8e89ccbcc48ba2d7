"""Result files of the benchmarks that pytest runs: in the form of all others, times summed up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge.bench.machine import BenchMachine

sys.path.insert(0, str(Path(__file__).resolve().parent))  # pytest imports by path

import result_file

PACKAGES = (
    *("scipy", "nibabel", "isal", "pydicom", "imagecodecs", "python-gdcm"),
    *("keras", "tensorflow-cpu", "pytest-benchmark"),
)

#: Of the scans below.
SEED = 0

_MACHINE = pytest.StashKey[BenchMachine]()
_READS_SCANS = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MACHINE] = BenchMachine.here()  # before anything runs


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    entries = output_json["benchmarks"]
    for entry in entries:
        entry["stats"] = {
            key: entry["stats"][key] for key in ("min", "median", "mean", "stddev", "max", "rounds")
        }
        entry["stats"]["cv"] = entry["stats"]["stddev"] / entry["stats"]["mean"]
        for noise in ("fullname", "param", "params", "group", "options"):
            entry.pop(noise, None)
    words = ["-m", "pytest", *config.invocation_params.args]
    document = result_file.formed(
        command=result_file.typed(words=words, reads_scans=config.stash.get(_READS_SCANS, False)),
        machine=config.stash[_MACHINE],
        packages=PACKAGES,
        body={"benchmarks": sorted(entries, key=lambda entry: str(entry["name"]))},
    )
    output_json.clear()
    output_json.update(document)


@pytest.fixture(autouse=True)
def _named_seed(request: pytest.FixtureRequest) -> None:
    """Each figure names the seed of what it was taken on: the module's, or that of our scans."""
    ours = {"large_scan", "mosmed_size_scan"} & set(request.fixturenames)
    seed = getattr(request.module, "SEED", SEED if ours else None)
    if seed is not None and "benchmark" in request.fixturenames:
        request.getfixturevalue("benchmark").extra_info["seed"] = seed


@pytest.fixture(scope="session")
def real_scans(request: pytest.FixtureRequest) -> Path:
    """The folder with real scans; the command that is recorded says that it was read."""
    folder = result_file.scans()
    if folder is None:
        pytest.skip(result_file.NO_SCANS)
    request.config.stash[_READS_SCANS] = True
    return folder


@pytest.fixture(scope="session")
def large_scan() -> np.ndarray:
    """(512, 512, 300) int16, first axis fastest, as nibabel presents a file of that size."""
    values = np.random.default_rng(SEED).integers(-1100, 1500, (300, 512, 512), np.int16)
    return values.transpose(2, 1, 0)


@pytest.fixture(scope="session")
def mosmed_size_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic patient as .nii.gz, 512 x 512 with 40 to 45 slices."""
    from ctedge.phantom import draw_patient, render, write_nifti

    path = tmp_path_factory.mktemp("scan") / "synthetic.nii.gz"
    write_nifti(render(draw_patient(SEED, lesion_share=0.2), shape=(512, 512, 41)), path)
    return path
