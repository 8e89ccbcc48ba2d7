"""Several devices: data parallel training through Keras, on two simulated CPU devices of JAX."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctedge.errors import RuntimeUnavailable
from patience import LONG_PATIENCE_S
from training_factory import write_noisy_scans

pytest.importorskip("keras")

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason="JAX is not installed"
)


# Commands one after another: Keras and JAX are imported once.
COMMANDS = """
import json, sys
from ctedge.cli import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["ctedge", *words]
    try:
        main()
    except SystemExit as ended:
        print("exit code", ended.code)
"""


def train_on_jax(devices: int, *commands: list[str]) -> str:
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    finished = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=LONG_PATIENCE_S,
    )
    return finished.stdout + finished.stderr


def words(data: Path, out: Path, *more: str) -> list[str]:
    return [
        *("train", "classifier", str(data), "-o", str(out)),
        *("--preset", "published", "--grid", "46x46x46", "--epochs", "1", "--batch-size", "2"),
        *("--workers", "1", "--feeders", "0", "--full-precision", "--seed", "4", *more),
    ]


@needs_jax
def test_two_devices_learn_what_one_learns(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_noisy_scans(data, ["train"] * 4 + ["validation"] * 2)
    said = train_on_jax(1, words(data, tmp_path / "none", "--data-parallel"))
    assert "nothing to distribute over" in said
    assert said.count("exit code 1") == 1
    # Without the option one of the two is used; with it both are, until the process ends.
    parallel = words(data, tmp_path / "two", "--data-parallel")
    said = train_on_jax(2, words(data, tmp_path / "one"), parallel)
    assert (tmp_path / "two" / "model.json").is_file(), said
    rows = [
        [float(n) for n in line.split(",")[3:]]
        for name in ("one", "two")
        for line in (tmp_path / name / "history.csv").read_text().splitlines()[1:]
    ]
    # The same batches; sums in another order, and dropout drawn for the whole batch.
    assert rows[0] == pytest.approx(rows[1], abs=2e-3)
    document = json.loads((tmp_path / "two" / "model.json").read_text())
    assert document["training"]["data_parallel"] is True
    assert document["versions"]["backend"] == "jax"


def test_another_backend_says_what_it_takes() -> None:
    import keras

    from ctedge_training.backend import distribute

    if keras.config.backend() == "jax":
        pytest.skip("this is the backend it takes")
    with pytest.raises(RuntimeUnavailable, match="JAX backend"):
        distribute()
