"""A checkpoint that Keras left in an HDF5 file: which of its three kinds, and what is in it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctedge.errors import InvalidBundle, WrongTask
from ctedge.spec import KERAS_EXAMPLE, SEVERITY_STUDY
from ctedge.strict_json import shorten
from ctedge_training.legacy import hdf5, layouts
from ctedge_training.legacy.config import parse_architecture
from ctedge_training.legacy.layers import Architecture, published
from ctedge_training.legacy.layouts import Weights
from ctedge_training.tasks import CLASSIFIER, SEVERITY, Task

#: The preprocessing that is assumed, by task; no file records it.
SPECS = {CLASSIFIER.name: KERAS_EXAMPLE, SEVERITY.name: SEVERITY_STUDY}

_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,32}", re.ASCII)


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """What was read from a file.

    Attributes:
        architecture: the network; for a file of weights alone, the published one.
        weights: for each layer that has some, float32.
        facts: what is known about the file, as plain JSON values.
    """

    architecture: Architecture
    weights: Weights
    facts: dict[str, Any]


def parse_checkpoint(data: bytes, path: Path, *, task: Task | None = None) -> Checkpoint:
    """Read and check a checkpoint; Keras is not involved.

    Args:
        data: the whole file.
        path: where it came from, for messages.
        task: what it must be for; None where the file itself tells.

    Raises:
        InvalidBundle: no such checkpoint, or a network that cannot be imported.
        WrongTask: the network ends in another activation than the task's.
    """
    if task is not None and task.name not in SPECS:
        raise WrongTask(
            "only a network for volumes can be imported",
            found=f"task {task.name}",
            expected=" or ".join(SPECS),
        )
    with hdf5.open_hdf5(data, str(path)) as root:
        facts: dict[str, Any] = {
            "file": plain_text(path.name),
            "sha256": hashlib.sha256(data).hexdigest(),
            "keras_version": _version(root, "keras_version"),
            "backend": _version(root, "backend"),
        }
        if hdf5.has_attribute(root, "model_config"):
            architecture = parse_architecture(hdf5.text_attribute(root, "model_config"))
            _check_task(path, architecture, task)
            weights, types = layouts.read_named(hdf5.subgroup(root, "model_weights"), architecture)
        else:
            read = _weights_reader(root, path)
            architecture = _published(path, task)
            weights, types = read(root, architecture)
    return Checkpoint(
        architecture=architecture,
        weights=weights,
        facts={**facts, "stored_as": ", ".join(sorted(types))},
    )


def _weights_reader(
    root: Any, path: Path
) -> Callable[[Any, Architecture], tuple[Weights, set[str]]]:
    if hdf5.has_attribute(root, "layer_names"):
        return layouts.read_in_order
    if hdf5.has_group(root, "layers"):
        return layouts.read_numbered
    raise InvalidBundle(
        f"{path} is an HDF5 file, but no checkpoint of Keras",
        found=f"members {shorten(hdf5.member_names(root))}",
        expected="the attribute model_config or layer_names, or the group layers",
        fix='save it with model.save("....h5") where it was trained',
    )


def _published(path: Path, task: Task | None) -> Architecture:
    if task is None:
        raise InvalidBundle(
            f"{path} holds weights alone, which do not tell what the network answers",
            fix="add --task classifier or --task severity",
        )
    return published(SPECS[task.name].shape, task.activation)


def _check_task(path: Path, architecture: Architecture, task: Task | None) -> None:
    if task is not None and task.activation != architecture.activation:
        raise WrongTask(
            f"{path} is no network for the task {task.name}",
            found=f"a last layer with activation {architecture.activation}",
            expected=f"activation {task.activation}",
            fix="leave out --task: the file tells what its network answers",
        )


def _version(root: Any, name: str) -> str | None:
    if not hdf5.has_attribute(root, name):
        return None
    text = hdf5.text_attribute(root, name)
    if not _VERSION.fullmatch(text):
        raise InvalidBundle(
            f"the checkpoint's {name} is no version",
            found=shorten(text),
            fix="import a file that Keras wrote by itself",
        )
    return text


def plain_text(text: str) -> str:
    """Text that JSON and a model card can hold: no line breaks, no lone surrogates."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())
