"""Where a report may be written: into a folder of its own, or in the place of an earlier report."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from ctedge.errors import OutputError
from ctedge_training.judging.gradcam import SHEET_FILE
from ctedge_training.judging.page import HEADLINE
from ctedge_training.judging.report import DOCUMENT_FILE, PAGE_FILE
from ctedge_training.judging.rows import PREDICTIONS_FILE
from ctedge_training.run import entries

_FILES = {DOCUMENT_FILE, PAGE_FILE, PREDICTIONS_FILE, SHEET_FILE}

#: So many names of what is in the way are told.
_NAMES = 3


def holds_report(folder: Path) -> bool:
    """Whether an earlier report is to be replaced; False where there is room for a first one.

    Raises:
        OutputError: no folder, or one that holds anything else.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise OutputError(
            f"{folder} is no folder", expected="a folder for a report", fix="name another one"
        )
    found = entries(folder)
    if not found:
        return False
    others = [name for name in found if name not in _FILES or not (folder / name).is_file()]
    if others or not _is_report(folder / DOCUMENT_FILE):
        named = others or found
        more = f" and {len(named) - _NAMES} more" if len(named) > _NAMES else ""
        raise OutputError(
            f"{folder} already exists, and holds something else than a report",
            found=f"{', '.join(named[:_NAMES])}{more}",
            expected="a new folder, an empty one, or one with an earlier report alone",
            fix="name another folder",
        )
    return True


def require_writable(folder: Path) -> None:
    """Try a folder for a report, or the nearest above it that is there; nothing is left in it.

    Raises:
        OutputError: nothing can be written there.
    """
    place = folder.absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return
    except OSError as error:
        raise OutputError(
            f"cannot write {folder}",
            found=f"{place}: {error.strerror or error}",
            fix="name another folder; nothing was judged yet",
        ) from error


def _is_report(path: Path) -> bool:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("headline") == HEADLINE
