"""A worker that crashes, or hangs, says at the very end where each of its threads stood.

pytest's own report of that goes to standard error, which stands far above what failed, or nowhere.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator
from pathlib import Path

import pytest


class Crashes:
    """A plugin of the run and of each worker; they share a folder, and a file a worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        self._file = None if worker is None else (folder / f"{worker}.crash").open("w")
        if self._file is not None:
            faulthandler.enable(self._file)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        if self._file is not None:  # in the place of pytest's own timer: there is one
            timeout_s = float(item.config.getini("faulthandler_timeout"))
            faulthandler.dump_traceback_later(timeout_s, exit=True, file=self._file)
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._file is not None:
            return
        for path in sorted(self._folder.glob("*.crash")):
            if said := path.read_text():
                terminalreporter.section(f"where {path.stem} crashed")
                terminalreporter.write_line(said)

    def pytest_unconfigure(self) -> None:
        if self._file is not None:
            faulthandler.disable()
            self._file.close()
