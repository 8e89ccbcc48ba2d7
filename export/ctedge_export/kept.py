"""A failed model kept to be studied: `NAME.failed/`, a folder that no one can take for a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctedge.errors import GateFailed, OutputError
from ctedge.files import atomic_folder

GATE_NAME = "gate.json"


def keep(
    bundle: Path, name: str, onnx_bytes: bytes, record: Mapping[str, Any], error: GateFailed
) -> str:
    """Write the model and its figures beside where the bundle would stand; says where.

    Args:
        bundle: the bundle that was to be written, NAME.ctedge.
        name: of the ONNX file.
        onnx_bytes: its content.
        record: what the gates measured, plain JSON values.
        error: how they failed.
    """
    kept = bundle.with_name(f"{bundle.name.removesuffix('.ctedge')}.failed")
    text = json.dumps({**record, "error": error.as_dict()}, indent=2) + "\n"
    try:
        with atomic_folder(kept, replace=(kept / GATE_NAME).is_file()) as folder:
            (folder / name).write_bytes(onnx_bytes)
            (folder / GATE_NAME).write_text(text, "utf-8")
    except OutputError as problem:  # that the gate failed weighs more
        return f"gate failed, and the model could not be kept: {problem}"
    return f"gate failed: model and figures kept in {kept}"
