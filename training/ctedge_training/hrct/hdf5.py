"""The study's training and validation files: volumes and their answers in one HDF5 file.

    /images  (n, *spec.shape) float16, 0..1, a chunk a volume, gzip
    /labels  (n,) uint8, 0 normal, 1 COVID
    /scores  (n,) float32, 0-100 points
    /names   (n,) UTF-8 text
    attributes: schema_version, spec (JSON), images_sha256

Source: Kavin Raj et al., "GPU enabled CNN based COVID-19 HRCT images classifier", PSG College of
Technology, 2020, appendix: the datasets and their names. The study stored HU as integers, scores
in whole points, and one lung doubled by the label 2 of its mask; here volumes are preprocessed.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.extras import require
from ctedge.files import atomic_file
from ctedge.spec import PreprocessSpec
from ctedge_training.hrct import hdf5_checks as checks

SCHEMA_VERSION = 1

#: Volumes hold little but noise inside the lungs: more effort saves no space worth its time.
_GZIP_LEVEL = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Hdf5Volumes:
    """A checked file; volumes are read one at a time, when they are asked for.

    Attributes:
        path: the file.
        spec: the contract that the volumes were made by.
        names: of the studies, in the order of the rows.
        labels: (n,) uint8, 0 normal, 1 COVID.
        scores: (n,) float32, 0-100 points.
        images_sha256: digest of the volumes.
    """

    path: Path
    spec: PreprocessSpec
    names: tuple[str, ...]
    labels: npt.NDArray[np.uint8]
    scores: npt.NDArray[np.float32]
    images_sha256: str

    def __len__(self) -> int:
        return len(self.names)

    def load(self, row: int) -> npt.NDArray[np.float32]:
        """The volume of a row as float32, `spec.shape`, 0..1.

        Raises:
            IndexError: no such row.
            DatasetError: the file has changed since it was checked.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        with checks.opened(self.path) as file:
            images = checks.dataset(file, "images", self.path)
            if images.shape != (len(self), *self.spec.shape) or images.dtype.kind != "f":
                raise checks.broken(self.path, "the file has changed since it was checked")
            volume: npt.NDArray[np.float32] = images[row].astype(np.float32)
        return volume


def write_hdf5(  # noqa: PLR0913 - one keyword a dataset of the file
    path: Path,
    volumes: Iterable[npt.NDArray[np.floating[Any]]],
    labels: Sequence[int],
    scores: Sequence[float],
    *,
    spec: PreprocessSpec,
    names: Sequence[str],
) -> Path:
    """Write preprocessed volumes and their answers, whole or not at all.

    The same input gives the same bytes with the same version of h5py.

    Args:
        path: the file to write.
        volumes: `spec.shape` each, 0..1; read one at a time, stored as float16.
        labels: 0 normal, 1 COVID.
        scores: 0-100 points.
        spec: the contract that the volumes were made by.
        names: of the studies, each once.

    Raises:
        DatasetError: a value out of range, a volume of another shape, unequal numbers, or
            nothing to write.
        OutputError: it cannot be written.
        MissingExtra: h5py is not installed.
    """
    h5py = require("h5py", extra="training", purpose="writing an HDF5 file")
    checks.answers(
        path, names=list(names), labels=np.asarray(labels), scores=np.asarray(scores, np.float64)
    )
    count = len(names)
    digest = hashlib.sha256()
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        images = file.create_dataset(
            "images",
            (count, *spec.shape),
            dtype="<f2",
            chunks=(1, *spec.shape),
            compression="gzip",
            compression_opts=_GZIP_LEVEL,
        )
        written = 0
        for volume in volumes:
            if written == count:
                raise checks.unequal(path, volumes=f"more than {count}", names=count)
            checks.volume(volume, spec.shape, f"{path}: volume {names[written]}")
            stored = np.ascontiguousarray(volume, "<f2")
            images[written] = stored
            digest.update(stored.data)
            written += 1
        if written < count:
            raise checks.unequal(path, volumes=written, names=count)
        file.create_dataset("labels", data=np.asarray(labels, np.uint8))
        file.create_dataset("scores", data=np.asarray(scores, "<f4"))
        file.create_dataset("names", data=list(names), dtype=h5py.string_dtype("utf-8"))
        file.attrs["schema_version"] = SCHEMA_VERSION
        file.attrs["spec"] = json.dumps(spec.to_json(), sort_keys=True)
        file.attrs["images_sha256"] = digest.hexdigest()
    return path


def read_hdf5(path: Path, *, spec: PreprocessSpec | None = None) -> Hdf5Volumes:
    """Check a file, every volume of it, and open it for reading row by row.

    Args:
        path: the file.
        spec: the contract that it has to have been made by; None takes the file's own.

    Raises:
        DatasetError: no such file; not HDF5, truncated or damaged; a dataset missing, or only a
            link; other dimensions, types or lengths; values out of range; another spec, schema
            or digest; or the study's own files of integer HU.
        MissingExtra: h5py is not installed.
    """
    with checks.opened(path) as file:
        images = checks.dataset(file, "images", path)
        checks.refuse_integers(images, path)
        labels, scores, names = (
            checks.dataset(file, name, path) for name in ("labels", "scores", "names")
        )
        its_spec = checks.contract(file, path, schema_version=SCHEMA_VERSION, expected=spec)
        count = int(names.shape[0]) if names.ndim == 1 else 0
        wanted: dict[str, tuple[Any, npt.DTypeLike, tuple[int, ...]]] = {
            "images": (images, np.float16, (count, *its_spec.shape)),
            "labels": (labels, np.uint8, (count,)),
            "scores": (scores, np.float32, (count,)),
        }
        for name, found in (("names", names), *((key, row[0]) for key, row in wanted.items())):
            checks.size(found, count, math.prod(its_spec.shape), f"{path}: /{name}")
        for name, (found, dtype, shape) in wanted.items():
            checks.layout(found, np.dtype(dtype), shape, f"{path}: /{name}")
        volumes = Hdf5Volumes(
            path=path,
            spec=its_spec,
            names=checks.texts(names, path),
            labels=labels[()],
            scores=scores[()].astype(np.float32, copy=False),
            images_sha256=checks.text_attribute(file, "images_sha256", path),
        )
        checks.answers(path, names=volumes.names, labels=volumes.labels, scores=volumes.scores)
        digest = hashlib.sha256()
        for row, name in enumerate(volumes.names):
            volume = images[row].astype("<f2", copy=False)
            checks.volume(volume, its_spec.shape, f"{path}: volume {name}")
            digest.update(np.ascontiguousarray(volume).data)
    if digest.hexdigest() != volumes.images_sha256:
        raise checks.broken(
            path,
            "the volumes are not those that were written",
            found=f"SHA-256 {digest.hexdigest()}",
            expected=volumes.images_sha256,
        )
    return volumes
