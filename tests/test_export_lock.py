"""The lock of a bundle: whatever its end meets, the next one gets it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ctedge_export.lock import written_by_one


def test_a_lock_that_cannot_be_removed_hides_no_error_and_is_let_go(tmp_path, monkeypatch):
    def denied(*_args, **_options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", denied)
        for _ in range(2):
            with (
                pytest.raises(ValueError, match="went wrong"),
                written_by_one(tmp_path / "x.ctedge"),
            ):
                raise ValueError("what really went wrong")
    with written_by_one(tmp_path / "x.ctedge"):
        pass
    assert not list(tmp_path.iterdir())
