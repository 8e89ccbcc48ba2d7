"""The command `ctedge` in a process of its own, as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys

from patience import PATIENCE_S

CTEDGE = [sys.executable, "-m", "ctedge"]


def run(*arguments, **options):
    environment = os.environ | {"COLUMNS": "120", "NO_COLOR": "1"}
    return subprocess.run(
        [*CTEDGE, *map(str, arguments)],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        check=False,
        timeout=PATIENCE_S,
        **options,
    )
