"""Everything that is needed to go on after an interruption, in one file that is whole or absent.

A NumPy archive without pickle: the network's variables (dropout's random state among them), the
optimizer's, the best weights so far, and the progress as JSON.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ctedge.errors import OutputError
from ctedge.files import atomic_file

if TYPE_CHECKING:
    import keras

Arrays = list[npt.NDArray[np.generic]]


@dataclass(kw_only=True)
class Progress:
    """How far a training has come.

    Attributes:
        identity: settings, spec and data; a resumed run must have the same.
        history: one row per finished epoch.
        best_epoch: the epoch of the lowest validation loss, from 1; 0 before the first.
        best_weights: the network's weights at that epoch.
    """

    identity: dict[str, Any]
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: Arrays = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def best_loss(self) -> float:
        """The lowest validation loss, infinite before the first epoch."""
        return self.history[self.best_epoch - 1]["val_loss"] if self.best_epoch else float("inf")


def save_checkpoint(path: Path, network: keras.Model, progress: Progress) -> None:
    """Write the state after an epoch.

    Raises:
        OutputError: the disk is full; the checkpoint before stays as it was.
    """
    document = {key: value for key, value in asdict(progress).items() if key != "best_weights"}
    arrays: dict[str, npt.NDArray[Any]] = {
        "progress": np.frombuffer(json.dumps(document).encode(), dtype=np.uint8)
    }
    arrays |= _numbered("model", [_to_numpy(v) for v in _model_variables(network)])
    arrays |= _numbered("optimizer", [_to_numpy(v) for v in network.optimizer.variables])
    arrays |= _numbered("best", progress.best_weights)
    with atomic_file(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def load_progress(path: Path) -> Progress:
    """How far a checkpoint has come.

    Raises:
        OutputError: no checkpoint, or not one of ours.
    """
    with _open(path) as archive:
        document = json.loads(archive["progress"].tobytes())
        return Progress(**document, best_weights=_gather(archive, "best"))


def restore(path: Path, network: keras.Model) -> None:
    """Give a compiled network with a built optimizer the state of a checkpoint."""
    with _open(path) as archive:
        for name, variables in (
            ("model", _model_variables(network)),
            ("optimizer", network.optimizer.variables),
        ):
            for variable, array in zip(variables, _gather(archive, name), strict=True):
                variable.assign(array)


def _open(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise OutputError(
            f"{path.parent}: nothing to resume",
            found=f"no readable {path.name}",
            expected="the checkpoint of an interrupted training",
            fix="leave out --resume, or name the folder of the interrupted training",
        ) from error


def _gather(archive: Any, name: str) -> Arrays:
    return [archive[key] for key in sorted(archive.files) if key.startswith(f"{name}_")]


def _numbered(name: str, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    return {f"{name}_{number:04d}": array for number, array in enumerate(arrays)}


def _model_variables(network: keras.Model) -> list[Any]:
    """Weights and random states, without the running means of the loss."""
    passing = {id(variable) for variable in network.metrics_variables}
    return [variable for variable in network.variables if id(variable) not in passing]


def _to_numpy(variable: Any) -> npt.NDArray[np.generic]:
    import keras

    array: npt.NDArray[np.generic] = np.array(keras.ops.convert_to_numpy(variable))
    return array
