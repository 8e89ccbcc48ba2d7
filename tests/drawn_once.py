"""What gates draw of phantoms takes seconds a network: drawn once in a session of any workers.

Whoever asks first draws, with the functions themselves; the others read what was drawn.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ctedge.phantom import Patient, Phantom
from ctedge.spec import Spec
from ctedge_export.gates import cases, inputs
from ctedge_export.gates.cases import Case
from ctedge_export.gates.inputs import GateInput
from made_once import made_in

KEYS = ("names", "levels", "positive", "score")
PHANTOM_KEYS = ("voxels", "affine", "lung_mask", "lesion_mask")


def share_drawings(folder: Path) -> None:
    """Called before any module takes the functions from those that hold them."""
    inputs.render = _rendered_once(folder, inputs.render)  # networks of one size show the same
    inputs.gate_inputs = _shared(folder, inputs.gate_inputs)
    inputs.gate_twins = _shared(folder, inputs.gate_twins, pairs=True)
    cases.gate_phantoms = _shared(folder, cases.gate_phantoms)
    cases.calibration_phantoms = _shared(folder, cases.calibration_phantoms)


def _shared(
    folder: Path, draw: Callable[[Spec], Any], *, pairs: bool = False
) -> Callable[[Spec], Any]:
    @functools.cache
    @functools.wraps(draw)
    def drawn(spec: Spec) -> Any:
        digest = hashlib.sha256(repr(spec).encode()).hexdigest()
        name = f"{draw.__name__}-{digest[:16]}.npz"

        def write(path: Path) -> None:
            found = draw(spec)
            _write(path, tuple(one for pair in found for one in pair) if pairs else found)

        read = _read(made_in(folder, name, write), spec)
        return tuple(zip(read[::2], read[1::2], strict=True)) if pairs else read

    return drawn


def _rendered_once(folder: Path, render: Callable[..., Phantom]) -> Callable[..., Phantom]:
    @functools.wraps(render)
    def rendered(patient: Patient, *, shape: tuple[int, int, int]) -> Phantom:
        digest = hashlib.sha256(repr((patient, shape)).encode()).hexdigest()

        def write(path: Path) -> None:
            phantom = render(patient, shape=shape)
            with path.open("wb") as file:
                np.savez(file, **{key: getattr(phantom, key) for key in PHANTOM_KEYS})

        with np.load(made_in(folder, f"phantom-{digest[:16]}.npz", write)) as file:
            return Phantom(patient=patient, **{key: file[key] for key in PHANTOM_KEYS})

    return rendered


def _write(path: Path, drawn: tuple[GateInput | Case, ...]) -> None:
    shown = [one.shown if isinstance(one, Case) else one for one in drawn]
    arrays = {"names": [one.name for one in shown], "levels": [one.levels for one in shown]}
    found = [one for one in drawn if isinstance(one, Case)]
    arrays["positive"] = [one.positive for one in found]
    arrays["score"] = [one.score for one in found]
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _read(path: Path, spec: Spec) -> tuple[GateInput | Case, ...]:
    with np.load(path) as file:
        names, levels, positive, score = (file[key] for key in KEYS)
    levels.flags.writeable = False
    shown = tuple(
        GateInput(name=name, levels=one, spec=spec)
        for name, one in zip(names.tolist(), levels, strict=True)
    )
    if not len(positive):
        return shown
    return tuple(
        Case(shown=one, positive=sick, score=share)
        for one, sick, share in zip(shown, positive.tolist(), score.tolist(), strict=True)
    )
