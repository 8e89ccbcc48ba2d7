"""One sample and its preprocessed input, as it lies on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ctedge.errors import DatasetError
from ctedge_training.datasets.labels import Sample
from ctedge_training.datasets.stored import mapped


@dataclass(frozen=True, kw_only=True)
class Volume:
    """One sample and its preprocessed input.

    Attributes:
        sample: the row of the label file.
        scan_sha256: digest of the scan's bytes (of a folder: of its files and their names).
        stored: the .npy file, float16, `spec.shape`, 0..1.
        stored_sha256: digest of that file.
        facts: what is known of the scan: spacing_mm, shape, and the further columns of its row.
    """

    sample: Sample
    scan_sha256: str
    stored: Path
    stored_sha256: str
    facts: Mapping[str, Any]

    def load(self) -> npt.NDArray[np.float32]:
        """The input as float32, `spec.shape`, 0..1.

        Raises:
            DatasetError: the file is gone, or was changed.
        """
        return load(self.stored)


def load(stored: Path) -> npt.NDArray[np.float32]:
    """One stored input as float32, read by memory map.

    Raises:
        DatasetError: the file is gone, or was changed.
    """
    try:
        volume = mapped(stored)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(
            f"{stored}: a stored volume is missing or damaged",
            found=error,
            fix="prepare the scans again; what is whole is kept",
        ) from error
    values: npt.NDArray[np.float32] = volume.astype(np.float32)
    return values
