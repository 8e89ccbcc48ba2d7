"""Where the lungs lie in a chest CT, how large they are, and how much of them is dense.

    lungs = segment_lungs(scan)
    lungs.volume_ml                  # right, left, both
    affected_share(scan, lungs)      # ground glass and dense, of each lung
    preprocess(scan, spec, lung_mask=lungs.on(scan))

`segment_lungs` uses thresholds and shapes alone, `LungSegmenter` a network from a bundle: both need
scipy, from the extra `lungs`. `segment_with_lungmask` runs the package of the extra `lungmask`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctedge.lungs.mask import BySide, LungMask
    from ctedge.lungs.network import LungSegmenter
    from ctedge.lungs.package import segment_with_lungmask
    from ctedge.lungs.segment import segment_lungs
    from ctedge.lungs.shares import AffectedShare, affected_share

_HOME_OF = {
    "AffectedShare": "shares",
    "BySide": "mask",
    "LungMask": "mask",
    "LungSegmenter": "network",
    "affected_share": "shares",
    "segment_lungs": "segment",
    "segment_with_lungmask": "package",
}

__all__ = [
    "AffectedShare",
    "BySide",
    "LungMask",
    "LungSegmenter",
    "affected_share",
    "segment_lungs",
    "segment_with_lungmask",
]


def __getattr__(name: str) -> Any:
    """Import a name where it is first used: most predictions look for no lungs."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'ctedge.lungs' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ctedge.lungs.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
