"""A network that waits in its first run until it may go on, so that a test can act meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ctedge.doors.door import Door
from patience import PATIENCE_S


def held_up(
    door: Door[Any], monkeypatch: pytest.MonkeyPatch
) -> tuple[threading.Event, threading.Event]:
    """Hold up a door's network: (it has begun, it may go on)."""
    begun, go, run = threading.Event(), threading.Event(), door._runtime.run

    def slow(*args: Any, **named: Any) -> Any:
        begun.set()
        assert go.wait(PATIENCE_S)
        return run(*args, **named)

    monkeypatch.setattr(door._runtime, "run", slow)
    return begun, go
