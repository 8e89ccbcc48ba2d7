"""What the tests share: the real scans, small arrays, what is drawn once, Ctrl-C, their order."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crashes import Crashes
from drawn_once import share_drawings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # of tests that import ONNX Runtime themselves

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_DATA = REPOSITORY.parent / "shared" / "data"

#: Files whose tests train, export or measure, some for a minute, and share what is made once.
LONG = tuple(
    f"test_{part}"
    for part in ("examples_keras", "export_", "latency_", "legacy_", "slices_export", "training_")
)

# A shell that starts the tests in its background has them ignore Ctrl-C, which some of them press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """A test that leaves Ctrl-C to the system would have a later one's end the whole run."""
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    status = Path("/proc/self/status")
    if status.exists():  # a native library may have changed it behind Python's back
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        assert int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1


@pytest.hookimpl(trylast=True)  # behind pytest's own report of crashes
def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # whose environment is this process's
        folder = tempfile.TemporaryDirectory(prefix="ctedge-drawn-")
        config.add_cleanup(folder.cleanup)
        os.environ["CTEDGE_TEST_DRAWN"] = folder.name
    shared = Path(os.environ["CTEDGE_TEST_DRAWN"])
    share_drawings(shared)
    config.pluginmanager.register(Crashes(shared))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        # In one worker, and first: so that none waits for another's last test, or for what another
        # is making. Within the two parts the order stays random.
        items.sort(key=lambda item: not item.path.name.startswith(LONG))
    folder = Path(os.environ.get("CTEDGE_TEST_DATA", DEFAULT_DATA))
    if folder.is_dir():
        return
    reason = pytest.mark.skip(reason=f"no real scans at {folder}; set CTEDGE_TEST_DATA")
    for item in items:
        if item.get_closest_marker("realdata"):
            item.add_marker(reason)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real scans; tests that use it are marked `realdata`."""
    return Path(os.environ.get("CTEDGE_TEST_DATA", DEFAULT_DATA))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20201)


@pytest.fixture
def chest(rng: np.random.Generator) -> np.ndarray:
    """(40, 36, 20) int16 with the HU range of a chest, but no anatomy."""
    return rng.integers(-1024, 1500, (40, 36, 20)).astype(np.int16)


LAS_AFFINE = np.array(
    [[-0.7, 0, 0, 170.0], [0, 0.7, 0, -200.0], [0, 0, 5.0, -90.0], [0, 0, 0, 1]], np.float64
)


@pytest.fixture
def las_affine() -> np.ndarray:
    return LAS_AFFINE.copy()
