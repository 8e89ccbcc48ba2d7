"""A bare environment with the SDK and its CPU runtime: its size, and what importing costs there."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest
from result_file import REPOSITORY
from test_process import ALL_NAMES, IMPORT_BY_NUMPY

INSTALL_MB = 250

MODULES = """
import json, sys
before = set(sys.modules)
import ctedge
for name in ctedge.__all__: getattr(ctedge, name)
print(json.dumps(sorted({m.partition(".")[0] for m in set(sys.modules) - before})))
"""


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    lock = str(REPOSITORY / "constraints.txt")
    target = f"{REPOSITORY}[cpu]"
    subprocess.run([python, "-m", "pip", "install", "-q", "-c", lock, target], check=True)
    return python


def test_import_in_a_bare_environment(benchmark, bare_python):
    def run(source: str) -> float:
        start = time.perf_counter()
        subprocess.run([bare_python, "-c", source], check=True)
        return time.perf_counter() - start

    bare, numpy = (
        statistics.median(run(source) for _ in range(7)) for source in ("pass", "import numpy")
    )
    benchmark.pedantic(run, (ALL_NAMES,), rounds=7, warmup_rounds=1)
    added_ms = (benchmark.stats.stats.median - bare) * 1e3
    loaded = json.loads(subprocess.check_output([bare_python, "-c", MODULES]))
    packages = bare_python.parent.parent / "lib"
    pip_free = [
        file
        for file in packages.rglob("*")
        if file.is_file() and not {"pip", "setuptools"} & set(file.parts)
    ]
    size_mb = sum(file.stat().st_size for file in pip_free) / 1e6
    benchmark.extra_info |= {
        "beyond_a_bare_interpreter_ms": round(added_ms, 1),
        "third_party_modules": [m for m in loaded if m not in sys.stdlib_module_names],
        "install_mb": round(size_mb, 1),
    }
    assert benchmark.stats.stats.median <= IMPORT_BY_NUMPY * numpy
    assert size_mb <= INSTALL_MB
