"""What an HDF5 file of volumes must be, and what is raised where it is not."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import CTEdgeError, DatasetError, InvalidBundle, counted
from ctedge.extras import require
from ctedge.spec import PreprocessSpec
from ctedge_training.datasets.table import has_control

#: A quarter of a million studies; no file of ours has more, and a few bytes can promise more.
MOST_ROWS = 1 << 18

#: Numbers in a chunk of anything but volumes; h5py's own guess has far fewer.
_MOST_IN_CHUNK = 1 << 20

_WRITE_AGAIN = "copy the file again from its source, or write it again from the studies"


def broken(
    path: Path | str,
    what: str,
    *,
    found: object = None,
    expected: object = None,
    fix: str = _WRITE_AGAIN,
) -> DatasetError:
    """What to raise for a file that cannot be trusted."""
    return DatasetError(f"{path}: {what}", found=found, expected=expected, fix=fix)


def unequal(path: Path, **counts: object) -> DatasetError:
    """What to raise where there are not as many of one thing as of another."""
    return broken(
        path,
        "unequal numbers of rows",
        found=", ".join(f"{count} {name}" for name, count in counts.items()),
        expected="as many of each",
    )


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The open h5py.File; what HDF5 stumbles over while it is read becomes a DatasetError."""
    h5py = require("h5py", extra="training", purpose="reading an HDF5 file")
    if not path.is_file():
        raise DatasetError(
            "no HDF5 file", found=f"nothing at {path}", fix="write it first, or correct the path"
        )
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CTEdgeError:
        raise
    except Exception as error:  # h5py raises many kinds on files that are cut off or damaged
        raise broken(path, "not a whole HDF5 file", found=error) from error


def dataset(file: Any, name: str, path: Path) -> Any:
    """The dataset of that name, its values inside this very file.

    Raises:
        DatasetError: missing, a group, a link to somewhere else, or stored outside of the file.
    """
    h5py = require("h5py", extra="training", purpose="reading an HDF5 file")
    link = file.get(name, getlink=True)
    if link is None:
        raise broken(path, f"no dataset /{name}", found=", ".join(sorted(file)) or "nothing")
    if not isinstance(link, h5py.HardLink):
        raise broken(path, f"/{name} is only a link", found=type(link).__name__)
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise broken(path, f"/{name} is no dataset", found=type(found).__name__)
    if found.external or found.is_virtual:
        raise broken(path, f"the values of /{name} lie in other files")
    return found


def refuse_integers(images: Any, path: Path) -> None:
    """Refuse the files of the study itself, whose volumes are not what its networks should see."""
    if images.dtype.kind in "iu":
        raise broken(
            path,
            "/images are integers, as in the files of the original study",
            found=f"{images.dtype}: HU outside any window, and one lung of doubled HU, since the "
            "mask's label 2 was multiplied in",
            expected="float16, windowed to 0..1, both lungs alike",
            fix="write the file again from the DICOM studies and their lung masks",
        )


def layout(found: Any, dtype: np.dtype[Any], shape: tuple[int, ...], where: str) -> None:
    """Type and dimensions of a dataset, in either byte order."""
    same_type = (found.dtype.kind, found.dtype.itemsize) == (dtype.kind, dtype.itemsize)
    if not same_type or found.shape != shape:
        raise DatasetError(
            f"{where} has another type or shape",
            found=f"{found.dtype} {found.shape}",
            expected=f"{dtype} {shape}",
            fix=_WRITE_AGAIN,
        )


def size(found: Any, count: int, volume_size: int, where: str) -> None:
    """Refuse what would fill the memory before its values are looked at.

    Args:
        found: a dataset.
        count: rows of the file.
        volume_size: voxels of one volume.
        where: what to call it.
    """
    chunk = math.prod(found.chunks or (1,))
    most = max(volume_size, _MOST_IN_CHUNK)
    if count > MOST_ROWS or chunk > most:
        raise DatasetError(
            f"{where} is larger than such a file is",
            found=f"{counted(count, 'row')}, {counted(chunk, 'number')} a chunk",
            expected=f"at most {MOST_ROWS} rows, {most} numbers a chunk",
            fix=_WRITE_AGAIN,
        )


def texts(names: Any, path: Path) -> tuple[str, ...]:
    """The values of a dataset of UTF-8 texts."""
    h5py = require("h5py", extra="training", purpose="reading an HDF5 file")
    if names.ndim != 1 or h5py.check_string_dtype(names.dtype) is None:
        raise broken(
            path, "/names are no texts", found=f"{names.dtype} {names.shape}", expected="(n,) text"
        )
    return tuple(bytes(name).decode("utf-8") for name in names[()])


def text_attribute(file: Any, name: str, path: Path) -> str:
    """An attribute that is a text."""
    value = file.attrs.get(name)
    if not isinstance(value, str):
        raise broken(path, f"no attribute {name}", found=value, expected="a text")
    return value


def contract(
    file: Any, path: Path, *, schema_version: int, expected: PreprocessSpec | None
) -> PreprocessSpec:
    """The spec that the volumes were made by."""
    version = file.attrs.get("schema_version")
    if not isinstance(version, (int, np.integer)) or version != schema_version:
        raise broken(
            path,
            "an unknown schema",
            found=version,
            expected=schema_version,
            fix="write the file again with this version, or update ctedge",
        )
    text = text_attribute(file, "spec", path)
    try:
        spec = PreprocessSpec.from_json(json.loads(text))
    except (ValueError, RecursionError, InvalidBundle) as error:
        raise broken(path, "the preprocessing spec is broken", found=error) from error
    if expected is not None and spec != expected:
        raise broken(
            path,
            "volumes of another preprocessing",
            found=spec.to_json(),
            expected=expected.to_json(),
            fix="write the file again with the spec that is wanted",
        )
    return spec


def answers(
    path: Path, *, names: Sequence[str], labels: npt.NDArray[Any], scores: npt.NDArray[Any]
) -> None:
    """As many labels and scores as names, each name once, all in range."""
    if not (len(names),) == labels.shape == scores.shape:
        raise unequal(path, names=len(names), labels=labels.size, scores=scores.size)
    if not names:
        raise broken(path, "no rows", fix="write at least one study")
    if len(set(names)) != len(names) or not all(names):
        raise broken(path, "a name is empty or stands twice", expected="every study once")
    strange = [name for name in names if has_control(name)]
    if strange:
        raise broken(path, "a control character in a name", found=ascii(strange[0])[:200])
    for row in np.flatnonzero((labels != 0) & (labels != 1))[:1]:
        raise broken(path, f"the label of {names[row]}", found=labels[row], expected="0 or 1")
    for row in np.flatnonzero(~((scores >= 0) & (scores <= 100)))[:1]:
        raise broken(path, f"the score of {names[row]}", found=scores[row], expected="0 to 100")


def volume(values: npt.NDArray[Any], shape: tuple[int, int, int], where: str) -> None:
    """One volume: its shape, and values of 0..1 (a NaN is neither)."""
    if values.shape != shape or values.dtype.kind != "f":
        raise DatasetError(
            f"{where} has another type or shape",
            found=f"{values.dtype} {values.shape}",
            expected=f"floats {shape}",
            fix="preprocess the scan by the spec of the file",
        )
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):
        raise DatasetError(
            f"{where} has values outside 0..1",
            found=f"{low:g} to {high:g}",
            expected="finite values from 0 to 1",
            fix="preprocess the scan by the spec of the file",
        )
