"""Lint, format and types are held by the suite, so that they cannot drift."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conftest import REPOSITORY
from patience import PATIENCE_S

pytest.importorskip("ruff", exc_type=ImportError)
pytest.importorskip("mypy", exc_type=ImportError)


@pytest.mark.parametrize(
    "command", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join
)
def test_the_tree_is_clean(command):
    answer = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
