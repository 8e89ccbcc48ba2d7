"""Everything that is needed to go on after an interruption, in one file that is whole or absent.

A NumPy archive without pickle: the network's variables (dropout's random state among them), the
optimizer's, the best weights so far, and the progress as JSON.
"""

from __future__ import annotations

import contextlib
import json
import struct
import zlib
from collections.abc import Iterator
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

#: What zip, NumPy and Keras stumble over in a file that is damaged, or is something else.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RecursionError,
    BadZipFile,
    struct.error,
    zlib.error,
)


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
        OutputError: no checkpoint, a damaged one, or not one of ours.
    """
    with _opened(path) as archive:
        document = json.loads(archive["progress"].tobytes())
        return Progress(**document, best_weights=_gather(archive, "best"))


def restore(path: Path, network: keras.Model) -> None:
    """Give a compiled network with a built optimizer the state of a checkpoint.

    Raises:
        OutputError: as `load_progress` does; or it holds another network.
    """
    with _opened(path) as archive:
        for name, variables in (
            ("model", _model_variables(network)),
            ("optimizer", network.optimizer.variables),
        ):
            for variable, array in zip(variables, _gather(archive, name), strict=True):
                variable.assign(array)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The archive; damage shows only where it is read, so all of the block is watched."""
    if not path.is_file():
        raise OutputError(
            f"{path.parent}: nothing to resume",
            found=f"no {path.name}",
            expected="the checkpoint of an interrupted training",
            fix="leave out --resume, or name the folder of the interrupted training",
        )
    try:
        # Opened here, because NumPy leaves a file open that is no whole archive.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            yield archive
    except _DAMAGE as error:
        raise OutputError(
            f"{path.parent}: nothing to resume",
            found=f"a damaged {path.name} ({type(error).__name__}: {str(error)[:200]})",
            expected="the checkpoint of an interrupted training",
            fix="copy it again from where it is whole, or train anew into another folder",
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
