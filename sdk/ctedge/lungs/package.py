"""Finding the lungs with the package `lungmask` itself, which runs the U-Net R231 in torch.

Source: Hofmanninger et al., "Automatic lung segmentation in routine imaging is primarily a data
diversity problem, not a methodology problem", European Radiology Experimental 4, 50, 2020;
github.com/JoHof/lungmask.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ctedge.errors import BundleNotFound, InferenceFailed, InvalidBundle
from ctedge.extras import require
from ctedge.lungs.mask import LungMask
from ctedge.lungs.network import mask_of
from ctedge.lungs.slices import oriented
from ctedge.scan import CTScan

#: The weights as their authors publish them, and as torch keeps what was downloaded.
WEIGHTS_FILE = "unet_r231-d5d2fc3d.pth"
WEIGHTS_URL = f"https://github.com/JoHof/lungmask/releases/download/v0.0/{WEIGHTS_FILE}"

_EXTRA = "lungmask"
_PURPOSE = "finding the lungs with lungmask"


def segment_with_lungmask(
    scan: CTScan, *, weights: str | os.PathLike[str] | None = None
) -> LungMask:
    """Find both lungs with the installed package `lungmask`; on a GPU where its torch finds one.

    Nothing is downloaded. `LungSegmenter` gives the same answer without torch.

    Args:
        scan: HU in LAS order, of any number of slices.
        weights: the file of the weights; None takes R231 where torch keeps downloaded files.

    Returns:
        The lungs in the scan's own voxels.

    Raises:
        MissingExtra: `lungmask` is not installed.
        BundleNotFound: the weights are not there; says where they belong.
        InvalidBundle: the file holds no weights of that network.
        InferenceFailed: `lungmask` fails.
        NoLungs: the network finds no lung in the scan.
        UnreadableScan, CodecUnavailable: a slice cannot be read or decoded.
    """
    inferer = _inferer(weights)
    hu = np.stack([oriented(plane) for plane in scan.planes.each(range(scan.shape[2]))])
    try:
        found = np.asarray(inferer.apply(hu), dtype=np.uint8)
    except Exception as error:  # torch, scikit-image and SimpleITK raise their own kinds
        raise InferenceFailed(
            f"{scan.source}: lungmask failed", found=error, fix="report the scan to its authors"
        ) from error
    labels = np.ascontiguousarray(found.transpose(2, 1, 0)[:, ::-1])
    return mask_of(scan, labels)


def _inferer(weights: str | os.PathLike[str] | None) -> Any:
    with warnings.catch_warnings():  # lungmask turns the process's user warnings off
        warnings.simplefilter("ignore")
        package = require("lungmask", extra=_EXTRA, purpose=_PURPOSE)
        torch = require("torch", extra=_EXTRA, purpose=_PURPOSE)
        path = _weights(weights, torch)
        try:
            # lungmask loads without saying that tensors are all it wants; torch has to refuse here.
            torch.load(path, map_location="cpu", weights_only=True)
            return package.LMInferer(modelpath=os.fspath(path), tqdm_disable=True)
        except Exception as error:  # torch raises RuntimeError, UnpicklingError and others
            raise InvalidBundle(
                f"{path} holds no weights that lungmask can use",
                found=str(error).partition("\n")[0][:300],
                expected="a state dict of its U-Net, tensors alone",
                fix=f"fetch the file again: {WEIGHTS_URL}",
            ) from error


def _weights(weights: str | os.PathLike[str] | None, torch: ModuleType) -> Path:
    """The file to load; never a download."""
    path = Path(torch.hub.get_dir(), "checkpoints", WEIGHTS_FILE) if weights is None else weights
    if not Path(path).is_file():
        raise BundleNotFound(
            f"the weights of lungmask are not at {path}",
            expected="a file of weights; ctedge downloads none",
            fix=f"fetch {WEIGHTS_URL} on a machine with network, and put it there or name"
            " its place with weights=PATH",
        )
    return Path(path)
