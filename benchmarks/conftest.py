"""What a result file says besides the times: the machine and the versions, and no host name."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctedge.cpus import usable_cpus
from ctedge.extras import version_of

PACKAGES = ("ctedge", "numpy", "scipy", "nibabel", "onnxruntime", "keras", "tensorflow-cpu")


def pytest_benchmark_update_machine_info(config: Any, machine_info: dict[str, Any]) -> None:
    kept = {"cpu": machine_info["cpu"]["brand_raw"], "cpus_usable": usable_cpus()}
    kept["system"] = f"{platform.system()} {platform.machine()}"
    kept["python"] = platform.python_version()
    kept["versions"] = {name: version_of(name) for name in PACKAGES}
    machine_info.clear()
    machine_info.update(kept)


def pytest_benchmark_update_json(
    config: Any, benchmarks: list[Any], output_json: dict[str, Any]
) -> None:
    output_json.pop("commit_info", None)
    for entry in output_json["benchmarks"]:
        entry["stats"] = {
            key: entry["stats"][key] for key in ("min", "median", "mean", "stddev", "max", "rounds")
        }
        for noise in ("fullname", "param", "params", "group", "options"):
            entry.pop(noise, None)


@pytest.fixture(scope="session")
def large_scan() -> np.ndarray:
    """(512, 512, 300) int16, first axis fastest, as nibabel presents a file of that size."""
    values = np.random.default_rng(0).integers(-1100, 1500, (300, 512, 512), np.int16)
    return values.transpose(2, 1, 0)


@pytest.fixture(scope="session")
def mosmed_size_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic patient as .nii.gz, 512 x 512 with 40 to 45 slices."""
    from ctedge.phantom import draw_patient, render, write_nifti

    path = tmp_path_factory.mktemp("scan") / "synthetic.nii.gz"
    write_nifti(render(draw_patient(0, lesion_share=0.2), shape=(512, 512, 41)), path)
    return path
